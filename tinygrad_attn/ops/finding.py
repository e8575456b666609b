"""Which elements there are, and where: nonzero, masked_select, unique, bincount, count_nonzero, one_hot, index_fill."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.comparison import ne
from tinygrad_attn.ops.dims import one_dim
from tinygrad_attn.ops.indexing import masked_fill
from tinygrad_attn.ops.reduction import sum
from tinygrad_attn.ops.reshaping import broadcast_tensors
from tinygrad_attn.ops.subscript import getitem
from tinygrad_attn.ops.subscript_parts import check_range
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import allocated, flag, whole_number

__all__ = ["argwhere", "bincount", "count_nonzero", "index_fill", "masked_select", "nonzero", "one_hot", "unique"]


@public("ta", "Tensor")
def nonzero(input: Any, *, as_tuple: bool = False) -> Any:
    """Where the elements are that are not 0.

    Args:
        input: of any shape and dtype.
        as_tuple: a tensor of positions for each axis, with which to index, instead of one ``(count, axes)`` tensor.
    """
    x = as_tensor(input, "nonzero")
    positions = np.atleast_1d(x._read()).nonzero()
    if flag("nonzero", "as_tuple", as_tuple):
        return tuple([Tensor(each) for each in positions])
    found = np.stack(positions, axis=1)
    return Tensor(np.ascontiguousarray(found[:, : x.ndim]))


@public("ta", "Tensor")
def argwhere(input: Any) -> Tensor:
    """`nonzero` as one tensor of shape ``(count, axes)``."""
    return nonzero(input)


@public("ta", "Tensor")
def count_nonzero(input: Any, dim: Any = None) -> Tensor:
    """How many elements over ``dim`` (an axis, several, or None for all) are not 0.

    Raises:
        IndexError: an axis that is not there.
        ValueError: an axis named twice.
    """
    return sum(ne(as_tensor(input, "count_nonzero"), 0), dim)


@public("ta", "Tensor")
def masked_select(input: Any, mask: Any) -> Tensor:
    """The elements where the bool ``mask`` holds, along one axis; the two broadcast.

    Raises:
        TypeError: ``mask`` is not bool.
        ValueError: shapes that do not broadcast.
    """
    mask = as_tensor(mask, "masked_select: mask")
    if mask.dtype != np.bool_:
        raise TypeError(f"masked_select: mask must be bool, it is {mask.dtype}")
    x = as_tensor(input, "masked_select")
    try:
        x, mask = broadcast_tensors(x, mask)
    except ValueError:
        raise ValueError(f"masked_select: input {x.shape} and mask {mask.shape} do not broadcast") from None
    return getitem(x, mask)


@public("ta", "Tensor")
def index_fill(input: Any, dim: int, index: Any, value: Any) -> Tensor:
    """A copy of ``input`` whose slices along ``dim`` at the positions ``index`` hold ``value``.

    Args:
        input: ``(..., n, ...)`` with ``n`` at axis ``dim``.
        dim: the axis.
        index: ``(m,)`` integers from 0 to ``n - 1``, or one of them.
        value: a number or a 0-d tensor.

    Raises:
        IndexError: an index, or ``dim``, out of range.
        ValueError: ``index`` has more than one axis, or ``value`` has axes.
        TypeError: ``index`` does not hold integers.
    """
    x, chosen = as_tensor(input, "index_fill"), as_tensor(index, "index_fill: index")._read()
    axis, size = one_dim("index_fill", dim, x.ndim), x.shape[dim] if x.ndim else 1
    if chosen.ndim > 1:
        raise ValueError(f"index_fill: index must have one axis, its shape is {chosen.shape}")
    check_range("index_fill", chosen if chosen.size else chosen.astype(np.int64), axis, size)
    mask = np.zeros(size, np.bool_)
    mask[chosen.astype(np.int64)] = True
    return masked_fill(x, mask.reshape([size if d == axis else 1 for d in range(x.ndim)]), value)


@public("ta", "Tensor")
def unique(
    input: Any, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The different elements, in order, or the different slices along ``dim``.

    Args:
        input: of any shape.
        sorted: they are sorted either way.
        return_inverse: also for each element its position among them.
        return_counts: also how often each is there.
        dim: an axis; None for the elements.

    Raises:
        IndexError: an axis that is not there.
    """
    x = as_tensor(input, "unique")
    axis = None if dim is None else one_dim("unique", dim, x.ndim)
    axis = axis if x.ndim else None  # of a tensor without axes, the one element
    inverse, counts = flag("unique", "return_inverse", return_inverse), flag("unique", "return_counts", return_counts)
    found = np.unique(x._read(), return_inverse=True, return_counts=True, axis=axis, equal_nan=False)
    places = found[1].reshape(x.shape if axis is None else (-1,))
    results = [Tensor(found[0])] + [Tensor(places)] * inverse + [Tensor(found[2])] * counts
    return tuple(results) if len(results) > 1 else results[0]


@public("ta", "Tensor")
def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Tensor:
    """How often each of the integers 0, 1, … occurs, or the sum of the ``weights`` where it does (no gradient).

    Args:
        input: ``(n,)`` integers of at least 0.
        weights: ``(n,)``.
        minlength: the least length of the result.

    Raises:
        TypeError: ``input`` does not hold integers.
        ValueError: another shape, negative integers, or a negative ``minlength``.
        MemoryError: an integer, or ``minlength``, for which the result is too large.
    """
    x, least = as_tensor(input, "bincount")._read(), whole_number("bincount", "minlength", minlength)
    if x.dtype.kind not in "iu":
        raise TypeError(f"bincount: input must hold integers, it is {x.dtype}")
    if x.ndim != 1 or (x.size and x.min() < 0) or least < 0:
        raise ValueError(f"bincount: input must be (n,) integers of at least 0, and minlength at least 0, got {least}")
    shape = (max(least, int(x.max()) + 1 if x.size else 0),)
    if weights is None:
        return Tensor(allocated("bincount", shape, lambda: np.bincount(x.astype(np.int64), minlength=least)))
    values = as_tensor(weights, "bincount: weights")._read()
    if values.shape != x.shape:
        raise ValueError(f"bincount: weights have shape {values.shape}, input {x.shape}")
    totals = allocated("bincount", shape, lambda: np.bincount(x.astype(np.int64), values.astype(np.float64), least))
    return Tensor(totals.astype(values.dtype if values.dtype == np.float32 else np.float64))


@public("F")
def one_hot(tensor: Any, num_classes: int = -1) -> Tensor:
    """int64 zeros with a 1 at each class: ``(..., num_classes)`` for classes ``(...)``.

    Args:
        tensor: integers of at least 0.
        num_classes: how many there are; -1 for one more than the largest.

    Raises:
        TypeError: ``tensor`` does not hold integers.
        ValueError: a class below 0 or not below ``num_classes``, or no elements to tell how many classes there are.
        MemoryError: too many classes.
    """
    x, count = as_tensor(tensor, "one_hot")._read(), whole_number("one_hot", "num_classes", num_classes)
    if x.dtype.kind not in "iu":
        raise TypeError(f"one_hot: tensor must hold integers, it is {x.dtype}")
    if count < -1 or count == 0 or (count == -1 and not x.size):
        raise ValueError(f"one_hot: num_classes must be above 0, or -1 for a tensor with elements, got {count}")
    count = max(int(x.max()) + 1, 1) if count == -1 else count
    if x.size and not (x.min() >= 0 and x.max() < count):
        raise ValueError(f"one_hot: classes must be from 0 to {count - 1}, they are from {x.min()} to {x.max()}")
    shape = (*x.shape, count)
    found = allocated("one_hot", shape, lambda: np.zeros(shape, np.int64))
    np.put_along_axis(found, x[..., None].astype(np.int64), 1, axis=-1)
    return Tensor(found)
