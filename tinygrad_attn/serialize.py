"""Reads and writes safetensors files; writes are atomic: a crash leaves the old file whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_attn.tensor import Tensor

__all__ = ["atomic_path", "load_file", "save_file"]


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path``; if the block ends without an error, that file replaces ``path``."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def save_file(
    tensors: Mapping[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors or arrays, by name, and a ``metadata`` of strings to a safetensors file, atomically.

    Raises:
        ModuleNotFoundError: the safetensors package (extra "models") is not installed.
    """
    numpy_io = _safetensors()
    arrays = {n: np.asarray(t.array if isinstance(t, Tensor) else t, order="C") for n, t in tensors.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(numpy_io.save(arrays, dict(metadata) if metadata else None))


def load_file(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    """The arrays and the metadata of a safetensors file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or not a safetensors file.
        ModuleNotFoundError: the safetensors package (extra "models") is not installed.
    """
    _safetensors()
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error}); use another checkpoint") from None


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "weights are stored with the safetensors package: pip install 'tinygrad-attn[models]'"
        ) from None
    return safetensors.numpy
