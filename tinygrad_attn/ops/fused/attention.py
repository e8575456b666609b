"""Scaled dot-product attention: softmax(Q Kᵀ / √d) V, with masks, and its derivative.

The op runs as one kernel that never stores the weights of all queries, for a bias of the scores too. If the weights
are to be returned, or the bias requires a gradient, the primitives of `weights_and_output` run instead, which are also
the reference.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.kernels.attention import tiled as kernels
from tinygrad_attn.modes import current_modes, mark
from tinygrad_attn.op import cast, op
from tinygrad_attn.ops.arguments import as_tensor, floating, only_floats
from tinygrad_attn.ops.comparison import logical_and, ne
from tinygrad_attn.ops.dropout import drop_by_key, new_key_for, probability
from tinygrad_attn.ops.fused.attention_operands import (
    check_mask,
    check_operands,
    group_size,
    repeated,
    repeated_shape,
    summed,
)
from tinygrad_attn.ops.fused.softmax import masked_softmax, softmax
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.pointwise import add, mul, where
from tinygrad_attn.ops.quiet import quiet
from tinygrad_attn.ops.reduction import sum
from tinygrad_attn.ops.shape import transpose
from tinygrad_attn.public import public
from tinygrad_attn.rule import once_per_node
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = [
    "LEFT_BY_MASK",
    "attention",
    "key_gradient",
    "query_gradient",
    "scaled_dot_product_attention",
    "value_gradient",
    "weights_and_output",
]

Array = np.ndarray[Any, Any]

_NAME = "scaled_dot_product_attention"

LEFT_BY_MASK = r"\text{ over what the mask leaves}"
_FORWARD = rf"z = (P \odot m) V, \quad P = \operatorname{{softmax}}(s\,Q K^\top + b) {LEFT_BY_MASK}"
_SCORES = r"\bar S = s\,P \odot (m \odot \bar z V^\top - \operatorname{rowsum}(P \odot m \odot \bar z V^\top))"


def _samples(draw: Draw) -> Sample:
    queries, keys, width, value_width = (draw.integer(0, 3), *(draw.integer(1, 4) for _ in range(3)))
    leading = draw.shape((0, 3), (0, 2))
    shapes = ((queries, width), (keys, width), (keys, value_width))
    groups = draw.choice([1, 1, 2])
    own = leading if groups == 1 else (*leading, 2 * groups)
    shared = (lambda: draw.broadcastable(leading)) if groups == 1 else (lambda: (*leading, 2))
    operands = [draw.floats((*(own if i == 0 else shared()), *shapes[i])) for i in range(3)]
    mask = draw.mask(draw.broadcastable((*own, queries, keys))) if draw.boolean() else None
    options = {"dropout_p": 0.4, "dropout_key": draw.integer(0, 2**63 - 1)} if draw.boolean() else {}
    options |= {"is_causal": draw.boolean(), "scale": draw.choice([0.5, 1.0]), "groups": groups}
    return Sample((*operands, mask), options)


@op(
    _FORWARD,
    samples=_samples,
    errors=[
        ErrorSample((np.ones((2, 3)), np.ones((4, 2)), np.ones((4, 1)), None), {"scale": 1.0}, ValueError, "3 and 2"),
        ErrorSample(
            (np.ones((2, 3)), np.ones((4, 3)), np.ones((5, 1)), None), {"scale": 1.0}, ValueError, "4 keys, 5 values"
        ),
        ErrorSample((np.ones(3), np.ones((4, 3)), np.ones((4, 1)), None), {"scale": 1.0}, ValueError, "two axes"),
    ],
    saves=("tops", "factors"),
    symbols={
        "Q": "query",
        "K": ("key", "groups"),
        "V": ("value", "groups"),
        "s": "scale",
        "m": ("dropout_p", "dropout_key"),
        "b": "bias",
        r"\text{group}": "groups",
        LEFT_BY_MASK: ("mask", "is_causal"),
    },
)
@quiet
def _scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None = None,
    bias: Array | None = None,
    /,
    *,
    is_causal: bool = False,
    scale: float,
    dropout_p: float = 0.0,
    dropout_key: int = 0,
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """`scaled_dot_product_attention` with a bool mask or none, and a constant bias b of the scores or none.

    Of the query's heads ``groups`` that follow each other share the head of key and value.

    Dropout multiplies the weights by m, 0 with probability p < 1 and else 1 / (1 - p), as `dropout` does by its key.

    Saves, for each row of scores, the maximum and the reciprocal of the sum of exponentials.
    """
    only_floats("scaled_dot_product_attention", query)
    scores = check_operands(query, key, value, groups)
    leading, of_values = scores[:-2], repeated_shape(value, groups)[:-2]
    if of_values != leading:
        leading = np.broadcast_shapes(leading, of_values)
    shared = leading if groups == 1 else (*leading[:-1], leading[-1] // groups)
    z = np.empty((*leading, query.shape[-2], value.shape[-1]), query.dtype)
    dropped = kernels.Dropout(dropout_p, dropout_key) if dropout_p else None
    if mask is None and bias is None and _are_heads(leading, query, key, value):
        options: dict[str, Any] = {"causal": is_causal, "scale": scale, "dropout": dropped}
        return z, *kernels.attention(query, key, value, z, **options)
    if mask is not None:
        check_mask(mask, scores, (np.bool_,), f"{_NAME}: mask")
    if bias is not None:
        check_mask(bias, scores, (query.dtype,), f"{_NAME}: bias")
    mask, bias = (_of_four_axes(array, scores[:-2]) for array in (mask, bias))
    query, key, value = _heads(query, leading), _heads(key, shared), _heads(value, shared)
    tops, factors = kernels.attention(
        query, key, value, _heads(z, leading), mask, bias, causal=is_causal, scale=scale, dropout=dropped
    )
    return z, tops, factors


def _are_heads(leading: tuple[int, ...], query: Array, key: Array, value: Array) -> bool:
    """Whether all have these leading axes, which are two: as in most calls, whose arrays are used as they are."""
    return len(leading) == 2 and query.shape[:-2] == key.shape[:-2] == value.shape[:-2] == leading


def _heads(array: Array, leading: tuple[int, ...]) -> Array:
    """The array with its leading axes broadcast to ``leading`` and reshaped to two, before the last two axes."""
    if array.shape[:-2] != leading:
        array = np.broadcast_to(array, (*leading, *array.shape[-2:]))
    if len(leading) == 2:
        return array
    if len(leading) < 2:
        return array[(None,) * (2 - len(leading))]
    return array.reshape(math.prod(leading[:-1]), leading[-1], *array.shape[-2:])


def _of_four_axes(mask: Array | None, leading: tuple[int, ...]) -> Array | None:
    return mask if mask is None or mask.ndim <= 4 else _heads(mask, leading)


@once_per_node
def _weights(
    query: Tensor, key: Tensor, mask: Tensor | None, bias: Tensor | None, is_causal: bool, scale: float, groups: int
) -> Tensor:
    """P, for a bool mask or none."""
    scores = matmul(mul(query, scale), transpose(repeated(key, groups), -2, -1))
    if bias is not None:
        scores, mask = _biased(scores, mask, bias)
    mask = _combine(mask, is_causal, scores)
    return softmax(scores, -1) if mask is None else masked_softmax(scores, mask, dim=-1)


def query_gradient(
    g: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    is_causal: bool,
    scale: float,
    dropout_p: float,
    dropout_key: int,
    groups: int,
) -> Tensor:
    of_scores = _scores_gradient(g, query, key, value, mask, bias, is_causal, scale, dropout_p, dropout_key, groups)
    return matmul(of_scores, repeated(key, groups))


def key_gradient(
    g: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    is_causal: bool,
    scale: float,
    dropout_p: float,
    dropout_key: int,
    groups: int,
) -> Tensor:
    of_scores = _scores_gradient(g, query, key, value, mask, bias, is_causal, scale, dropout_p, dropout_key, groups)
    return summed(matmul(transpose(of_scores, -2, -1), query), groups)


def value_gradient(
    g: Tensor,
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    is_causal: bool,
    scale: float,
    dropout_p: float,
    dropout_key: int,
    groups: int,
) -> Tensor:
    weights = drop_by_key(_weights(query, key, mask, bias, is_causal, scale, groups), dropout_p, dropout_key)
    return summed(matmul(transpose(weights, -2, -1), g), groups)


@once_per_node
def _scores_gradient(
    g: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    is_causal: bool,
    scale: float,
    dropout_p: float,
    dropout_key: int,
    groups: int,
) -> Tensor:
    """S̄, the gradient of Q Kᵀ."""
    weights = _weights(query, key, mask, bias, is_causal, scale, groups)
    arrived = drop_by_key(matmul(g, transpose(repeated(value, groups), -2, -1)), dropout_p, dropout_key)
    return scale * weights * (arrived - sum(weights * arrived, -1, keepdim=True))


_scaled_dot_product_attention.vjp("query", rf"\bar S K, \quad {_SCORES}", query_gradient)
_scaled_dot_product_attention.vjp(
    "key", rf"\textstyle\sum_{{\text{{group}}}} \bar S^\top Q, \quad {_SCORES}", key_gradient
)
_scaled_dot_product_attention.vjp("value", r"\textstyle\sum_{\text{group}} (P \odot m)^\top \bar z", value_gradient)


@_scaled_dot_product_attention.composed_of
def _reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    is_causal: bool,
    scale: float,
    dropout_p: float,
    dropout_key: int,
    groups: int,
) -> Tensor:
    return weights_and_output(query, key, value, mask, bias, is_causal, scale, dropout_p, dropout_key, groups)[1]


@_scaled_dot_product_attention.kernel
def _gradients(
    g: Array,
    z: Array,
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    bias: Array | None,
    tops: Array,
    factors: Array,
    is_causal: bool,
    scale: float,
    dropout_p: float,
    dropout_key: int,
    groups: int,
) -> tuple[Array, Array, Array, None, None]:
    leading = g.shape[:-2]
    options: dict[str, Any] = {"causal": is_causal, "scale": scale}
    options["dropout"] = kernels.Dropout(dropout_p, dropout_key) if dropout_p else None
    if mask is None and bias is None and _are_heads(leading, query, key, value):
        dq, dk, dv = (np.empty(array.shape, g.dtype) for array in (query, key, value))
        kernels.attention_backward(g, (query, key, value), (z, tops, factors), (dq, dk, dv), **options)
        return dq, dk, dv, None, None
    shared = leading if groups == 1 else (*leading[:-1], leading[-1] // groups)
    mask, bias = (_of_four_axes(array, leading) for array in (mask, bias))
    dq = np.empty((*leading, *query.shape[-2:]), g.dtype)
    dk, dv = (np.empty((*shared, *array.shape[-2:]), g.dtype) for array in (key, value))
    inputs = (_heads(query, leading), _heads(key, shared), _heads(value, shared))
    written = (_heads(dq, leading), _heads(dk, shared), _heads(dv, shared))
    attended = (_heads(z, leading), tops, factors)
    kernels.attention_backward(_heads(g, leading), inputs, attended, written, mask, bias, **options)
    return dq, dk, dv, None, None


attention = _scaled_dot_product_attention
"""The op itself: a bool mask or none, a constant bias or none."""


@public("F")
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    need_weights: bool = False,
) -> Any:
    r"""The weighted sum of the values for each query: :math:`\operatorname{softmax}(s\,QK^T + M)\,V`.

    Vaswani et al., "Attention Is All You Need", 2017. The leading axes (batch, heads) broadcast.

    A query whose keys are all masked gets output, weights and gradients of 0.

    Args:
        query: ``(..., L, E)``, float32 or float64, as are all the others; ``(..., H, L, E)`` with ``enable_gqa``.
        key: ``(..., S, E)``, or ``(..., H / G, S, E)``.
        value: ``(..., S, V)``, or ``(..., H / G, S, V)``.
        attn_mask: broadcastable to ``(..., L, S)``. Bool: True where a query may attend to a key. Floats: added to the
            scores; -inf masks a key. They may require a gradient, for which all weights are stored.
        dropout_p: the probability of dropping a weight; it applies in evaluation mode too.
        is_causal: query i attends only to keys 0 to i; not together with ``attn_mask``.
        scale: s; :math:`1/\sqrt{E}` if None.
        enable_gqa: grouped-query attention (Ainslie et al., "GQA", 2023): G query heads that follow each other share a
            head of key and value, which is not copied.
        need_weights: return the weights too.

    Returns:
        The output ``(..., L, V)``; with ``need_weights`` a pair: the output, and the weights ``(..., L, S)`` that
        multiplied the values (after dropout).

    Raises:
        ValueError: sizes that do not fit together, a mask that does not broadcast to the scores, or both a mask and
            ``is_causal``.
        TypeError: a mask that is neither bool nor floats; or float64, with a query of float32.
    """
    query, key, value = floating(_NAME, "query", query), floating(_NAME, "key", key), floating(_NAME, "value", value)
    if scale is None:
        scale = 1.0 / math.sqrt(query.shape[-1] or 1) if query.ndim else 1.0
    if attn_mask is None and isinstance(dropout_p, float) and not (dropout_p or need_weights or enable_gqa):
        return _scaled_dot_product_attention(query, key, value, None, None, is_causal=is_causal, scale=scale)
    groups = group_size(query, key, value) if enable_gqa else 1
    scores_shape = check_operands(query, key, value, groups)
    if is_causal and attn_mask is not None:
        raise ValueError(f"{_NAME}: give attn_mask or is_causal, not both; combine the masks with &")
    mask = None if attn_mask is None else _given_mask(attn_mask, scores_shape, query.dtype)
    dropout_p = probability(_NAME, "dropout_p", dropout_p)
    options: dict[str, Any] = {"is_causal": is_causal, "scale": scale, "groups": groups}
    options |= {"dropout_p": dropout_p, "dropout_key": new_key_for(dropout_p)}
    bias = None
    if mask is not None and mask.dtype != np.bool_:
        mask, bias = None, mask
    if need_weights or dropout_p == 1.0 or (bias is not None and bias.requires_grad):
        weights, output = weights_and_output(query, key, value, mask, bias, **options)
        return (output, weights) if need_weights else output
    return _scaled_dot_product_attention(query, key, value, mask, bias, **options)


def _given_mask(attn_mask: Any, scores: tuple[int, ...], dtype: Any) -> Tensor:
    mask = as_tensor(attn_mask, f"{_NAME}: attn_mask")
    if (dtype, mask.dtype) == (np.float64, np.float32):
        mask = cast(mask, dtype=dtype)
    check_mask(mask, scores, (np.bool_, dtype), f"{_NAME}: attn_mask")
    return mask


def weights_and_output(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    is_causal: bool,
    scale: float,
    dropout_p: float = 0.0,
    dropout_key: int = 0,
    groups: int = 1,
) -> tuple[Tensor, Tensor]:
    """Attention in primitives, and its weights; the mask is bool, the bias is added to the scores."""
    query, key, value = mark("query", query), repeated(key, groups), repeated(value, groups)
    key, value = mark("key", key), mark("value", value)
    # The queries are scaled instead of the scores: they have fewer elements.
    scores = matmul(mul(query, scale), transpose(key, -2, -1))
    role = {"role": "causal"} if is_causal else {}
    score = "scaled_dot"
    if bias is not None:
        before = scores
        scores, mask = _biased(scores, mask, bias)
        if current_modes().observers and not np.array_equal(before.array, scores.array):
            score = "biased_dot"
    scores = mark("scores", scores, score=score, scale=scale, **role)
    mask = _combine(mask, is_causal, scores)
    if mask is not None:
        mask = mark("mask", mask)
    weights = softmax(scores, -1) if mask is None else masked_softmax(scores, mask, dim=-1)
    weights = mark("weights", drop_by_key(weights, dropout_p, dropout_key))
    return weights, mark("context", matmul(weights, value))


def _biased(scores: Tensor, mask: Tensor | None, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The scores with their bias, and the mask of what it does not hide by -inf; nothing is added there."""
    seen = ne(bias, -math.inf)
    return add(scores, where(seen, bias, 0.0)), seen if mask is None else logical_and(mask, seen)


def _combine(mask: Tensor | None, is_causal: bool, scores: Tensor) -> Tensor | None:
    """The bool mask of ``scores``, combined with the causal mask."""
    if not is_causal:
        return mask
    earlier = Tensor(np.tri(*scores.shape[-2:], dtype=np.bool_))
    return earlier if mask is None else logical_and(mask, earlier)
