"""multihead_attention: scaled dot-product attention of all heads of one projection.

One kernel reads the heads without copying them and never stores the weights of all queries. The rules apply those of
`tinygrad_attn.ops.fused.attention` to every head.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.kernels.attention import tiled as kernels
from tinygrad_attn.kernels.attention.heads import (
    Heads,
    heads_of,
    projected_attention,
    projected_attention_backward,
    queries_keys_values,
)
from tinygrad_attn.kernels.attention.step import single_query_attention
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import only_floats
from tinygrad_attn.ops.dropout import new_key_for
from tinygrad_attn.ops.fused.attention import (
    LEFT_BY_MASK,
    attention,
    key_gradient,
    query_gradient,
    value_gradient,
    weights_and_output,
)
from tinygrad_attn.ops.fused.attention_operands import check_mask
from tinygrad_attn.ops.joining import cat, split
from tinygrad_attn.ops.quiet import quiet
from tinygrad_attn.ops.shape import permute, reshape
from tinygrad_attn.rule import once_per_node
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["attend_heads", "multihead_attention"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    batch, queries, keys, shared, width = (draw.integer(1, 2), *(draw.integer(1, 3) for _ in range(4)))
    batch_first, crossed, groups = draw.boolean(), draw.boolean(), draw.choice([1, 1, 2])
    heads = shared * groups

    def projected(length: int, heads: int) -> Array:
        leading = (batch, length) if batch_first else (length, batch)
        return draw.floats((*leading, heads * width))

    operands = (projected(queries, heads), projected(keys, 2 * shared)) if crossed else (
        projected(queries, heads + 2 * shared), None
    )  # fmt: skip
    mask = draw.mask((batch, 1, 1, keys if crossed else queries)) if draw.boolean() else None
    options: dict[str, Any] = {"heads": heads, "is_causal": draw.boolean(), "batch_first": batch_first}
    options["groups"] = groups
    if draw.boolean():
        options |= {"dropout_p": 0.4, "dropout_key": draw.integer(0, 2**63 - 1)}
    return Sample((*operands, mask), options)


@op(
    r"z = \operatorname{concat}_h z_h, \quad z_h = (P_h \odot m_h) V_h, "
    rf"\quad P_h = \operatorname{{softmax}}(Q_h K_h^\top / \sqrt{{d}} + b_h) {LEFT_BY_MASK}",
    samples=_samples,
    errors=[
        ErrorSample((np.ones((2, 3, 8)), None, None), {"heads": 2}, ValueError, "8, must .* 6"),
        ErrorSample((np.ones((2, 3, 6)), None, None), {"heads": 4, "groups": 2}, ValueError, "6, must .* 8: 4 .* 2 of"),
        ErrorSample((np.ones((2, 3, 6)), None, None), {"heads": 3, "groups": 2}, ValueError, "2 .* divide .* 3 heads"),
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
        "h": ("heads", "groups"),
        "b": "bias",
        "m": ("dropout_p", "dropout_key"),
        LEFT_BY_MASK: ("mask", "is_causal"),
    },
)
@quiet
def multihead_attention(
    projected: Array,
    memory: Array | None = None,
    mask: Array | None = None,
    bias: Array | None = None,
    /,
    *,
    heads: int,
    is_causal: bool = False,
    batch_first: bool = True,
    dropout_p: float = 0.0,
    dropout_key: int = 0,
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """Scaled dot-product attention of all heads, each on its own channels of the projections.

    D is the size of all heads together, d = D / ``heads`` of one, and C = D / ``groups`` that of all heads of keys.
    Heads are neither copied nor transposed.

    Args:
        projected: queries, keys and values, concatenated, ``(B, L, D + 2C)``; or with ``memory`` queries,
            ``(B, L, D)``.
        memory: keys and values, concatenated, ``(B, S, 2C)``.
        mask: bool, broadcasts to ``(B, heads, L, S)``; True where a query may attend to a key. A query whose keys are
            all masked gets 0, with zero gradient.
        bias: a constant added to the scores, broadcasts to ``(B, heads, L, S)``; -inf masks a key.
        heads: the number of heads.
        is_causal: query i attends only to keys 0 to i, unless the mask masks them too.
        batch_first: False if the first two axes are exchanged, in all operands and results but the mask.
        dropout_p, dropout_key: the weights are multiplied by 0 with this probability, less than 1, and else by
            1 / (1 - p), as the key decides.
        groups: how many heads that follow each other share the keys and values of one head.

    Returns:
        The concatenated outputs of the heads, ``(B, L, D)``.

    Raises:
        ValueError: shapes other than these.
    """
    only_floats("multihead_attention", projected)
    size = _check_shapes(projected, memory, heads, groups, batch_first)
    batch, length = (0, 1) if batch_first else (1, 0)
    queries, keys = projected.shape[length], (projected if memory is None else memory).shape[length]
    shape = (projected.shape[batch], heads, queries, keys)
    if mask is not None:
        check_mask(mask, shape, (np.bool_,), "multihead_attention: mask")
    if bias is not None:
        check_mask(bias, shape, (projected.dtype,), "multihead_attention: bias")
    kind, dropped = Heads(heads, groups, batch_first), kernels.Dropout(dropout_p, dropout_key)
    alone = queries == 1 and not is_causal and not dropout_p
    if not alone:
        found = projected_attention(projected, memory, (mask, bias), kind, is_causal, dropped)
        if found is not None:
            return found
    q, k, v = queries_keys_values(projected, memory, kind)
    z = np.empty((*projected.shape[:2], size), projected.dtype)
    out, scale = heads_of(z, heads, batch_first), _scale(size // heads)
    if alone:
        return z, *single_query_attention(q, k, v, out, mask, bias, scale=scale)
    return z, *kernels.attention(q, k, v, out, mask, bias, causal=is_causal, scale=scale, dropout=dropped)


def _check_shapes(projected: Array, memory: Array | None, heads: int, groups: int, batch_first: bool) -> int:
    """D, the size of all heads together; raises a ValueError unless the shapes fit."""
    if groups < 1 or heads % groups:
        raise ValueError(f"multihead_attention: groups of {groups} heads do not divide the {heads} heads")
    shared = heads // groups
    parts = heads + (2 * shared if memory is None else 0)
    for name, array, count in (("projected", projected, parts), ("memory", memory, 2 * shared)):
        if array is None:
            continue
        if array.ndim != 3:
            raise ValueError(f"multihead_attention: {name} must have three axes, its shape is {array.shape}")
        if array.shape[-1] % count:
            held = f"{heads} heads of queries, " * (name == "projected") + f"{shared} of keys and of values"
            raise ValueError(
                f"multihead_attention: the last axis of {name}, {array.shape[-1]}, must be a multiple of {count}: "
                f"{held}"
            )
    size = projected.shape[-1] // parts * heads
    if memory is not None:
        if memory.shape[-1] != 2 * size // groups:
            raise ValueError(
                f"multihead_attention: memory must have keys and values as wide as the queries, its shape is "
                f"{memory.shape} and not (..., {2 * size // groups})"
            )
        axis = 0 if batch_first else 1
        if memory.shape[axis] != projected.shape[axis]:
            raise ValueError(
                f"multihead_attention: projected and memory must have the same batch, they have "
                f"{projected.shape[axis]} and {memory.shape[axis]}"
            )
    return size


def _scale(width: int) -> float:
    return 1.0 / math.sqrt(max(width, 1))


def _split_heads(
    projected: Tensor, memory: Tensor | None, heads: int, groups: int, batch_first: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Q of all heads, ``(B, heads, L, d)``, and K and V, ``(B, heads / groups, L or S, d)`` each."""
    shared = heads // groups
    width = projected.shape[-1] // (heads if memory is not None else heads + 2 * shared)
    sizes = [heads * width, shared * width, shared * width]
    parts = (*split(projected, sizes, -1),) if memory is None else (projected, *split(memory, sizes[1:], -1))
    q, k, v = (_apart(part, width, batch_first) for part in parts)
    return q, k, v


def _apart(part: Tensor, width: int, batch_first: bool) -> Tensor:
    """``(B, L, heads · d)``, or with the first two axes exchanged, as ``(B, heads, L, d)``."""
    by_head = reshape(part, *part.shape[:2], part.shape[-1] // max(width, 1), width)
    return permute(by_head, *((0, 2, 1, 3) if batch_first else (1, 2, 0, 3)))


def _join_heads(part: Tensor, batch_first: bool) -> Tensor:
    """``(B, heads, L, d)`` as ``(B, L, D)``, or with the first two axes exchanged."""
    joined = permute(part, *((0, 2, 1, 3) if batch_first else (2, 0, 1, 3)))
    return reshape(joined, *joined.shape[:2], joined.shape[2] * joined.shape[3])


@once_per_node
def _into_parts(
    g: Tensor,
    projected: Tensor,
    memory: Tensor | None,
    mask: Tensor | None,
    bias: Tensor | None,
    heads: int,
    is_causal: bool,
    batch_first: bool,
    dropout_p: float,
    dropout_key: int,
    groups: int,
) -> list[Tensor]:
    """Q̄, K̄ and V̄ of all heads, joined."""
    q, k, v = _split_heads(projected, memory, heads, groups, batch_first)
    options = (mask, bias, is_causal, _scale(q.shape[-1]), dropout_p, dropout_key, groups)
    g = _apart(g, q.shape[-1], batch_first)
    parts = (
        query_gradient(g, q, k, v, *options),
        key_gradient(g, q, k, v, *options),
        value_gradient(g, q, k, *options),
    )
    return [_join_heads(part, batch_first) for part in parts]


def _projected_gradient(
    g: Tensor,
    projected: Tensor,
    memory: Tensor | None,
    mask: Tensor | None,
    bias: Tensor | None,
    heads: int,
    is_causal: bool,
    batch_first: bool,
    dropout_p: float,
    dropout_key: int,
    groups: int,
) -> Tensor:
    parts = _into_parts(g, projected, memory, mask, bias, heads, is_causal, batch_first, dropout_p, dropout_key, groups)
    return cat(parts, -1) if memory is None else parts[0]


def _memory_gradient(
    g: Tensor,
    projected: Tensor,
    memory: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    heads: int,
    is_causal: bool,
    batch_first: bool,
    dropout_p: float,
    dropout_key: int,
    groups: int,
) -> Tensor:
    parts = _into_parts(g, projected, memory, mask, bias, heads, is_causal, batch_first, dropout_p, dropout_key, groups)
    return cat(parts[1:], -1)


_HEAD = (
    r"\quad \bar Q_h = \bar S_h K_h, \quad \bar K_h = \textstyle\sum_{\text{group}} \bar S_h^\top Q_h, \quad "
    r"\bar V_h = \textstyle\sum_{\text{group}} (P_h \odot m_h)^\top \bar z_h, "
    r"\quad \bar S_h = P_h \odot (m_h \odot \bar z_h V_h^\top "
    r"- \operatorname{rowsum}(P_h \odot m_h \odot \bar z_h V_h^\top)) / \sqrt{d}"
)
multihead_attention.vjp(
    "projected", rf"\operatorname{{concat}}_h (\bar Q_h, \bar K_h, \bar V_h), {_HEAD}", _projected_gradient
)
multihead_attention.vjp("memory", rf"\operatorname{{concat}}_h (\bar K_h, \bar V_h), {_HEAD}", _memory_gradient)


@multihead_attention.composed_of
def _reference(
    projected: Tensor,
    memory: Tensor | None,
    mask: Tensor | None,
    bias: Tensor | None,
    heads: int,
    is_causal: bool,
    batch_first: bool,
    dropout_p: float,
    dropout_key: int,
    groups: int,
) -> Tensor:
    q, k, v = _split_heads(projected, memory, heads, groups, batch_first)
    options: dict[str, Any] = {"is_causal": is_causal, "dropout_p": dropout_p, "dropout_key": dropout_key}
    options["groups"] = groups
    return _join_heads(attention(q, k, v, mask, bias, scale=_scale(q.shape[-1]), **options), batch_first)


@multihead_attention.kernel
def _gradients(
    g: Array,
    z: Array,
    projected: Array,
    memory: Array | None,
    mask: Array | None,
    bias: Array | None,
    tops: Array,
    factors: Array,
    heads: int,
    is_causal: bool,
    batch_first: bool,
    dropout_p: float,
    dropout_key: int,
    groups: int,
) -> tuple[Array, Array | None, None, None]:
    kind, dropped = Heads(heads, groups, batch_first), kernels.Dropout(dropout_p, dropout_key)
    operands = (projected, memory)
    found = projected_attention_backward(g, operands, (z, tops, factors), (mask, bias), kind, is_causal, dropped)
    if found is not None:
        return *found, None, None
    inputs = queries_keys_values(*operands, kind)
    for_projected = np.empty(projected.shape, g.dtype)
    for_memory = None if memory is None else np.empty(memory.shape, g.dtype)
    gradients = queries_keys_values(for_projected, for_memory, kind)
    attended = (heads_of(z, heads, batch_first), tops, factors)
    options: dict[str, Any] = {"causal": is_causal, "scale": _scale(inputs[0].shape[-1]), "dropout": dropped}
    kernels.attention_backward(heads_of(g, heads, batch_first), inputs, attended, gradients, mask, bias, **options)
    return for_projected, for_memory, None, None


# -- with or without the weights ---------------------------------------------------------------------------------------


def attend_heads(
    projected: Tensor,
    memory: Tensor | None = None,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    heads: int,
    is_causal: bool = False,
    batch_first: bool = True,
    dropout_p: float = 0.0,
    groups: int = 1,
    need_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """softmax(Q_h K_hᵀ / √d) V_h for every head h.

    This is `multihead_attention`; the same in primitives if weights are returned, or the bias requires a gradient.

    Args:
        projected, memory, mask, bias, heads, is_causal, batch_first, groups: as in `multihead_attention`.
        dropout_p: the probability of dropping a weight.
        need_weights: return the weights too.

    Returns:
        The concatenated outputs of the heads, (B, L, D), and the weights (B, heads, L, S) after dropout, or None.

    Raises:
        ValueError: shapes other than these.
    """
    drop: dict[str, Any] = {"dropout_p": dropout_p, "dropout_key": new_key_for(dropout_p)}
    if not (need_weights or dropout_p == 1.0 or (bias is not None and bias.requires_grad)):
        options = {"heads": heads, "is_causal": is_causal, "batch_first": batch_first, "groups": groups, **drop}
        return multihead_attention(projected, memory, mask, bias, **options), None
    q, k, v = _split_heads(projected, memory, heads, groups, batch_first)
    options = {**drop, "groups": groups}
    weights, output = weights_and_output(q, k, v, mask, bias, is_causal, _scale(q.shape[-1]), **options)
    return _join_heads(output, batch_first), weights if need_weights else None
