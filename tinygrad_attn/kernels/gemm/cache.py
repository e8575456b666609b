"""Packed copies of matrices that do not change for a while: packed once, not at every product.

While a model is trained its weights change at every step, and a product packs them anew. While it translates they do
not change, and products of a few rows would spend most of their time on packing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

__all__ = ["Kept", "is_kept", "keeping", "packed_once"]


_P = TypeVar("_P")


class Kept:
    """Arrays to which nobody writes for a while, and the packed copies of matrices that are views of them."""

    def __init__(self, arrays: Iterable[np.ndarray[Any, Any]]) -> None:
        self.owners = {id(owner): owner for owner in map(_owner, arrays)}
        self.packed: dict[tuple[Any, ...], Any] = {}


class _Keeping(threading.local):
    """What the calling thread keeps; whoever sets it sets it back."""

    kept: Kept | None = None


keeping = _Keeping()


def is_kept(matrix: np.ndarray[Any, Any]) -> bool:
    """Whether `packed_once` would keep the matrix."""
    kept = keeping.kept
    return kept is not None and id(_owner(matrix)) in kept.owners


def packed_once(matrix: np.ndarray[Any, Any], pack: Callable[[np.ndarray[Any, Any]], _P]) -> _P:
    """``pack(matrix)``, from the first time on if the matrix is kept."""
    kept = keeping.kept
    if kept is None or not is_kept(matrix):
        return pack(matrix)
    key = (pack, matrix.__array_interface__["data"][0], matrix.shape, matrix.strides)
    packed = kept.packed.get(key)
    if packed is None:
        packed = kept.packed[key] = pack(matrix)
    return packed


def _owner(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array if array.base is None else array.base
