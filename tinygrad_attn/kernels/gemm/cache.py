"""Packed copies of matrices that do not change for a while: packed once, not at every product.

While a model is trained its weights change at every step, and a product packs them anew. While it translates they do
not change, and products of a few rows would spend most of their time on packing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

__all__ = ["is_kept", "keep_packed", "packed_once"]


_P = TypeVar("_P")


class _Kept(threading.local):
    """Of the calling thread: those that are kept, by the owner of their memory, and the packed ones."""

    def __init__(self) -> None:
        self.owners: dict[int, np.ndarray[Any, Any]] = {}
        self.packed: dict[tuple[Any, ...], Any] = {}


_kept = _Kept()


@contextlib.contextmanager
def keep_packed(arrays: Iterable[np.ndarray[Any, Any]]) -> Iterator[None]:
    """Inside, nobody writes to these arrays, and the matrices that are views of them are packed once.

    It holds for the calling thread. Within another such block, this one changes nothing.
    """
    if _kept.owners:
        yield
        return
    _kept.owners = {id(owner): owner for owner in map(_owner, arrays)}
    try:
        yield
    finally:
        _kept.owners, _kept.packed = {}, {}


def is_kept(matrix: np.ndarray[Any, Any]) -> bool:
    """Whether `packed_once` would keep the matrix."""
    return bool(_kept.owners) and id(_owner(matrix)) in _kept.owners


def packed_once(matrix: np.ndarray[Any, Any], pack: Callable[[np.ndarray[Any, Any]], _P]) -> _P:
    """``pack(matrix)``, from the first time on if the matrix is kept."""
    if not is_kept(matrix):
        return pack(matrix)
    key = (matrix.__array_interface__["data"][0], matrix.shape, matrix.strides)
    packed = _kept.packed.get(key)
    if packed is None:
        packed = _kept.packed[key] = pack(matrix)
    return packed


def _owner(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array if array.base is None else array.base
