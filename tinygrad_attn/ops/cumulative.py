"""Running sums and products along one axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.kernels.sums import running_sum
from tinygrad_attn.op import op
from tinygrad_attn.ops.dims import one_dim
from tinygrad_attn.ops.pointwise import where
from tinygrad_attn.ops.quiet import quiet
from tinygrad_attn.ops.reduction import converted, one_dim_errors, over, total_dtype, with_axes
from tinygrad_attn.ops.shape import flip, movedim, reshape, unsqueeze
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, Sample
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import flag

__all__ = ["cumsum", "prod"]

Array = np.ndarray[Any, Any]


def _line_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    reach = max(len(shape), 1)
    return Sample((draw.floats(shape),), {"dim": draw.integer(-reach, reach - 1)})


@op(r"z_i = \textstyle\sum_{j \le i} x_j", samples=_line_samples, errors=one_dim_errors)
def _cumsum(input: Array, /, dim: int) -> Array:
    """`cumsum` in the dtype of ``input``, or in int64."""
    axis, dtype = one_dim("cumsum", dim, input.ndim), total_dtype(input)
    return running_sum(input, axis, dtype) if input.ndim else input.astype(dtype)


_cumsum.vjp(
    "input",
    r"\bar x_i = \textstyle\sum_{j \ge i} \bar z_j",
    lambda g, dim: flip(_cumsum(flip(g, dim), dim=dim), dim) if g.ndim else g,
    kernel=lambda g, dim: np.flip(running_sum(np.flip(g, dim), dim), dim) if g.ndim else g,
)


@public("ta", "Tensor")
def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """The running sum along the axis ``dim``; bool and integers give int64.

    Args:
        input: of any shape and dtype.
        dim: the axis.
        dtype: convert ``input`` to it first.

    Raises:
        IndexError: no such axis.
        TypeError: ``dim`` is not one integer.
    """
    return _cumsum(converted(input, dtype), dim=dim)


def _prod_samples(draw: Draw) -> Sample:
    shape = draw.shape((1, 3))
    x = draw.floats(shape)
    if draw.boolean():
        x = draw.layout(np.where(draw.mask(shape), x, 0.0))
    return Sample((x,), {"dim": draw.integer(-len(shape), len(shape) - 1), "keepdim": draw.boolean()})


@op(r"z = \textstyle\prod_i x_i", samples=_prod_samples, errors=one_dim_errors)
@quiet
def _prod(input: Array, /, dim: int, keepdim: bool = False) -> Array:
    """`prod` along one axis, in the dtype of ``input`` or in int64."""
    return over(np.multiply, input, one_dim("prod", dim, input.ndim), keepdim, total_dtype(input))


def _prod_gradient(g: Any, z: Any, input: Any, dim: int) -> Any:
    g, z = with_axes(g, input.shape, dim), with_axes(z, input.shape, dim)
    # The product of the others is z / x_i, except where an element is 0.
    return g * (z / input) if input.array.all() else g * _products_of_others(input, dim)


def _products_of_others(x: Tensor, dim: int) -> Tensor:
    """For every element the product of the others along ``dim``, from a table with a row, x without x_i, for each i."""
    itself = Tensor(np.eye(x.shape[dim], dtype=np.bool_))
    rows = where(itself, 1.0, unsqueeze(movedim(x, dim, -1), -2))
    return movedim(_prod(rows, dim=-1), -1, dim)


def _prod_kernel(g: Array, input: Array, dim: int) -> Array:
    lines = np.moveaxis(input, dim, -1)
    before, after = np.ones_like(lines), np.ones_like(lines)
    before[..., 1:] = np.multiply.accumulate(lines[..., :-1], axis=-1)
    after[..., :-1] = np.multiply.accumulate(lines[..., :0:-1], axis=-1)[..., ::-1]
    return with_axes(g, input.shape, dim) * np.moveaxis(before * after, -1, dim)


_prod.vjp(
    "input",
    r"\bar x_i = \bar z \textstyle\prod_{j \ne i} x_j = \bar z\,z / x_i \text{ where } x_i \ne 0",
    _prod_gradient,
    kernel=_prod_kernel,
)


@public("ta", "Tensor")
def prod(input: Any, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The product over ``dim``; bool and integers give int64, an empty axis gives 1. The gradient is exact for zeros.

    With ``create_graph`` and a 0 among the n elements, the gradient takes memory for n² elements.

    Args:
        input: of any shape and dtype.
        dim: an axis, or None for all.
        keepdim: leave the axis in place with size 1.
        dtype: convert ``input`` to it first.

    Raises:
        IndexError: no such axis.
        TypeError: ``dim`` is not one integer, or ``keepdim`` without ``dim``.
    """
    x = converted(input, dtype)
    if dim is None:
        if flag("prod", "keepdim", keepdim):
            raise TypeError("prod: keepdim needs a dim")
        return _prod(reshape(x, -1), dim=0)
    if np.ndim(x.array if isinstance(x, Tensor) else x) == 0:
        one_dim("prod", dim, 0)
        return _prod(reshape(x, 1), dim=0)
    return _prod(x, dim=dim, keepdim=keepdim)
