"""residual_layer_norm: a residual sum and its layer norm in one pass, from one pre-norm sublayer to the next."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.kernels.layernorm import layer_norm as layer_norm_kernel
from tinygrad_attn.kernels.layernorm import layer_norm_backward
from tinygrad_attn.op import op
from tinygrad_attn.ops.fused.normalize import (
    ADD_LAYER_NORM_ERRORS,
    add_layer_norm_samples,
    check_normalized,
    check_residual,
    flat,
    in_shape,
    layer_norm,
    rows_of,
    standardize,
    standardize_gradient,
)
from tinygrad_attn.ops.pointwise import add, mul
from tinygrad_attn.tensor import Tensor

__all__ = ["residual_layer_norm"]

Array = np.ndarray[Any, Any]
Arrived = tuple[Tensor | None, Tensor | None]


@op(
    r"s = x + r, \quad z = \hat s \odot w + b, \quad \hat s = (s - \mu)\,\rho, \quad \mu = \operatorname{mean} s, "
    r"\quad \rho = 1/\sqrt{\operatorname{mean} (s - \mu)^2 + \epsilon}",
    samples=add_layer_norm_samples,
    errors=ADD_LAYER_NORM_ERRORS,
    outputs=2,
    saves=("means", "rstds"),
    symbols={"r": "residual", "w": "weight", "b": "bias", r"\epsilon": "eps"},
)
def residual_layer_norm(
    input: Array,
    residual: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    /,
    *,
    normalized_shape: tuple[int, ...],
    eps: float = 1e-5,
) -> tuple[Array, Array, Array, Array]:
    """``s = input + residual`` and ``layer_norm(s, …)`` in one pass: between sublayers whose norms come first.

    Args:
        input: ``(..., *normalized_shape)``, the sublayer's output.
        residual: the stream past the sublayer, of the same shape.
        normalized_shape: a tuple; weight, bias, eps: as in `tinygrad_attn.ops.fused.normalize.layer_norm`.

    Returns:
        The sum and the normalised sum, each of ``input``'s shape.

    Raises:
        ValueError: a shape that does not fit ``normalized_shape``, or ``input``'s and ``residual``'s differ.
    """
    check_residual("residual_layer_norm", input, residual)
    check_normalized("residual_layer_norm", input.shape, normalized_shape, weight=weight, bias=bias)
    if not math.prod(normalized_shape):
        nothing = np.empty(input.shape, input.dtype)
        return nothing, nothing.copy(), nothing, nothing
    rows, others = rows_of(input, normalized_shape), rows_of(residual, normalized_shape)
    total = np.empty(rows.shape, rows.dtype)
    z, means, rstds = layer_norm_kernel(rows, flat(weight), flat(bias), eps, others, total)
    return in_shape(total, input.shape), in_shape(z, input.shape), means, rstds


def _sum_gradient(
    g: Arrived, z: tuple[Tensor, Tensor], weight: Tensor | None, normalized_shape: tuple[int, ...], eps: float
) -> Tensor | None:
    if g[1] is None:
        return g[0]
    through_norm = standardize_gradient(g[1], z[0], weight, normalized_shape, eps)
    return through_norm if g[0] is None else add(g[0], through_norm)


def _weight_gradient(
    g: Arrived, z: tuple[Tensor, Tensor], normalized_shape: tuple[int, ...], eps: float
) -> Tensor | None:
    return None if g[1] is None else mul(g[1], standardize(z[0], normalized_shape, eps)[0])


_SUM_RULE = (
    r"\bar s + \rho\,(h - \operatorname{mean} h - \hat s \odot \operatorname{mean}(h \odot \hat s)), "
    r"\quad h = \bar z \odot w"
)
residual_layer_norm.vjp("input", _SUM_RULE, _sum_gradient)
residual_layer_norm.vjp("residual", _SUM_RULE, _sum_gradient)
residual_layer_norm.vjp("weight", r"\textstyle\sum_{\text{rows}} \bar z \odot \hat s", _weight_gradient)
residual_layer_norm.vjp("bias", r"\textstyle\sum_{\text{rows}} \bar z", lambda g: g[1])


@residual_layer_norm.composed_of
def _reference(
    input: Tensor,
    residual: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> tuple[Tensor, Tensor]:
    check_residual("residual_layer_norm", input, residual)
    total = add(input, residual)
    return total, layer_norm(total, normalized_shape, weight, bias, eps)


@residual_layer_norm.kernel
def _gradients(
    g: tuple[Array | None, Array | None],
    z: tuple[Array, Array],
    weight: Array | None,
    means: Array,
    rstds: Array,
    normalized_shape: tuple[int, ...],
) -> tuple[Array | None, ...]:
    of_sum, of_norm = g
    total = z[0]
    if of_norm is None or not math.prod(normalized_shape):
        nothing = np.zeros(normalized_shape, total.dtype)
        return of_sum, of_sum, nothing, nothing.copy()
    rows, terms = rows_of(of_norm, normalized_shape), rows_of(total, normalized_shape)
    added = None if of_sum is None else rows_of(of_sum, normalized_shape)
    for_sum, for_weight, for_bias = layer_norm_backward(rows, terms, flat(weight), means, rstds, added=added)
    # One array is the gradient of two operands: returned as views, so that the engine adds to neither in place.
    for_sum = for_sum.reshape(total.shape)
    return for_sum[...], for_sum[...], in_shape(for_weight, normalized_shape), in_shape(for_bias, normalized_shape)
