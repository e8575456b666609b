"""Safetensors files: whole or not at all, and readable by others."""

from pathlib import Path

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn.serialize import atomic_path, load_file, save_file

safetensors = pytest.importorskip("safetensors", reason="the models extra is not installed")


def test_round_trip(tmp_path: Path) -> None:
    tensors = {
        "a": ta.randn(2, 3),
        "b": ta.tensor(np.arange(4.0)),
        "strided": ta.randn(4, 4).array.T[::2],
        "empty": np.zeros((0, 2), np.float32),
        "step": np.asarray(7),
    }
    save_file(tensors, tmp_path / "new" / "w.safetensors", {"seed": "1"})
    arrays, metadata = load_file(tmp_path / "new" / "w.safetensors")
    assert metadata == {"seed": "1"}
    for name, value in tensors.items():
        expected = value.array if isinstance(value, ta.Tensor) else value
        assert (arrays[name].shape, arrays[name].dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(arrays[name], expected)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["w.safetensors"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


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
