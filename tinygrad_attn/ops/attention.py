"""Scaled dot-product attention: score, mask, softmax, weighted sum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.ops.arguments import as_tensor, floating
from tinygrad_attn.ops.compare import ne
from tinygrad_attn.ops.dropout import dropout
from tinygrad_attn.ops.elementwise import add, mul
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.shape import transpose
from tinygrad_attn.ops.softmax import masked_softmax, softmax
from tinygrad_attn.tensor import Tensor

__all__ = ["scaled_dot_product_attention"]

_NAME = "scaled_dot_product_attention"


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
    # Scaling the queries in place of the scores touches fewer numbers.
    scores = matmul(mul(query, scale), transpose(key, -2, -1))
    if is_causal:
        if attn_mask is not None:
            raise ValueError(f"{_NAME}: give attn_mask or is_causal, not both; combine the masks with &")
        weights = masked_softmax(scores, Tensor(np.tri(*scores_shape[-2:], dtype=np.bool_)), dim=-1)
    elif attn_mask is not None:
        mask = as_tensor(attn_mask)
        _check_mask(mask, scores_shape, query.dtype)
        if mask.dtype != np.bool_:
            scores = add(scores, mask)
            mask = ne(mask, -math.inf)
        weights = masked_softmax(scores, mask, dim=-1)
    else:
        weights = softmax(scores, -1)
    weights = dropout(weights, dropout_p)
    output = matmul(weights, value)
    return (output, weights) if need_weights else output


def _check_operands(query: Tensor, key: Tensor, value: Tensor) -> tuple[int, ...]:
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


def _check_mask(mask: Tensor, scores: tuple[int, ...], dtype: Any) -> None:
    if mask.dtype not in (np.bool_, dtype):
        raise TypeError(f"{_NAME}: attn_mask must be bool (True = may attend) or {dtype} as query, it is {mask.dtype}")
    fits = mask.ndim <= len(scores) and all(
        a in (1, b) for a, b in zip(reversed(mask.shape), reversed(scores), strict=False)
    )
    if not fits:
        raise ValueError(f"{_NAME}: attn_mask of shape {mask.shape} does not broadcast to the scores, {scores}")
