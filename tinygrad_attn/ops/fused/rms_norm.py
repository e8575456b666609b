"""rms_norm: the last axes divided by their root mean square."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.kernels.rmsnorm import rms_norm as rms_norm_kernel
from tinygrad_attn.kernels.rmsnorm import rms_norm_backward
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import floating, only_floats
from tinygrad_attn.ops.fused.normalize import check_normalized, in_shape, rows_of, sizes_of_rows
from tinygrad_attn.ops.pointwise import add, mul, rsqrt, square
from tinygrad_attn.ops.reduction import mean
from tinygrad_attn.public import public
from tinygrad_attn.rule import once_per_node
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["rms_norm"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    normalized = draw.shape((1, 2), (1, 4)) if draw.integer(0, 9) else (0,)
    weight = draw.floats(normalized) if draw.boolean() else None
    # eps keeps rows near 0 smooth at the scale of a finite difference.
    options = {"normalized_shape": normalized, "eps": draw.choice([0.1, 0.5])}
    return Sample((draw.floats((*draw.shape((0, 2)), *normalized)), weight), options)


_square = np.ones((2, 3))


@op(
    r"z = \hat x \odot w, \quad \hat x = \rho\,x, \quad \rho = 1/\sqrt{\operatorname{mean} x^2 + \epsilon}",
    samples=_samples,
    errors=[
        ErrorSample((_square, None), {"normalized_shape": (4,), "eps": 0.1}, ValueError, r"\(4,\).* \(2, 3\)"),
        ErrorSample(
            (_square, np.ones(2)), {"normalized_shape": (3,), "eps": 0.1}, ValueError, r"weight must .*\(3,\).* \(2,\)"
        ),
        ErrorSample((_square, None), {"normalized_shape": (), "eps": 0.1}, ValueError, "at least one axis"),
    ],
    saves=("factors",),
    symbols={"w": "weight", r"\epsilon": "eps"},
)
def _rms_norm(
    input: Array, weight: Array | None = None, /, *, normalized_shape: tuple[int, ...], eps: float
) -> tuple[Array, Array]:
    """`rms_norm` with its operands first; saves each row's 1 / sqrt(mean square + eps)."""
    only_floats("rms_norm", input)
    check_normalized("rms_norm", input.shape, normalized_shape, weight=weight)
    if not math.prod(normalized_shape):
        nothing = np.empty(input.shape, input.dtype)
        return nothing, nothing
    z, factors = rms_norm_kernel(rows_of(input, normalized_shape), None if weight is None else weight.reshape(-1), eps)
    return in_shape(z, input.shape), factors


@once_per_node
def _standardize(x: Tensor, normalized_shape: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
    """x̂ of root mean square 1, and ρ, what x was multiplied by."""
    dims = tuple(range(-len(normalized_shape), 0))
    factor = rsqrt(add(mean(square(x), dims, keepdim=True), eps))
    return mul(x, factor), factor


def _input_gradient(
    g: Tensor, input: Tensor, weight: Tensor | None, normalized_shape: tuple[int, ...], eps: float
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    standard, factor = _standardize(input, normalized_shape, eps)
    h = g if weight is None else g * weight
    return factor * (h - standard * mean(h * standard, dims, keepdim=True))


# The engine sums the gradient of weight over the rows to which it was broadcast.
_rms_norm.vjp(
    "input",
    r"\rho\,(h - \hat x \odot \operatorname{mean}(h \odot \hat x)), \quad h = \bar z \odot w",
    _input_gradient,
)
_rms_norm.vjp(
    "weight",
    r"\textstyle\sum_{\text{rows}} \bar z \odot \hat x",
    lambda g, input, normalized_shape, eps: g * _standardize(input, normalized_shape, eps)[0],
)


@_rms_norm.composed_of
def _reference(input: Tensor, weight: Tensor | None, normalized_shape: tuple[int, ...], eps: float) -> Tensor:
    check_normalized("rms_norm", input.shape, normalized_shape, weight=weight)
    result, _ = _standardize(input, normalized_shape, eps)
    return result if weight is None else mul(result, weight)


@_rms_norm.kernel
def _gradients(
    g: Array, input: Array, weight: Array | None, factors: Array, normalized_shape: tuple[int, ...]
) -> tuple[Array, Array]:
    if not math.prod(normalized_shape):
        return np.zeros(g.shape, g.dtype), np.zeros(normalized_shape, g.dtype)
    rows = (rows_of(g, normalized_shape), rows_of(input, normalized_shape))
    for_input, for_weight = rms_norm_backward(*rows, None if weight is None else weight.reshape(-1), factors)
    return in_shape(for_input, input.shape), in_shape(for_weight, normalized_shape)


@public("F")
def rms_norm(input: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Tensor:
    r"""Divide the last axes by their root mean square, then multiply by ``weight``.

    Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019. The result is
    :math:`x ⊙ w / \sqrt{\operatorname{mean} x^2 + ε}`.

    Args:
        input: ``(..., *normalized_shape)``.
        normalized_shape: the sizes of the axes that are normalised together.
        weight: ``normalized_shape``; 1 if None.
        eps: added to the mean square; the dtype's machine epsilon if None.

    Returns:
        The shape of ``input``.

    Raises:
        ValueError: a shape that does not fit ``normalized_shape``.
        TypeError: the input holds no floats.
    """
    input = floating("rms_norm", "input", input)
    if eps is None:
        eps = float(np.finfo(input.dtype).eps)
    return _rms_norm(input, weight, normalized_shape=sizes_of_rows("rms_norm", normalized_shape), eps=eps)
