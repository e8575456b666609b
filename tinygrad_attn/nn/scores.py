"""Attention in three steps: score, softmax, weighted sum; with the scores of Luong et al. and Bahdanau et al.

::

    context, weights = attention(query, keys, values, score=AdditiveScore(query_size, key_size, size), mask=mask)

A decoder asks about the same keys at every step. What of the scores depends on the keys alone it computes once::

    projected = score.project(keys)
    context, weights = attend(score.compare(query, projected), values, mask)    # at each step

B: batch, T: queries, S: keys. A query is a decoder's state, keys and values are the encoder's.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from tinygrad_attn.modes import mark
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import Module
from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.fused.additive import additive_score
from tinygrad_attn.ops.fused.softmax import masked_softmax, softmax
from tinygrad_attn.ops.joining import narrow
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.pointwise import mul
from tinygrad_attn.ops.shape import squeeze, transpose, unsqueeze
from tinygrad_attn.tensor import Tensor, default_dtype

__all__ = [
    "AdditiveScore",
    "ConcatScore",
    "DotScore",
    "GeneralScore",
    "LocationScore",
    "ScaledDotScore",
    "Score",
    "attend",
    "attention",
]


class Score(Module):
    """How well each key answers each query: a number, before the softmax.

    A score writes `scores`, and `project` if a part of the work depends on the keys alone. `scores` announces what it
    compares as "query" and "key", and as "parameter" what else its formula needs (see `tinygrad_attn.modes.mark`).
    """

    name: ClassVar[str] = ""

    def project(self, keys: Tensor) -> Tensor:
        """What of the scores depends on the keys (B, S, key_size) alone, for `compare`; the keys themselves if
        nothing."""
        return keys

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        """(B, T, query_size) and what `project` gave to (B, T, S); each score writes its own."""
        raise NotImplementedError(f"{type(self).__name__} has no scores")

    def compare(self, query: Tensor, projected: Tensor) -> Tensor:
        """Score queries against projected keys.

        Args:
            query: (B, query_size) or (B, T, query_size).
            projected: (B, S, …), what `project` gave.

        Returns:
            (B, S) or (B, T, S).

        Raises:
            ValueError: shapes other than these.
        """
        name = type(self).__name__
        if query.ndim not in (2, 3) or projected.ndim != 3 or query.shape[0] != projected.shape[0]:
            raise ValueError(
                f"{name}: query must be (B, D) or (B, T, D) and keys (B, S, D) of the same batch, "
                f"they are {query.shape} and {projected.shape}"
            )
        if query.ndim == 2:
            return squeeze(self.compare(unsqueeze(query, 1), projected), 1)
        return mark("scores", self.scores(query, projected), score=self.name or name)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """`compare` the query with the keys (B, S, key_size) themselves."""
        return self.compare(query, self.project(keys))


class DotScore(Score):
    """q · k (Luong et al. 2015, "dot"); queries and keys have the same size."""

    name = "dot"

    def _check_sizes(self, query: Tensor, projected: Tensor) -> None:
        if query.shape[-1] != projected.shape[-1]:
            raise ValueError(
                f"{type(self).__name__}: query and keys must have the same size, they have {query.shape[-1]} and "
                f"{projected.shape[-1]}; GeneralScore takes different ones"
            )

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        self._check_sizes(query, projected)
        return matmul(mark("query", query), transpose(mark("key", projected), 1, 2))


class ScaledDotScore(DotScore):
    """q · k / √d, where d is the size of both (Vaswani et al. 2017)."""

    name = "scaled_dot"

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        self._check_sizes(query, projected)
        scale = 1.0 / math.sqrt(max(query.shape[-1], 1))
        query = mul(mark("query", query, scale=scale), scale)
        return matmul(query, transpose(mark("key", projected), 1, 2))


class GeneralScore(Score):
    """q · W k (Luong et al. 2015, "general"). W k is the part that `project` computes.

    Attributes:
        key: W, a `Linear` of weight (query_size, key_size), without a bias.
    """

    name = "general"

    def __init__(self, query_size: int, key_size: int, dtype: Any = default_dtype) -> None:
        super().__init__()
        self.key = Linear(key_size, query_size, bias=False, dtype=dtype)

    def project(self, keys: Tensor) -> Tensor:
        """W k: (B, S, key_size) to (B, S, query_size)."""
        return self.key(keys)

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        return matmul(mark("query", query), transpose(mark("key", projected), 1, 2))


class AdditiveScore(Score):
    """v · tanh(W_q q + W_k k + b) (Bahdanau et al. 2015; b is not in the paper). W_k k + b is what `project` computes.

    Attributes:
        query: W_q, a `Linear` of weight (size, query_size).
        key: W_k and b, a `Linear` of weight (size, key_size).
        energy: v, a `Linear` of weight (1, size).
    """

    name = "additive"

    def __init__(
        self, query_size: int, key_size: int, size: int, bias: bool = True, dtype: Any = default_dtype
    ) -> None:
        super().__init__()
        self.query = Linear(query_size, size, bias=False, dtype=dtype)
        self.key = Linear(key_size, size, bias=bias, dtype=dtype)
        self.energy = Linear(size, 1, bias=False, dtype=dtype)

    def project(self, keys: Tensor) -> Tensor:
        """W_k k + b: (B, S, key_size) to (B, S, size)."""
        return self.key(keys)

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        query, key = mark("query", self.query(query)), mark("key", projected)
        return additive_score(query, key, mark("parameter", squeeze(self.energy.weight, 0), symbol="v"))


class ConcatScore(AdditiveScore):
    """v · tanh(W [q; k]) (Luong et al. 2015, "concat").

    W [q; k] = W_q q + W_k k with W = [W_q W_k]: the parameters are those of `AdditiveScore`, without b, and W k is
    computed once for all queries.
    """

    name = "concat"

    def __init__(self, query_size: int, key_size: int, size: int, dtype: Any = default_dtype) -> None:
        super().__init__(query_size, key_size, size, bias=False, dtype=dtype)


class LocationScore(Score):
    """W q: the weights softmax(W q) depend on the query alone (Luong et al. 2015, "location").

    Row j of W scores the key at place j; with S keys the first S rows count.

    Attributes:
        query: W, a `Linear` of weight (max_length, query_size), without a bias.

    Args:
        query_size: of a query.
        max_length: the largest number of keys.
        dtype: of W.
    """

    name = "location"

    def __init__(self, query_size: int, max_length: int, dtype: Any = default_dtype) -> None:
        super().__init__()
        self.max_length = max_length
        self.query = Linear(query_size, max_length, bias=False, dtype=dtype)

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        length = projected.shape[1]
        if length > self.max_length:
            raise ValueError(f"LocationScore: there are {length} keys, max_length is {self.max_length}")
        query = mark("query", query)
        mark("parameter", self.query.weight, symbol="W")
        return narrow(self.query(query), -1, 0, length)


def attend(scores: Tensor, values: Tensor, mask: Any = None) -> tuple[Tensor, Tensor]:
    """Softmax and weighted sum: α = softmax(scores) over what the mask leaves, context = Σ_j α_j v_j.

    A row of scores with nothing left gives zeros, weights and context, and zero gradient.

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
    """Attention as a query's look into a dictionary: score the keys, softmax, and mix the values by these weights.

    Args:
        query: (B, query_size) or (B, T, query_size).
        keys: (B, S, key_size).
        values: (B, S, D).
        score: how a key answers a query; `DotScore` if None.
        mask: bool (B, S), True where a key may be attended to; None for all. A row with nothing left gives zeros.

    Returns:
        The context (B, D) or (B, T, D), and the weights (B, S) or (B, T, S).

    Raises:
        ValueError: shapes other than these.
        TypeError: a mask that is not bool.
    """
    return attend((score or DotScore())(query, keys), values, mask)
