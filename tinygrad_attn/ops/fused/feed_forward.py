"""feed_forward: a Transformer's feed-forward network, two linear maps with an activation between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.kernels import feed_forward as kernels
from tinygrad_attn.op import op
from tinygrad_attn.ops.fused.linear import (
    activated_gradient,
    activated_linear,
    activated_samples,
    activation_gradient,
    linear,
    linear_gradients,
    outer_sum,
    row_sum,
)
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.rule import once_per_node
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["feed_forward"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    sample = activated_samples(draw)
    input, weight1, bias1 = sample.operands
    outputs = draw.integer(0, 4)
    bias2 = draw.floats((outputs,)) if draw.boolean() else None
    return Sample((input, weight1, draw.floats((outputs, weight1.shape[0])), bias1, bias2), sample.options)


_x, _w1, _w2 = np.ones((2, 3)), np.ones((5, 3)), np.ones((4, 5))


@op(
    r"z = u\,W^\top + c, \quad u = \phi(a), \quad a = x\,U^\top + b",
    samples=_samples,
    errors=[
        ErrorSample((_x, np.ones((5, 4)), _w2), {"activation": "relu"}, ValueError, "input has size 3"),
        ErrorSample((_x, _w1, np.ones((4, 6))), {"activation": "relu"}, ValueError, "input has size 5"),
        ErrorSample((_x, _w1, _w2, np.ones(3)), {"activation": "gelu"}, ValueError, r"bias must have shape \(5,\)"),
        ErrorSample((_x, _w1, _w2), {"activation": "tanh"}, ValueError, "relu, gelu.*'tanh'"),
    ],
    saves=("inner", "slopes"),
    symbols={"U": "weight1", "W": "weight2", "b": "bias1", "c": "bias2", r"\phi": "activation"},
)
def feed_forward(
    input: Array,
    weight1: Array,
    weight2: Array,
    bias1: Array | None = None,
    bias2: Array | None = None,
    /,
    *,
    activation: str,
) -> tuple[Array, Array, Array | None]:
    """`linear` of `activated_linear`, the same for all leading axes.

    Vaswani et al., "Attention Is All You Need", 2017, section 3.3. Kept for backward are u and, for gelu, φ'(a).

    Args:
        input: ``(..., in)``.
        weight1: ``(inner, in)``.
        weight2: ``(out, inner)``.
        bias1: ``(inner,)``, or None.
        bias2: ``(out,)``, or None.
        activation: "relu" or "gelu".

    Returns:
        ``(..., out)``.

    Raises:
        ValueError: other shapes, or another activation.
    """
    if activation in ("relu", "gelu"):
        found = kernels.feed_forward(input, weight1, bias1, weight2, bias2, activation)
        if found is not None:
            return found
    inner, slopes = activated_linear.forward(input, weight1, bias1, activation=activation)
    return linear.forward(inner, weight2, bias2), inner, slopes


@once_per_node
def _inner(input: Tensor, weight1: Tensor, bias1: Tensor | None, activation: str) -> Tensor:
    return activated_linear(input, weight1, bias1, activation=activation)


@once_per_node
def _before_gradient(
    g: Tensor, input: Tensor, weight1: Tensor, weight2: Tensor, bias1: Tensor | None, activation: str
) -> Tensor:
    """ā, the gradient of the activation's input."""
    return activation_gradient(matmul(g, weight2), linear(input, weight1, bias1), activation)


_BEFORE = r"\quad \bar a = \bar z\,W \odot \phi'(a)"
feed_forward.vjp(
    "input",
    rf"\bar a\,U, {_BEFORE}",
    lambda g, input, weight1, weight2, bias1, activation: matmul(
        _before_gradient(g, input, weight1, weight2, bias1, activation), weight1
    ),
)
feed_forward.vjp(
    "weight1",
    rf"\textstyle\sum_{{\text{{rows}}}} \bar a\,x^\top, {_BEFORE}",
    lambda g, input, weight1, weight2, bias1, activation: outer_sum(
        _before_gradient(g, input, weight1, weight2, bias1, activation), input
    ),
)
feed_forward.vjp(
    "weight2",
    r"\textstyle\sum_{\text{rows}} \bar z\,u^\top",
    lambda g, input, weight1, bias1, activation: outer_sum(g, _inner(input, weight1, bias1, activation)),
)
feed_forward.vjp(
    "bias1",
    rf"\textstyle\sum_{{\text{{rows}}}} \bar a, {_BEFORE}",
    lambda g, input, weight1, weight2, bias1, activation: row_sum(
        _before_gradient(g, input, weight1, weight2, bias1, activation)
    ),
)
feed_forward.vjp("bias2", r"\textstyle\sum_{\text{rows}} \bar z", row_sum)


@feed_forward.composed_of
def _reference(
    input: Tensor, weight1: Tensor, weight2: Tensor, bias1: Tensor | None, bias2: Tensor | None, activation: str
) -> Tensor:
    return linear(activated_linear(input, weight1, bias1, activation=activation), weight2, bias2)


@feed_forward.kernel
def _gradients(
    g: Array,
    input: Array,
    weight1: Array,
    weight2: Array,
    inner: Array,
    slopes: Array | None,
    needs: tuple[bool, bool, bool, bool, bool],
) -> tuple[Array | None, ...]:
    found = kernels.feed_forward_backward(g, input, (weight1, weight2), inner, slopes, needs)
    if found is not None:
        return found
    of_first = needs[0] or needs[1] or needs[3]
    for_inner, for_weight2, for_bias2 = linear_gradients(g, inner, weight2, (of_first, needs[2], needs[4]))
    if for_inner is None:
        return None, None, for_weight2, None, for_bias2
    before = activated_gradient(for_inner, inner, slopes)
    for_input, for_weight1, for_bias1 = linear_gradients(before, input, weight1, (needs[0], needs[1], needs[3]))
    return for_input, for_weight1, for_weight2, for_bias1, for_bias2
