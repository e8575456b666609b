"""Safetensors files: what was written comes back, any damage is found, and others can read them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn.serialize import load_file, save_file

safetensors = pytest.importorskip("safetensors", reason="the models extra is not installed")


def test_round_trip(tmp_path: Path) -> None:
    tensors = {
        "a": ta.randn(2, 3),
        "b": ta.tensor(np.arange(4.0)),
        "strided": ta.randn(4, 4).array.T[::2],
        "empty": np.zeros((0, 2), np.float32),
        "step": np.asarray(7),
    }
    save_file(tensors, tmp_path / "w.safetensors", {"seed": "1"})
    arrays, metadata = load_file(tmp_path / "w.safetensors")
    assert metadata == {"seed": "1"}
    for name, value in tensors.items():
        expected = value.array if isinstance(value, ta.Tensor) else value
        assert (arrays[name].shape, arrays[name].dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(arrays[name], expected)
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_damage_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": np.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"w\.safetensors is damaged"):
        load_file(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="damaged or not a safetensors file"):
        load_file(path)
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_file(tmp_path / "missing")


def flipped(content: bytes, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_every_bit_counts(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"b": np.arange(3, dtype=np.float32), "a": np.ones((2, 1))}, path, {"run": '{"seed": 1}'})
    content = path.read_bytes()
    found = 0
    for bit in range(8 * len(content)):
        path.write_bytes(flipped(content, bit))
        with pytest.raises(ValueError, match="is damaged or not a safetensors file"):
            load_file(path)
        found += 1
    assert found == 8 * len(content) > 2_000
    path.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match="is damaged"):
        load_file(path)


def test_a_file_without_a_checksum_is_read(tmp_path: Path) -> None:
    from safetensors.numpy import save_file as of_others

    of_others({"a": np.arange(4.0)}, tmp_path / "w.safetensors", {"seed": "1"})
    arrays, metadata = load_file(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(arrays["a"], np.arange(4.0))
    assert metadata == {"seed": "1"}


def test_others_read_what_we_write(tmp_path: Path) -> None:
    from safetensors.numpy import load_file as by_others

    metadata = {"z": "1", "한": '"sha256":"' + "0" * 64 + '"', "a": "\n"}
    save_file({"a": np.arange(4.0), "b": np.zeros((0, 3), np.float32)}, tmp_path / "w.safetensors", metadata)
    arrays = by_others(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(arrays["a"], np.arange(4.0))
    assert load_file(tmp_path / "w.safetensors")[1] == metadata
    with pytest.raises(ValueError, match="'sha256' is the checksum's"):
        save_file({}, tmp_path / "w.safetensors", {"sha256": "mine"})


@pytest.mark.slow
def test_equal_content_gives_equal_bytes_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\nfrom tinygrad_attn.serialize import save_file\n"
        "save_file({'a': np.arange(4.0)}, sys.argv[1], {f'entry {i}': str(i) for i in range(9)})"
    )
    paths = [tmp_path / f"{number}.safetensors" for number in range(2)]
    for path in paths:
        subprocess.run(
            [sys.executable, "-c", code, str(path)], check=True, env=os.environ | {"PYTHONHASHSEED": "random"}
        )
    assert paths[0].read_bytes() == paths[1].read_bytes()
    about = json.loads(paths[0].read_bytes()[8:].partition(b"}")[0] + b"}}")["__metadata__"]
    assert list(about) == sorted(about)


@pytest.mark.parametrize("beginning", [b"PK\x03\x04", b"\x80\x02", b"\x80\x05"])
def test_a_pickle_is_told_from_damage(tmp_path: Path, beginning: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(beginning + bytes(100))
    with pytest.raises(ValueError, match=r"model\.bin is a pickle, as torch\.save writes it, which may run any code"):
        load_file(tmp_path / "model.bin")
