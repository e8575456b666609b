"""Scaled dot-product attention: score, mask, softmax, weighted sum; of one head, and of many in one projection.

Both ops run as one kernel that never holds the weights of all queries. Where the weights are asked for, or dropped, or
the mask has floats to add, the same is done in the primitives of `_weights_and_output`, which is also the reference.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.kernels.attention import tiled as kernels
from tinygrad_attn.kernels.attention.step import attention_of_one
from tinygrad_attn.modes import mark
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import as_tensor, floating
from tinygrad_attn.ops.comparison import logical_and, ne
from tinygrad_attn.ops.dropout import dropout
from tinygrad_attn.ops.fused.softmax import masked_softmax, softmax
from tinygrad_attn.ops.joining import cat, chunk
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.pointwise import add, mul, quiet
from tinygrad_attn.ops.reduction import sum
from tinygrad_attn.ops.shape import permute, reshape, transpose
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["multihead_attention", "scaled_dot_product_attention"]

Array = np.ndarray[Any, Any]

_NAME = "scaled_dot_product_attention"

_LEFT_BY_MASK = r"\text{ over what the mask leaves}"
_FORWARD = rf"z = P V, \quad P = \operatorname{{softmax}}(s\,Q K^\top) {_LEFT_BY_MASK}"
_SCORES = r"\bar S = s\,P \odot (\bar z V^\top - \operatorname{rowsum}(P \odot \bar z V^\top))"


# -- query, key and value ----------------------------------------------------------------------------------------------


def _samples(draw: Draw) -> Sample:
    queries, keys, width, value_width = (draw.integer(0, 3), *(draw.integer(1, 4) for _ in range(3)))
    leading = draw.shape((0, 3), (0, 2))
    shapes = ((queries, width), (keys, width), (keys, value_width))
    operands = [draw.floats((*(leading if i == 0 else draw.broadcastable(leading)), *shapes[i])) for i in range(3)]
    mask = draw.mask(draw.broadcastable((*leading, queries, keys))) if draw.boolean() else None
    return Sample((*operands, mask), {"is_causal": draw.boolean(), "scale": draw.choice([0.5, 1.0])})


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
    symbols={"Q": "query", "K": "key", "V": "value", "s": "scale", _LEFT_BY_MASK: ("mask", "is_causal")},
)
@quiet
def _scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None = None,
    /,
    *,
    is_causal: bool = False,
    scale: float,
) -> tuple[Array, Array, Array]:
    """`scaled_dot_product_attention` with a bool mask or none. Saves of each row of scores the largest and the
    reciprocal of the sum of exponentials."""
    scores = _check_operands(query, key, value)
    leading = np.broadcast_shapes(scores[:-2], value.shape[:-2])
    z = np.empty((*leading, query.shape[-2], value.shape[-1]), query.dtype)
    if mask is not None:
        _check_mask(mask, scores, np.bool_)
        if mask.ndim > 4:
            mask = _heads(mask, scores[:-2])
    query, key, value = (_heads(array, leading) for array in (query, key, value))
    tops, factors = kernels.attention(query, key, value, _heads(z, leading), mask, causal=is_causal, scale=scale)
    return z, tops, factors


def _heads(array: Array, leading: tuple[int, ...]) -> Array:
    """The array with two axes before the last two, to which its own are broadcast and joined."""
    if array.shape[:-2] != leading:
        array = np.broadcast_to(array, (*leading, *array.shape[-2:]))
    if len(leading) == 2:
        return array
    if len(leading) < 2:
        return array[(None,) * (2 - len(leading))]
    return array.reshape(math.prod(leading[:-1]), leading[-1], *array.shape[-2:])


def _weights(query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float) -> Tensor:
    """P, for a bool mask or none."""
    scores = matmul(mul(query, scale), transpose(key, -2, -1))
    mask = _combine(mask, is_causal, scores)
    return softmax(scores, -1) if mask is None else masked_softmax(scores, mask, dim=-1)


def _query_gradient(
    g: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool, scale: float
) -> Tensor:
    return matmul(_scores_gradient(g, query, key, value, mask, is_causal, scale), key)


def _key_gradient(
    g: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool, scale: float
) -> Tensor:
    return matmul(transpose(_scores_gradient(g, query, key, value, mask, is_causal, scale), -2, -1), query)


def _value_gradient(
    g: Tensor, query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float
) -> Tensor:
    return matmul(transpose(_weights(query, key, mask, is_causal, scale), -2, -1), g)


def _scores_gradient(
    g: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool, scale: float
) -> Tensor:
    """S̄, the gradient of Q Kᵀ."""
    weights = _weights(query, key, mask, is_causal, scale)
    arrived = matmul(g, transpose(value, -2, -1))
    return scale * weights * (arrived - sum(weights * arrived, -1, keepdim=True))


_scaled_dot_product_attention.vjp("query", rf"\bar S K, \quad {_SCORES}", _query_gradient)
_scaled_dot_product_attention.vjp("key", rf"\bar S^\top Q, \quad {_SCORES}", _key_gradient)
_scaled_dot_product_attention.vjp("value", r"P^\top \bar z", _value_gradient)


@_scaled_dot_product_attention.composed_of
def _reference(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool, scale: float) -> Tensor:
    return _weights_and_output(query, key, value, mask, is_causal, scale)[1]


@_scaled_dot_product_attention.kernel
def _gradients(
    g: Array,
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    tops: Array,
    factors: Array,
    is_causal: bool,
    scale: float,
) -> tuple[Array, Array, Array, None]:
    leading = g.shape[:-2]
    if mask is not None and mask.ndim > 4:
        mask = _heads(mask, leading)
    dq, dk, dv = (np.empty((*leading, *array.shape[-2:]), g.dtype) for array in (query, key, value))
    g, query, key, value = (_heads(array, leading) for array in (g, query, key, value))
    written = (_heads(dq, leading), _heads(dk, leading), _heads(dv, leading))
    kernels.attention_backward(g, query, key, value, tops, factors, written, mask, causal=is_causal, scale=scale)
    return dq, dk, dv, None


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
    r"""Mix the values by how well their keys answer each query: :math:`\operatorname{softmax}(s\,QK^T + M)\,V`.

    Vaswani et al., "Attention Is All You Need", 2017. The leading axes (batch, heads) broadcast.

    Differs from PyTorch in a row of the mask that leaves nothing to attend to: its output and weights are 0, with zero
    gradient, and not nan.

    Args:
        query: ``(..., L, E)``, float32 or float64, as are all the others.
        key: ``(..., S, E)``.
        value: ``(..., S, V)``.
        attn_mask: broadcastable to ``(..., L, S)``. Bool: True where a query may attend to a key. Floats: added to the
            scores; -inf keeps a query from a key. They may require a gradient.
        dropout_p: the probability with which a weight is dropped, whatever mode a module is in.
        is_causal: let query i attend to keys 0 to i only; in place of ``attn_mask``.
        scale: s; :math:`1/\sqrt{E}` if None.
        need_weights: return the weights too.

    Returns:
        The output ``(..., L, V)``; with ``need_weights`` the pair of it and the weights ``(..., L, S)``, those that
        multiplied the values: after dropout.

    Raises:
        ValueError: sizes that do not fit together, a mask that does not broadcast to the scores, or both a mask and
            ``is_causal``.
        TypeError: a mask that is neither bool nor of the query's dtype.
        NotImplementedError: ``enable_gqa``.
    """
    if enable_gqa:
        raise NotImplementedError(f"{_NAME}: enable_gqa is not supported; repeat the heads of key and value")
    query, key, value = floating(_NAME, "query", query), floating(_NAME, "key", key), floating(_NAME, "value", value)
    scores_shape = _check_operands(query, key, value)
    if scale is None:
        scale = 1.0 / math.sqrt(max(query.shape[-1], 1))
    if is_causal and attn_mask is not None:
        raise ValueError(f"{_NAME}: give attn_mask or is_causal, not both; combine the masks with &")
    mask = None if attn_mask is None else as_tensor(attn_mask)
    if mask is not None:
        _check_mask(mask, scores_shape, query.dtype)
    if need_weights or dropout_p or (mask is not None and mask.dtype != np.bool_):
        weights, output = _weights_and_output(query, key, value, mask, is_causal, scale, dropout_p)
        return (output, weights) if need_weights else output
    return _scaled_dot_product_attention(query, key, value, mask, is_causal=is_causal, scale=scale)


def _weights_and_output(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
    dropout_p: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Attention in primitives; the mask has bools, or floats to add."""
    query, key, value = mark("query", query), mark("key", key), mark("value", value)
    # Scaling the queries in place of the scores touches fewer numbers.
    scores = matmul(mul(query, scale), transpose(key, -2, -1))
    role = {"role": "causal"} if is_causal else {}
    scores = mark("scores", scores, score="scaled_dot", scale=scale, **role)
    if mask is not None and mask.dtype != np.bool_:
        scores = add(scores, mask)
        mask = ne(mask, -math.inf)
    mask = _combine(mask, is_causal, scores)
    if mask is not None:
        mask = mark("mask", mask)
    weights = softmax(scores, -1) if mask is None else masked_softmax(scores, mask, dim=-1)
    weights = mark("weights", dropout(weights, dropout_p))
    return weights, mark("context", matmul(weights, value))


def _combine(mask: Tensor | None, is_causal: bool, scores: Tensor) -> Tensor | None:
    """The bool mask of ``scores``, with that of causal attention."""
    if not is_causal:
        return mask
    earlier = Tensor(np.tri(*scores.shape[-2:], dtype=np.bool_))
    return earlier if mask is None else logical_and(mask, earlier)


def _check_operands(query: Tensor | Array, key: Tensor | Array, value: Tensor | Array) -> tuple[int, ...]:
    """The shape of the scores, after making sure that all sizes fit."""
    for which, operand in (("query", query), ("key", key), ("value", value)):
        if operand.ndim < 2:
            raise ValueError(f"{_NAME}: {which} must have at least two axes, its shape is {operand.shape}")
    if query.shape[-1] != key.shape[-1]:
        widths = f"{query.shape[-1]} and {key.shape[-1]}"
        raise ValueError(f"{_NAME}: query and key must have the same width, they have {widths}")
    if key.shape[-2] != value.shape[-2]:
        counts = f"{key.shape[-2]} keys, {value.shape[-2]} values"
        raise ValueError(f"{_NAME}: there must be a value for each key, there are {counts}")
    try:
        np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    except ValueError:
        shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
        raise ValueError(f"{_NAME}: the axes before the last two do not broadcast: {shapes}") from None
    return (*np.broadcast_shapes(query.shape[:-2], key.shape[:-2]), query.shape[-2], key.shape[-2])


def _check_mask(mask: Tensor | Array, scores: tuple[int, ...], dtype: Any) -> None:
    if mask.dtype not in (np.bool_, dtype):
        raise TypeError(f"{_NAME}: attn_mask must be bool (True = may attend) or {dtype} as query, it is {mask.dtype}")
    fits = mask.ndim <= len(scores) and all(
        a in (1, b) for a, b in zip(reversed(mask.shape), reversed(scores), strict=False)
    )
    if not fits:
        raise ValueError(f"{_NAME}: attn_mask of shape {mask.shape} does not broadcast to the scores, {scores}")


# -- many heads in one projection --------------------------------------------------------------------------------------


def _multihead_samples(draw: Draw) -> Sample:
    batch, queries, keys, heads, width = (draw.integer(1, 2), *(draw.integer(1, 3) for _ in range(4)))
    batch_first, crossed = draw.boolean(), draw.boolean()

    def projected(length: int, parts: int) -> Array:
        leading = (batch, length) if batch_first else (length, batch)
        return draw.floats((*leading, parts * heads * width))

    operands = (projected(queries, 1), projected(keys, 2)) if crossed else (projected(queries, 3), None)
    mask = draw.mask((batch, 1, 1, keys if crossed else queries)) if draw.boolean() else None
    options = {"heads": heads, "is_causal": draw.boolean(), "batch_first": batch_first}
    return Sample((*operands, mask), options)


@op(
    r"z = \operatorname{concat}_h z_h, \quad z_h = P_h V_h, "
    rf"\quad P_h = \operatorname{{softmax}}(Q_h K_h^\top / \sqrt{{d}}) {_LEFT_BY_MASK}",
    samples=_multihead_samples,
    errors=[
        ErrorSample((np.ones((2, 3, 8)), None, None), {"heads": 2}, ValueError, "8, must .* 6"),
        ErrorSample((np.ones((2, 3, 4)), np.ones((2, 3, 4)), None), {"heads": 2}, ValueError, r"\(2, 3, 4\).* 8"),
        ErrorSample((np.ones((2, 3, 4)), np.ones((1, 3, 8)), None), {"heads": 2}, ValueError, "same batch.* 2 and 1"),
        ErrorSample((np.ones((3, 4)), None, None), {"heads": 2}, ValueError, "three axes"),
    ],
    saves=("tops", "factors"),
    symbols={
        "Q": "projected",
        "K": ("projected", "memory"),
        "V": ("projected", "memory"),
        "d": "heads",
        "h": "heads",
        _LEFT_BY_MASK: ("mask", "is_causal"),
    },
)
@quiet
def multihead_attention(
    projected: Array,
    memory: Array | None = None,
    mask: Array | None = None,
    /,
    *,
    heads: int,
    is_causal: bool = False,
    batch_first: bool = True,
) -> tuple[Array, Array, Array]:
    """Scaled dot-product attention of all heads, each in its part of what projections have side by side.

    D is the size of all heads together, d = D / ``heads`` of one. The heads are read where they lie, and their outputs
    and gradients written where they belong.

    Args:
        projected: queries, keys and values side by side, ``(B, L, 3D)``; or with ``memory`` queries, ``(B, L, D)``.
        memory: keys and values side by side, ``(B, S, 2D)``.
        mask: bool, broadcasts to ``(B, heads, L, S)``; True where a query may attend to a key. One that may attend to
            none gets zeros, with zero gradient.
        heads: their number.
        is_causal: query i attends to keys 0 to i only, to those of them that the mask leaves.
        batch_first: False if the first two axes are exchanged, everywhere but in the mask.

    Returns:
        The heads' outputs side by side, ``(B, L, D)``.

    Raises:
        ValueError: shapes other than these.
    """
    parts = 3 if memory is None else 1
    for name, array, count in (("projected", projected, parts), ("memory", memory, 2)):
        if array is None:
            continue
        if array.ndim != 3:
            raise ValueError(f"multihead_attention: {name} must have three axes, its shape is {array.shape}")
        if array.shape[-1] % (count * heads):
            raise ValueError(
                f"multihead_attention: the last axis of {name}, {array.shape[-1]}, must be a multiple of "
                f"{count * heads}: {count} parts of {heads} heads"
            )
    size = projected.shape[-1] // parts
    if memory is not None:
        if memory.shape[-1] != 2 * size:
            raise ValueError(
                f"multihead_attention: memory must have keys and values as wide as the queries, its shape is "
                f"{memory.shape} and not (..., {2 * size})"
            )
        axis = 0 if batch_first else 1
        if memory.shape[axis] != projected.shape[axis]:
            raise ValueError(
                f"multihead_attention: projected and memory must have the same batch, they have "
                f"{projected.shape[axis]} and {memory.shape[axis]}"
            )
    q, k, v = _queries_keys_values(projected, memory, heads, batch_first)
    if mask is not None:
        _check_mask(mask, (*q.shape[:3], k.shape[2]), np.bool_)
    z = np.empty((*projected.shape[:2], size), projected.dtype)
    (out,) = _views(z, 1, heads, batch_first)
    scale = _scale(size // heads)
    if q.shape[2] == 1 and not is_causal:
        return z, *attention_of_one(q, k, v, out, mask, scale=scale)
    return z, *kernels.attention(q, k, v, out, mask, causal=is_causal, scale=scale)


def _scale(width: int) -> float:
    return 1.0 / math.sqrt(max(width, 1))


def _views(projected: Array, parts: int, heads: int, batch_first: bool) -> Array:
    """(B, L, parts · heads · d) as (parts, B, heads, L, d)."""
    split = projected.reshape(*projected.shape[:2], parts, heads, projected.shape[-1] // (parts * heads))
    return split.transpose((2, 0, 3, 1, 4) if batch_first else (2, 1, 3, 0, 4))


def _queries_keys_values(
    projected: Array, memory: Array | None, heads: int, batch_first: bool
) -> tuple[Array, Array, Array]:
    if memory is None:
        q, k, v = _views(projected, 3, heads, batch_first)
    else:
        (q,), (k, v) = _views(projected, 1, heads, batch_first), _views(memory, 2, heads, batch_first)
    return q, k, v


def _split_heads(
    projected: Tensor, memory: Tensor | None, heads: int, batch_first: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Q, K and V of all heads, ``(B, heads, L or S, d)`` each."""
    parts = (*chunk(projected, 3, -1),) if memory is None else (projected, *chunk(memory, 2, -1))
    order = (0, 2, 1, 3) if batch_first else (1, 2, 0, 3)
    size = parts[0].shape[-1]
    q, k, v = (permute(reshape(part, *part.shape[:2], heads, size // heads), *order) for part in parts)
    return q, k, v


def _join_heads(part: Tensor, batch_first: bool) -> Tensor:
    """``(B, heads, L, d)`` as ``(B, L, D)``, or with the first two axes exchanged."""
    joined = permute(part, *((0, 2, 1, 3) if batch_first else (2, 0, 1, 3)))
    return reshape(joined, *joined.shape[:2], joined.shape[2] * joined.shape[3])


def _into_parts(
    g: Tensor,
    projected: Tensor,
    memory: Tensor | None,
    mask: Tensor | None,
    heads: int,
    is_causal: bool,
    batch_first: bool,
) -> list[Tensor]:
    """Q̄, K̄ and V̄ of all heads, joined."""
    q, k, v = _split_heads(projected, memory, heads, batch_first)
    scale = _scale(q.shape[-1])
    g = permute(reshape(g, *g.shape[:2], heads, q.shape[-1]), *((0, 2, 1, 3) if batch_first else (1, 2, 0, 3)))
    parts = (
        _query_gradient(g, q, k, v, mask, is_causal, scale),
        _key_gradient(g, q, k, v, mask, is_causal, scale),
        _value_gradient(g, q, k, mask, is_causal, scale),
    )
    return [_join_heads(part, batch_first) for part in parts]


def _projected_gradient(
    g: Tensor,
    projected: Tensor,
    memory: Tensor | None,
    mask: Tensor | None,
    heads: int,
    is_causal: bool,
    batch_first: bool,
) -> Tensor:
    parts = _into_parts(g, projected, memory, mask, heads, is_causal, batch_first)
    return cat(parts, -1) if memory is None else parts[0]


def _memory_gradient(
    g: Tensor,
    projected: Tensor,
    memory: Tensor,
    mask: Tensor | None,
    heads: int,
    is_causal: bool,
    batch_first: bool,
) -> Tensor:
    return cat(_into_parts(g, projected, memory, mask, heads, is_causal, batch_first)[1:], -1)


_HEAD = (
    r"\quad \bar Q_h = \bar S_h K_h, \quad \bar K_h = \bar S_h^\top Q_h, \quad \bar V_h = P_h^\top \bar z_h, "
    r"\quad \bar S_h = P_h \odot (\bar z_h V_h^\top - \operatorname{rowsum}(P_h \odot \bar z_h V_h^\top)) / \sqrt{d}"
)
multihead_attention.vjp(
    "projected", rf"\operatorname{{concat}}_h (\bar Q_h, \bar K_h, \bar V_h), {_HEAD}", _projected_gradient
)
multihead_attention.vjp("memory", rf"\operatorname{{concat}}_h (\bar K_h, \bar V_h), {_HEAD}", _memory_gradient)


@multihead_attention.composed_of
def _multihead_reference(
    projected: Tensor, memory: Tensor | None, mask: Tensor | None, heads: int, is_causal: bool, batch_first: bool
) -> Tensor:
    q, k, v = _split_heads(projected, memory, heads, batch_first)
    z = _scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal, scale=_scale(q.shape[-1]))
    return _join_heads(z, batch_first)


@multihead_attention.kernel
def _multihead_gradients(
    g: Array,
    projected: Array,
    memory: Array | None,
    mask: Array | None,
    tops: Array,
    factors: Array,
    heads: int,
    is_causal: bool,
    batch_first: bool,
) -> tuple[Array, Array | None, None]:
    q, k, v = _queries_keys_values(projected, memory, heads, batch_first)
    for_projected = np.empty(projected.shape, g.dtype)
    for_memory = None if memory is None else np.empty(memory.shape, g.dtype)
    gradients = _queries_keys_values(for_projected, for_memory, heads, batch_first)
    (out_gradient,) = _views(g, 1, heads, batch_first)
    kernels.attention_backward(
        out_gradient, q, k, v, tops, factors, gradients, mask, causal=is_causal, scale=_scale(q.shape[-1])
    )
    return for_projected, for_memory, None
