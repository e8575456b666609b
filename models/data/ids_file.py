"""Files of ids: written sentence by sentence, mapped into memory, checked by a checksum.

A file is in safetensors' format: a header of 1,024 bytes, ``ids`` (of all sentences, one after the other), ``lengths``
(of each).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .cache import Damaged
from .ids import IdWriter, IntArray

__all__ = ["read_ids", "write_ids"]

_HEADER = 1024  # bytes, with the eight that tell the size of the rest
_TYPES: dict[str, np.dtype[Any]] = {"U16": np.dtype(np.uint16), "U32": np.dtype(np.uint32)}
_LENGTH: np.dtype[Any] = np.dtype(np.int32)
_BLOCK = 1 << 24  # bytes


def write_ids(path: Path, dtype: np.dtype[Any], write: Callable[[IdWriter], None]) -> None:
    """Make a file of what ``write`` gives to a writer."""
    name = next(name for name, known in _TYPES.items() if known == dtype)
    with path.open("wb+") as file:
        file.write(bytes(_HEADER))
        writer = IdWriter(file, dtype)
        write(writer)
        lengths = writer.lengths()
        file.write(lengths.tobytes())
        end, whole = writer.size * dtype.itemsize, writer.size * dtype.itemsize + lengths.nbytes
        header = {
            "__metadata__": {"crc32": f"{_checksum(file):08x}"},
            "ids": {"dtype": name, "shape": [writer.size], "data_offsets": [0, end]},
            "lengths": {"dtype": "I32", "shape": [len(lengths)], "data_offsets": [end, whole]},
        }
        file.seek(0)
        file.write((_HEADER - 8).to_bytes(8, "little") + json.dumps(header).encode().ljust(_HEADER - 8))


def read_ids(path: Path) -> tuple[IntArray, IntArray]:
    """The ids, mapped into memory, and the lengths.

    Raises:
        OSError: the file cannot be read.
        Damaged: it is not the one that was written.
    """
    with path.open("rb") as file:
        beginning = file.read(_HEADER)
        try:
            header = json.loads(beginning[8:])
            dtype, size = _TYPES[header["ids"]["dtype"]], header["ids"]["shape"][0]
            sentences, checksum = header["lengths"]["shape"][0], header["__metadata__"]["crc32"]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            raise Damaged("its header cannot be read") from None
        if path.stat().st_size != _HEADER + size * dtype.itemsize + sentences * _LENGTH.itemsize:
            raise Damaged("it is too short or too long")
        if checksum != f"{_checksum(file):08x}":
            raise Damaged("its checksum does not match its content")
        file.seek(_HEADER + size * dtype.itemsize)
        lengths = np.fromfile(file, _LENGTH, sentences)
    if not size:
        return np.zeros(0, dtype), lengths
    return np.asarray(np.memmap(path, dtype, "r", _HEADER, (size,))), lengths


def _checksum(file: BinaryIO) -> int:
    """The CRC-32 of all after the header."""
    file.seek(_HEADER)
    found = 0
    while block := file.read(_BLOCK):
        found = zlib.crc32(block, found)
    return found
