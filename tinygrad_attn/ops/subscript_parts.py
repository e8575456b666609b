"""Checks a subscript x[...] and splits it into a view (slices) and index arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.tensor import Tensor

__all__ = ["ALL", "Indices", "Key", "check_range", "counted_from_front", "resolve"]

Array = np.ndarray[Any, Any]
Key = tuple[int | slice | None, ...]
Indices = tuple[Array | None, ...]

ALL = slice(None)


def resolve(name: str, index: Any, shape: tuple[int, ...]) -> tuple[Key | None, Indices | None]:
    """The two steps of the subscript ``[index]`` of a tensor of ``shape``: a view, then index arrays.

    Args:
        name: the caller's name, for messages.
        index: integers, slices, None, ``...``, integer arrays and masks, in any mixture.
        shape: the shape of the tensor.

    Returns:
        The key of the view, with an entry for each axis of ``shape`` and each None; None if the view is the whole
        tensor. And for every axis of that view the int64 array that indexes it, counted from the front, or None; None
        if there are no arrays. The arrays are copies.

    Raises:
        IndexError: too many indices, one out of range, a mask of another shape, arrays that don't broadcast, or
            something that cannot be an index.
        ValueError: a slice with a step below 1.
    """
    items = [_item(name, item) for item in (index if isinstance(index, tuple) else (index,))]
    taken = sum(_axes_taken(item) for item in items)
    if taken > len(shape):
        raise IndexError(f"{name}: {taken} indices are too many for a tensor with {len(shape)} axes, of shape {shape}")
    ellipses = [position for position, item in enumerate(items) if item is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError(f"{name}: an index can have only one ellipsis")
    rest = [ALL] * (len(shape) - taken)
    at = ellipses[0] if ellipses else len(items)
    items[at : at + 1] = rest

    key: list[Any] = []
    arrays: list[Array | None] = []
    axis = 0
    for item in items:
        if isinstance(item, int):
            key.append(_within(name, item, axis, shape))
        elif not isinstance(item, np.ndarray):
            key.append(item)
            arrays.append(None)
        elif item.dtype == np.bool_:
            key.extend([ALL] * item.ndim if item.ndim else [None])
            arrays.extend(_places(name, item, axis, shape))
        else:
            key.append(ALL)
            arrays.append(counted_from_front(name, item, axis, shape[axis]))
        axis += _axes_taken(item)
    chosen = [array for array in arrays if array is not None]
    if not chosen:
        return tuple(key), None
    try:
        np.broadcast_shapes(*[array.shape for array in chosen])
    except ValueError:
        shapes = ", ".join(str(array.shape) for array in chosen)
        raise IndexError(
            f"{name}: the index arrays must broadcast against each other, their shapes are {shapes}"
        ) from None
    whole = len(key) == len(shape) and all(isinstance(k, slice) and k == ALL for k in key)
    return None if whole else tuple(key), tuple(arrays)


def _item(name: str, item: Any) -> Any:
    """One entry of a subscript as int, slice, None, Ellipsis, or an integer or bool array."""
    if item is None or item is Ellipsis or type(item) is int:
        return item
    if isinstance(item, slice):
        return _checked_slice(name, item)
    if isinstance(item, Tensor):
        array = item.array
    elif isinstance(item, (np.ndarray, np.generic, bool)):
        array = np.asarray(item)
    elif isinstance(item, (list, tuple, range)):
        array = _array_of(name, item)
    elif hasattr(item, "__index__"):
        return item.__index__()
    else:
        raise IndexError(
            f"{name}: an index must be an integer, a slice, None, ..., or an array of integers or bools, "
            f"got {type(item).__name__}"
        )
    if isinstance(item, np.integer):
        return int(item)
    if array.dtype == np.uint8 or array.dtype.kind not in "biu":
        raise IndexError(f"{name}: an index array must be bool (a mask) or int64, it is {array.dtype}")
    return int(array) if array.ndim == 0 and array.dtype != np.bool_ else array


def _checked_slice(name: str, item: slice) -> slice:
    for part in (item.start, item.stop, item.step):
        if part is not None and not hasattr(part, "__index__"):
            raise IndexError(f"{name}: the parts of a slice must be integers or None, got {part!r}")
    if item.step is not None and item.step.__index__() < 1:
        raise ValueError(
            f"{name}: the step of a slice must be 1 or more, got {item.step}; use flip() to reverse an axis"
        )
    if {type(item.start), type(item.stop), type(item.step)} <= {int, type(None)}:
        return item
    return slice(*[None if part is None else part.__index__() for part in (item.start, item.stop, item.step)])


def _array_of(name: str, items: Any) -> Array:
    """A list, tuple or range as an index array; an empty one holds integers, which NumPy would make floats."""
    try:
        array = np.asarray(items)
    except ValueError:
        raise IndexError(f"{name}: an index list must hold integers or bools, nested to equal lengths") from None
    return array if array.size else array.astype(np.int64)


def _axes_taken(item: Any) -> int:
    """How many axes of the tensor an entry of a subscript uses up."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype == np.bool_ else 1


def _within(name: str, item: int, axis: int, shape: tuple[int, ...]) -> int:
    """``item``; raises an IndexError unless it is an index of ``axis``."""
    if not -shape[axis] <= item < shape[axis]:
        raise IndexError(
            f"{name}: index {item} is out of range for axis {axis} of size {shape[axis]}, in a tensor of shape {shape}"
        )
    return item


def _places(name: str, mask: Array, axis: int, shape: tuple[int, ...]) -> Sequence[Array]:
    """Where ``mask`` holds, as one index array for each of its axes; a mask without axes keeps or drops a new axis."""
    if mask.ndim == 0:
        return [np.zeros(int(mask), np.int64)]
    covered = shape[axis : axis + mask.ndim]
    # As in NumPy, an empty axis of a mask fits an axis of any size: it selects nothing.
    if mask.ndim > len(covered) or any(size not in (0, whole) for size, whole in zip(mask.shape, covered, strict=True)):
        raise IndexError(
            f"{name}: a mask of shape {mask.shape} does not match the axes from {axis} on, whose sizes are {covered}"
        )
    return mask.nonzero()


def check_range(name: str, index: Array, dim: int, size: int, lowest: int = 0) -> None:
    """Raise unless ``index`` holds integers from ``lowest`` to ``size - 1``, for axis ``dim``."""
    if index.dtype.kind not in "iu":
        raise TypeError(f"{name}: index must hold integers, it is {index.dtype}")
    if index.size:
        least, most = int(index.min()), int(index.max())
        if least < lowest or most >= size:
            wrong = least if least < lowest else most
            raise IndexError(f"{name}: index {wrong} is out of range for axis {dim} of size {size}")


def counted_from_front(name: str, index: Array, dim: int, size: int) -> Array:
    """A copy of ``index`` in which negative numbers (from the end of axis ``dim``) are made positive."""
    check_range(name, index, dim, size, -size)
    copy = index.astype(np.int64)
    copy[copy < 0] += size
    return copy
