"""Variance and standard deviation over axes: var, std, var_mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import only_floats
from tinygrad_attn.ops.comparison import eq
from tinygrad_attn.ops.dims import several_dims
from tinygrad_attn.ops.pointwise import where
from tinygrad_attn.ops.quiet import quiet
from tinygrad_attn.ops.reduction import (
    Dim,
    count,
    dim_errors,
    distinct_samples,
    integers,
    mean,
    over,
    with_axes,
)
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, Sample
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import as_number, flag

__all__ = ["std", "var", "var_mean"]

Array = np.ndarray[Any, Any]


def _spread_samples(draw: Draw) -> Sample:
    sample = distinct_samples(draw)
    return Sample(sample.operands, {**sample.options, "correction": draw.choice([1, 0, 0.5])})


def _freedom(shape: tuple[int, ...], dim: Dim, correction: float) -> float:
    """n - c, by which a variance divides; never below 0."""
    return max(count(shape, dim) - correction, 0)


def _variance(name: str, x: Array, dim: Dim, keepdim: bool, correction: float) -> Array:
    only_floats(name, x, "convert it")
    dims = several_dims(name, dim, x.ndim)
    n = count(x.shape, dim)
    off = x - over(np.add, x, dims, True) / n
    # The mean is rounded. By how much, the sum of the distances from it tells: that of exact distances would be 0.
    squares = over(np.add, np.square(off), dims, keepdim) - np.square(over(np.add, off, dims, keepdim)) / n
    return np.maximum(squares, 0) / _freedom(x.shape, dim, correction)


def _centred(x: Any, dim: Dim) -> Any:
    return x - mean(x, dim, keepdim=True)


@op(
    r"z = \tfrac1{n - c} \textstyle\sum_i (x_i - \mu)^2",
    samples=_spread_samples,
    errors=[*dim_errors, integers],
    symbols={"n": "input", "c": "correction", r"\mu": "input"},
)
@quiet
def _var(input: Array, /, dim: Dim = None, keepdim: bool = False, correction: float = 1) -> Array:
    """`var` with one way to give the correction."""
    return _variance("var", input, dim, keepdim, correction)


_var.vjp(
    "input",
    r"\bar x_i = \tfrac2{n - c}\,\bar z\,(x_i - \mu)",
    lambda g, input, dim, correction: (
        with_axes(g, input.shape, dim) * (_centred(input, dim) * 2.0 / _freedom(input.shape, dim, correction))
    ),
)


@op(
    r"z = \sqrt{\tfrac1{n - c} \textstyle\sum_i (x_i - \mu)^2}",
    samples=_spread_samples,
    errors=[*dim_errors, integers],
    symbols={"n": "input", "c": "correction", r"\mu": "input"},
)
@quiet
def _std(input: Array, /, dim: Dim = None, keepdim: bool = False, correction: float = 1) -> Array:
    """`std` with one way to give the correction."""
    return np.sqrt(_variance("std", input, dim, keepdim, correction))


def _std_gradient(g: Any, z: Any, input: Any, dim: Dim, correction: float) -> Any:
    g, z = with_axes(g, input.shape, dim), with_axes(z, input.shape, dim)
    # The root has no slope at 0; as in PyTorch equal elements get the gradient 0.
    flat = eq(z, 0.0)
    return where(flat, 0.0, g / where(flat, 1.0, z)) * (_centred(input, dim) / _freedom(input.shape, dim, correction))


_std.vjp("input", r"\bar x_i = \tfrac1{n - c}\,\bar z\,(x_i - \mu) / z", _std_gradient)


def _correction(name: str, dim: Any, unbiased: bool | None, correction: float | None) -> tuple[Dim, float]:
    """The axes and the correction, from the two ways in which PyTorch lets one give it."""
    dim = as_number(f"{name}: dim", dim)
    if isinstance(dim, bool):
        if unbiased is not None:
            raise TypeError(f"{name}: dim must be an axis, several, or None, got {dim}")
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        raise TypeError(f"{name}: unbiased={unbiased} and correction={correction} say the same; give one of them")
    if unbiased is not None:
        unbiased = flag(name, "unbiased", unbiased)
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    return dim, correction


@public("ta", "Tensor")
def var(
    input: Any,
    dim: Dim = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The variance over ``dim``: the sum of squared distances from the mean, divided by n - correction.

    Where that is 0 or less the result is nan or inf.

    Args:
        input: of any shape, float32 or float64.
        dim: an axis, several, or None for all; ``var(x, False)`` is ``var(x, unbiased=False)``.
        unbiased: True for a correction of 1, which makes the estimate unbiased; False for 0.
        keepdim: leave the reduced axes in place with size 1.
        correction: any number; 1 unless it or ``unbiased`` is given.

    Raises:
        TypeError: integers or bools, or both ``unbiased`` and ``correction``.
        IndexError: an axis that is not there.
        ValueError: an axis named twice.
    """
    dim, correction = _correction("var", dim, unbiased, correction)
    return _var(input, dim=dim, keepdim=keepdim, correction=correction)


@public("ta", "Tensor")
def std(
    input: Any,
    dim: Dim = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The standard deviation over ``dim``: the root of `var`, whose arguments and errors it shares.

    Where it is 0, so is its gradient.
    """
    dim, correction = _correction("std", dim, unbiased, correction)
    return _std(input, dim=dim, keepdim=keepdim, correction=correction)


@public("ta")
def var_mean(
    input: Any,
    dim: Dim = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """`var`, whose arguments and errors it shares, and `mean`."""
    dim, correction = _correction("var_mean", dim, unbiased, correction)
    return _var(input, dim=dim, keepdim=keepdim, correction=correction), mean(input, dim, keepdim)
