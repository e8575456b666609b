"""Packed copies of matrices that do not change for a while: packed once, not at every product.

While a model is trained its weights change at every step, and a product packs them anew. While it translates they do
not change, and products of a few rows would spend most of their time on packing. What is made of the packed copies, a
program of kernels that decodes, is made once too, and goes from one sentence to the next.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

__all__ = ["Kept", "is_kept", "keeping", "lent", "packed_memory", "packed_once", "remembered"]


_P = TypeVar("_P")

_BLOCK = 1 << 24  # bytes
_LINE = 64


class Kept:
    """Arrays to which nobody writes for a while, and the packed copies of matrices that are views of them.

    Args:
        arrays: the arrays.
        things: whatever consists of them alone, such as a model's layers.

    Attributes:
        things: by their ids.
        lent: what `lent` has made, by its key, with a reference to who has it.
        found: what `remembered` has found, by its key.
    """

    def __init__(self, arrays: Iterable[np.ndarray[Any, Any]], things: Iterable[object] = ()) -> None:
        self.things = {id(thing): thing for thing in things}
        self.owners = {id(owner): owner for owner in map(_owner, arrays)}
        self.packed: dict[tuple[Any, ...], Any] = {}
        self.lent: dict[tuple[Any, ...], tuple[weakref.ref[Any], Any]] = {}
        self.found: dict[tuple[Any, ...], tuple[Any, object]] = {}
        self._block, self._used = np.empty(0, np.uint8), 0

    def memory(self, size: int) -> np.ndarray[Any, Any]:
        """So many bytes, those of one copy after those of the last.

        The system makes large pages of large blocks: a step that reads all weights of a model takes 4 % less time.
        """
        size += -size % _LINE
        if self._used + size > self._block.size:
            block = np.empty(max(size, _BLOCK) + _LINE, np.uint8)
            self._block, self._used = block[-block.ctypes.data % _LINE :], 0
        self._used += size
        return self._block[self._used - size : self._used]


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


def packed_memory(matrix: np.ndarray[Any, Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array for the packed copy of a matrix; for those that are kept, all in few large blocks."""
    kept = keeping.kept
    if kept is None or not is_kept(matrix):
        return np.empty(shape, dtype)
    size = math.prod(shape)
    return kept.memory(size * dtype.itemsize).view(dtype)[:size].reshape(shape)


def _kept_for(things: Iterable[object]) -> Kept | None:
    """What is kept, if the matrices of all these things are."""
    kept = keeping.kept
    return kept if kept is not None and all(id(thing) in kept.things for thing in things) else None


def remembered(key: tuple[Any, ...], about: object, find: Callable[[], _P]) -> _P:
    """``find()``; or, while what it is ``about`` is kept, what it gave for the same key, which has the id of that."""
    kept = _kept_for((about,))
    if kept is None:
        return find()
    if key not in kept.found:
        kept.found[key] = find(), about
    return kept.found[key][0]  # type: ignore[no-any-return]


def lent(
    key: tuple[Any, ...], of: Iterable[object], user: object, make: Callable[[], _P], fits: Callable[[_P], bool]
) -> _P:
    """What ``make`` gives; or, while all that it is made of is kept, what an earlier user has had for the same key.

    Args:
        key: what it depends on.
        of: what it is made of.
        user: has it for as long as it lives; what a living user has is not given to another.
        make: makes it.
        fits: whether what is there will do.
    """
    kept = _kept_for(of)
    if kept is None:
        return make()
    before = kept.lent.get(key)
    thing = before[1] if before is not None and before[0]() is None and fits(before[1]) else make()
    kept.lent[key] = weakref.ref(user), thing
    return thing


def _owner(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array if array.base is None else array.base
