"""Reads and writes safetensors files, with a checksum of every byte; a write that fails leaves the old file whole."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_attn.atomic import atomic_path
from tinygrad_attn.tensor import Tensor

__all__ = ["load_file", "save_file"]

# Two entries of the metadata: were the name of one damaged, the other would still ask for the check.
_KIND, _SUM = "checksum", "sha256"
_BLANK = b'"sha256":"%s"' % (b"0" * 64)
_SEAL = re.compile(rb'"sha256":"[0-9a-f]{64}"')
_PIECE = 1 << 24  # bytes


def save_file(
    tensors: Mapping[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors or arrays, by name, and a ``metadata`` of strings to a safetensors file, atomically.

    Equal content gives equal bytes. The SHA-256 of the file, taken with zeros in place of its digits, is added to the
    metadata; `load_file` checks it.

    Raises:
        OSError: the file cannot be written.
        ValueError: the metadata has an entry with the name of the checksum's, "checksum" or "sha256".
        TypeError: not a dict of tensors by name.
        ModuleNotFoundError: the safetensors package (extra "models") is not installed.
    """
    numpy_io = _safetensors()
    if not isinstance(tensors, Mapping) or not all(isinstance(name, str) for name in tensors):
        raise TypeError("save_file: expected a dict of tensors by name, as state_dict() gives it")
    about = dict(metadata or {})
    if reserved := {_KIND, _SUM} & about.keys():
        raise ValueError(f"save_file: the metadata entry {min(reserved)!r} is the checksum's; choose another name")
    arrays = {n: np.asarray(t.array if isinstance(t, Tensor) else t, order="C") for n, t in tensors.items()}
    content = memoryview(numpy_io.save(arrays, {_KIND: "sha256", _SUM: "0" * 64, **about}))
    header, data = _split(content)
    # safetensors writes the entries in an order of its own, which changes from one process to the next.
    described = json.loads(header)
    entries = {"__metadata__": dict(sorted(described.pop("__metadata__").items())), **described}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    beginning = len(text).to_bytes(8, "little") + text
    digest = hashlib.sha256(beginning)
    digest.update(data)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(beginning.replace(_BLANK, _BLANK.replace(b"0" * 64, digest.hexdigest().encode()), 1))
        file.write(data)


def load_file(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    """The arrays and the metadata of a safetensors file. Its checksum is checked if it has one, as `save_file` writes.

    Raises:
        FileNotFoundError: no such file.
        OSError: the file cannot be read.
        ValueError: the file is damaged, or not a safetensors file, or a pickle, or has a dtype that NumPy lacks, such
            as bfloat16.
        ModuleNotFoundError: the safetensors package (extra "models") is not installed.
    """
    _safetensors()
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}")
    with open(path, "rb"):
        pass  # an error of the operating system is not one of the content
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            if {_KIND, _SUM} & metadata.keys():
                _verify(Path(path))
            metadata = {name: text for name, text in metadata.items() if name not in (_KIND, _SUM)}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except TypeError as error:
        raise ValueError(f"{path} has a dtype that NumPy lacks ({error}); save it again in float32") from None
    except (SafetensorError, ValueError, AttributeError, OSError) as error:
        if _is_pickle(Path(path)):
            raise ValueError(
                f"{path} is a pickle, as torch.save writes it, which may run any code when it is read; load it with "
                "PyTorch and write it with safetensors.torch.save_file, or with save_pretrained(folder)"
            ) from None
        raise ValueError(f"{path} is damaged or not a safetensors file ({error}); use another checkpoint") from None


def _is_pickle(path: Path) -> bool:
    """Whether a file begins as one of ``torch.save``: as a zip archive, or as a pickle of a protocol from 2 on."""
    with path.open("rb") as file:
        beginning = file.read(4)
    return beginning == b"PK\x03\x04" or (beginning[:1] == b"\x80" and beginning[1:2] in b"\x02\x03\x04\x05")


def _verify(path: Path) -> None:
    """Raise ValueError if the file is not, to the bit, the one that was written."""
    with path.open("rb") as file:
        size = file.read(8)
        header = file.read(int.from_bytes(size, "little"))
        seals = _SEAL.findall(header)
        digest = hashlib.sha256(size + _SEAL.sub(_BLANK, header))
        while piece := file.read(_PIECE):
            digest.update(piece)
    if seals != [_BLANK.replace(b"0" * 64, digest.hexdigest().encode())]:
        raise ValueError("its checksum does not match its content")


def _split(content: memoryview) -> tuple[bytes, memoryview]:
    """The header, which is JSON, and the arrays' bytes of a safetensors file."""
    end = 8 + int.from_bytes(content[:8], "little")
    return bytes(content[8:end]), content[end:]


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'weights are stored with the safetensors package: pip install "tinygrad-attn[models]"'
        ) from None
    return safetensors.numpy
