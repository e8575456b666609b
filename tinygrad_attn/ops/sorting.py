"""max, min, argmax, sort, argsort and topk: elements in order, and their indices.

Each op here finds indices, through which no gradient flows. `gather` then reads the values at the indices, and its rule
sends the gradient of a value to the element that was chosen. Equal elements always keep their order. nan counts as
greater than any number; if there is one, max() and min() both return it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.dims import one_dim
from tinygrad_attn.ops.indexing import take_along_dim
from tinygrad_attn.ops.pointwise import maximum, minimum
from tinygrad_attn.ops.reduction import amax, amin, draw_distinct, not_empty, one_dim_errors
from tinygrad_attn.ops.shape import squeeze
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor, ValuesAndIndices
from tinygrad_attn.values import flag

__all__ = ["argmax", "argmin", "argsort", "max", "min", "sort", "topk"]

Array = np.ndarray[Any, Any]


# -- the index of the largest or smallest element ----------------------------------------------------------------------


def _extreme_samples(draw: Draw) -> Sample:
    shape = draw.shape((0, 3), (1, 4))
    reach = len(shape) or 1
    dim = draw.choice([None, draw.integer(-reach, reach - 1)])
    return Sample((draw_distinct(draw, shape),), {"dim": dim, "keepdim": draw.boolean()})


_extreme_errors = [*one_dim_errors, ErrorSample((np.ones((0, 3)),), {"dim": 0}, ValueError, "axis 0 has size 0")]


def _find(name: str, x: Array, dim: int | None, keepdim: bool, largest: bool) -> Array:
    axis = None if dim is None else one_dim(name, dim, x.ndim)
    if x.ndim:
        not_empty(name, x, range(x.ndim) if axis is None else (axis,))
    find = np.argmax if largest else np.argmin
    return np.asarray(find(x, axis=axis if x.ndim else None, keepdims=keepdim))


@public("ta", "Tensor")
@op(r"z = \operatorname{arg\,max}_i x_i", samples=_extreme_samples, errors=_extreme_errors)
def argmax(input: Array, /, dim: int | None = None, keepdim: bool = False) -> Array:
    """The index along ``dim`` of the largest element, the first of equal ones.

    Args:
        input: of any shape and dtype.
        dim: an axis, or None for the index in the flattened tensor.
        keepdim: leave the reduced axes in place with size 1.

    Returns:
        int64 indices.

    Raises:
        ValueError: there are no elements.
        IndexError: no such axis.
        TypeError: ``dim`` is not one integer.
    """
    return _find("argmax", input, dim, keepdim, True)


@public("ta", "Tensor")
@op(r"z = \operatorname{arg\,min}_i x_i", samples=_extreme_samples, errors=_extreme_errors)
def argmin(input: Array, /, dim: int | None = None, keepdim: bool = False) -> Array:
    """The index along ``dim`` of the smallest element; arguments and errors as with `argmax`."""
    return _find("argmin", input, dim, keepdim, False)


def _extreme(largest: bool, input: Any, dim: Any, keepdim: bool, other: Any) -> Any:
    """`max` or `min` in the form that its arguments ask for."""
    name = "max" if largest else "min"
    keepdim = flag(name, "keepdim", keepdim)
    if isinstance(dim, (Tensor, np.ndarray)):
        if other is not None:
            raise TypeError(f"{name}: the tensor to compare with is given twice")
        dim, other = None, dim
    if (keepdim and dim is None) or (other is not None and dim is not None):
        raise TypeError(f"{name}: takes a tensor, a tensor with dim and keepdim, or two tensors; see also a{name}()")
    if other is not None:
        return maximum(input, other) if largest else minimum(input, other)
    if dim is None:
        return amax(input) if largest else amin(input)
    x = as_tensor(input, name)
    axis = one_dim(name, dim, x.ndim)
    indices = (argmax if largest else argmin)(x, dim=axis, keepdim=True)
    values = take_along_dim(x, indices, axis)
    if not keepdim:
        values, indices = squeeze(values, dim=axis), squeeze(indices, dim=axis)
    return ValuesAndIndices(values, indices)


@public("ta", "Tensor")
def max(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The largest element, in PyTorch's three forms.

    - ``max(x)``: of all elements, a 0-d tensor; equal ones share the gradient.
    - ``max(x, dim, keepdim=False)``: along the axis ``dim``, as ``(values, indices)``; the first of equal elements is
      chosen and gets the whole gradient.
    - ``max(x, other)``: of two tensors, element by element; `maximum`.

    Raises:
        ValueError: there are no elements, or two tensors don't broadcast.
        IndexError: no such axis.
        TypeError: arguments of two forms, or a ``dim`` that is not one integer.
    """
    return _extreme(True, input, dim, keepdim, other)


@public("ta", "Tensor")
def min(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The smallest element, in the forms of `max` and with its errors."""
    return _extreme(False, input, dim, keepdim, other)


# -- sorting -----------------------------------------------------------------------------------------------------------


def _sort_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    reach = len(shape) or 1
    options = {"dim": draw.integer(-reach, reach - 1), "descending": draw.boolean(), "stable": draw.boolean()}
    return Sample((draw_distinct(draw, shape),), options)


def _order(x: Array, axis: int, descending: bool) -> Array:
    """The indices that sort ``x`` along ``axis``, equal elements in their order."""
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    # Reversed before and after sorting, so that equal elements keep their order.
    return x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)


@public("ta", "Tensor")
@op(r"x_{z_1} \le x_{z_2} \le \ldots", samples=_sort_samples, errors=one_dim_errors)
def argsort(input: Array, /, dim: int = -1, descending: bool = False, stable: bool = False) -> Array:
    """The indices that sort ``input`` along ``dim``.

    Args:
        input: of any shape and dtype.
        dim: the axis.
        descending: the largest first, and nan before it.
        stable: keep equal elements in their order. That is always done; the argument is PyTorch's.

    Returns:
        int64 indices in the shape of ``input``.

    Raises:
        IndexError: no such axis.
        TypeError: ``dim`` is not one integer.
    """
    axis = one_dim("argsort", dim, input.ndim)
    return _order(input, axis, descending) if input.ndim else np.zeros((), np.int64)


@public("ta", "Tensor")
def sort(input: Any, dim: int = -1, descending: bool = False, *, stable: bool = False) -> ValuesAndIndices:
    """``input`` sorted along ``dim``, and the indices that sort it; arguments and errors as with `argsort`."""
    x = as_tensor(input, "sort")
    axis = one_dim("sort", dim, x.ndim)
    indices = argsort(x, dim=axis, descending=descending, stable=stable)
    return ValuesAndIndices(take_along_dim(x, indices, axis), indices)


def _topk_samples(draw: Draw) -> Sample:
    shape = draw.shape((1, 3), (1, 4))
    dim = draw.integer(-len(shape), len(shape) - 1)
    options = {"k": draw.integer(0, shape[dim]), "dim": dim, "largest": draw.boolean()}
    return Sample((draw_distinct(draw, shape),), options)


def _precedes(x: Array, edge: Array, largest: bool) -> Array:
    """Whether elements come before ``edge``, in descending order if ``largest``; nan is the greatest."""
    if largest:
        return (x > edge) | (np.isnan(x) & ~np.isnan(edge))
    return (x < edge) | (~np.isnan(x) & np.isnan(edge))


@op(
    r"z = \text{the } i \text{ of the } k \text{ largest } x_i",
    samples=_topk_samples,
    errors=[
        *[ErrorSample(e.operands, {"k": 1, **e.options}, e.exception, e.match) for e in one_dim_errors],
        ErrorSample((np.ones((2, 3)),), {"k": 4}, ValueError, "k must be from 0 to 3, the size of axis 1, got 4"),
        ErrorSample((np.ones((2, 3)),), {"k": -1}, ValueError, "got -1"),
        ErrorSample((np.ones((2, 3)),), {"k": 1.0}, TypeError, "k must be an integer"),
    ],
)
def _topk(input: Array, /, k: int, dim: int = -1, largest: bool = True) -> Array:
    """The indices of `topk`."""
    axis = one_dim("topk", dim, input.ndim)
    lines = np.moveaxis(input, axis, -1) if input.ndim else input.reshape(1)
    size = lines.shape[-1]
    if not 0 <= k <= size:
        raise ValueError(f"topk: k must be from 0 to {size}, the size of axis {axis}, got {k}")
    chosen = _first_k(lines, k, largest) if k and lines.size else np.zeros((*lines.shape[:-1], k), np.int64)
    return np.moveaxis(chosen, -1, axis) if input.ndim else chosen.reshape(input.shape)


def _first_k(lines: Array, k: int, largest: bool) -> Array:
    """`_topk` along the last axis, in time linear in its size."""
    size = lines.shape[-1]
    # The edge is the last of the k: all of them precede or equal it.
    last = size - k if largest else k - 1
    edge = np.partition(lines, last, axis=-1)[..., last : last + 1]
    members = ~_precedes(edge, lines, largest)
    if np.count_nonzero(members) > k * (lines.size // size):
        # If more than k elements precede or equal the edge, the first of the equal ones are chosen.
        inside = _precedes(lines, edge, largest)
        equal = members & ~inside
        room = k - np.count_nonzero(inside, axis=-1, keepdims=True)
        members = inside | (equal & (np.cumsum(equal, axis=-1) <= room))
    indices = (np.flatnonzero(members) % size).reshape(*lines.shape[:-1], k)
    order = _order(np.take_along_axis(lines, indices, -1), -1, largest)
    return np.take_along_axis(indices, order, -1)


@public("ta", "Tensor")
def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesAndIndices:
    """The ``k`` largest elements along ``dim``, largest first, and their indices; of equal elements the first.

    Args:
        input: of any shape and dtype.
        k: how many, from 0 to the size of the axis.
        dim: the axis.
        largest: False for the smallest, smallest first.
        sorted: put them in order. That is always done; the argument is PyTorch's.

    Returns:
        ``(values, indices)``, with size ``k`` at ``dim``.

    Raises:
        ValueError: ``k`` is out of range.
        IndexError: no such axis.
        TypeError: ``k`` or ``dim`` is not one integer.
    """
    x = as_tensor(input, "topk")
    indices = _topk(x, k=k, dim=dim, largest=largest)
    return ValuesAndIndices(take_along_dim(x, indices, one_dim("topk", dim, x.ndim)), indices)
