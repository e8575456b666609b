"""Packed copies of matrices that do not change for a while: packed once, not at every product.

While a model is trained its weights change at every step, and a product packs them anew. While it translates they do
not change, and products of a few rows would spend most of their time on packing. What is made of the packed copies, a
program of kernels that decodes, is made once too, and goes from one sentence to the next.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

__all__ = ["Kept", "is_kept", "keeping", "lent", "packed_once"]


_P = TypeVar("_P")


class Kept:
    """Arrays to which nobody writes for a while, and the packed copies of matrices that are views of them.

    Attributes:
        lent: what `lent` has made, by its key, with a reference to who has it.
    """

    def __init__(self, arrays: Iterable[np.ndarray[Any, Any]]) -> None:
        self.owners = {id(owner): owner for owner in map(_owner, arrays)}
        self.packed: dict[tuple[Any, ...], Any] = {}
        self.lent: dict[tuple[Any, ...], tuple[weakref.ref[Any], Any]] = {}


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


def lent(key: tuple[Any, ...], user: object, make: Callable[[], _P], fits: Callable[[_P], bool]) -> _P:
    """What ``make`` gives; or, while matrices are kept, what an earlier user has had for the same key.

    Args:
        key: what it depends on beside the matrices that are kept.
        user: has it for as long as it lives; what a living user has is not given to another.
        make: makes it.
        fits: whether what is there will do.
    """
    kept = keeping.kept
    if kept is None:
        return make()
    before = kept.lent.get(key)
    thing = before[1] if before is not None and before[0]() is None and fits(before[1]) else make()
    kept.lent[key] = weakref.ref(user), thing
    return thing


def _owner(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array if array.base is None else array.base
