"""Attention in three steps, with any score: score, softmax, weighted sum.

::

    context, weights = attention(query, keys, values, score=AdditiveScore(query_size, key_size, size), mask=mask)

A decoder attends to the same keys at every step, so it computes the part that depends only on the keys once::

    projected = score.project(keys)
    context, weights = attend(score.compare(query, projected), values, mask)    # at each step

B: batch, T: queries, S: keys. A query is a decoder's state, keys and values are the encoder's.
"""

from __future__ import annotations

from typing import Any

from tinygrad_attn.modes import mark
from tinygrad_attn.nn.scores.base import Score
from tinygrad_attn.nn.scores.dot import DotScore
from tinygrad_attn.ops.arguments import as_tensor, layer_input
from tinygrad_attn.ops.fused.softmax import masked_softmax, softmax
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.shape import squeeze, unsqueeze
from tinygrad_attn.tensor import Tensor

__all__ = ["attend", "attention"]


def attend(scores: Tensor, values: Tensor, mask: Any = None) -> tuple[Tensor, Tensor]:
    """Softmax and weighted sum: α = softmax(scores) over the unmasked values, context = Σ_j α_j v_j.

    A row of scores whose values are all masked gives weights, context and gradients of 0.

    Args:
        scores: (B, S) or (B, T, S).
        values: (B, S, D).
        mask: bool (B, S), True where a value may be attended to; None for all.

    Returns:
        The context (B, D) or (B, T, D), and the weights, of the scores' shape.

    Raises:
        ValueError: shapes other than these.
        TypeError: a mask that is not bool.
    """
    scores, values = layer_input("attend", "scores", scores), layer_input("attend", "values", values)
    if values.ndim != 3 or scores.ndim not in (2, 3) or values.shape[:2] != (scores.shape[0], scores.shape[-1]):
        raise ValueError(
            f"attend: scores must be (B, S) or (B, T, S) and values (B, S, D), they are {scores.shape} and "
            f"{values.shape}"
        )
    if scores.ndim == 2:
        context, weights = attend(unsqueeze(scores, 1), values, mask)
        return squeeze(context, 1), squeeze(weights, 1)
    if mask is None:
        weights = softmax(scores, dim=-1)
    else:
        mask = as_tensor(mask)
        if mask.shape != values.shape[:2]:
            raise ValueError(f"attend: mask must have shape {values.shape[:2]}, it has {mask.shape}")
        weights = masked_softmax(scores, mark("mask", unsqueeze(mask, 1)), dim=-1)
    weights = mark("weights", weights)
    return mark("context", matmul(weights, mark("value", values))), weights


def attention(
    query: Tensor, keys: Tensor, values: Tensor, score: Score | None = None, mask: Any = None
) -> tuple[Tensor, Tensor]:
    """Attention: score the keys, softmax, and the weighted sum of the values.

    Args:
        query: (B, query_size) or (B, T, query_size).
        keys: (B, S, key_size).
        values: (B, S, D).
        score: the score of a query and a key; `DotScore` if None.
        mask: bool (B, S), True where a key may be attended to; None for all. If all keys are masked, the result is 0.

    Returns:
        The context (B, D) or (B, T, D), and the weights (B, S) or (B, T, S).

    Raises:
        ValueError: shapes other than these.
        TypeError: a mask that is not bool.
    """
    return attend((score or DotScore())(query, keys), values, mask)
