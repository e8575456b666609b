"""AdditiveScore: v · tanh(W_q q + W_k k + b), the score of Bahdanau et al. 2015."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tinygrad_attn.checked import FloatDtype, Size, checked
from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.modes import mark
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.scores.base import SCORES, Score
from tinygrad_attn.ops.fused.additive import additive_score
from tinygrad_attn.ops.shape import squeeze
from tinygrad_attn.tensor import Tensor

__all__ = ["AdditiveScore"]

Array = np.ndarray[Any, Any]

_SLOPE = ("-", 1.0, ("square", ("tanh", ("+", ("Q", "t", "i"), ("K", "j", "i")))))


@SCORES.register("additive")
class AdditiveScore(Score):
    """v · tanh(W_q q + W_k k + b) (Bahdanau et al. 2015; b is not in the paper). `project` computes W_k k + b.

    Attributes:
        query: W_q, a `Linear` of weight (size, query_size).
        key: W_k and b, a `Linear` of weight (size, key_size).
        energy: v, a `Linear` of weight (1, size).
    """

    formula = r"e_{tj} = \textstyle\sum_i v_i \tanh(Q_{ti} + K_{ji}), \quad Q_t = W_a q_t, \quad K_j = U_a h_j + b_a"
    gradient_formulas: ClassVar = {
        "Q": r"\bar Q_{ti} = \textstyle\sum_j \bar e_{tj} v_i \left(1 - \tanh^2(Q_{ti} + K_{ji})\right)",
        "K": r"\bar K_{ji} = \textstyle\sum_t \bar e_{tj} v_i \left(1 - \tanh^2(Q_{ti} + K_{ji})\right)",
    }
    snippets: ClassVar = {
        ("scores", "value"): (
            "print(v @ np.tanh(q + k))",
            {"q": "Q value query_row", "k": "K value key_row", "v": "v weight all"},
        ),
        ("Q", "gradient"): (
            "print(np.sum(de * v * (1 - np.tanh(q + k) ** 2)))",
            {"de": "scores gradient row", "q": "Q value element", "k": "K value channel", "v": "v weight element"},
        ),
        ("K", "gradient"): (
            "print(np.sum(de * v * (1 - np.tanh(q + k) ** 2)))",
            {"de": "scores gradient column", "q": "Q value channel", "k": "K value element", "v": "v weight element"},
        ),
    }
    recipes: ClassVar = {
        "scores": ("sum", "i", ("*", ("v", "i"), ("tanh", ("+", ("Q", "t", "i"), ("K", "j", "i"))))),
        "Q": ("sum", "j", ("*", ("de", "t", "j"), ("v", "i"), _SLOPE)),
        "K": ("sum", "t", ("*", ("de", "t", "j"), ("v", "i"), _SLOPE)),
    }

    @checked
    def __init__(
        self, query_size: Size, key_size: Size, size: Size, bias: bool = True, dtype: FloatDtype = default_dtype
    ) -> None:
        super().__init__()
        self.query = Linear(query_size, size, bias=False, dtype=dtype)
        self.key = Linear(key_size, size, bias=bias, dtype=dtype)
        self.energy = Linear(size, 1, bias=False, dtype=dtype)

    @classmethod
    def make(
        cls, query_size: int, key_size: int, size: int, max_length: int, dtype: Any = default_dtype
    ) -> AdditiveScore:
        return cls(query_size, key_size, size, dtype=dtype)

    def project(self, keys: Tensor) -> Tensor:
        """W_k k + b: (B, S, key_size) to (B, S, size)."""
        return self.key(keys)

    def weights(self) -> tuple[Tensor, Tensor]:
        """W_q and v, in the order of the ops' arguments."""
        return self.query.weight, squeeze(self.energy.weight, 0)

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        query, key = mark("query", self.query(query)), mark("key", projected)
        return additive_score(query, key, mark("parameter", squeeze(self.energy.weight, 0), symbol="v"))

    @staticmethod
    def witness(query: Array, key: Array | None, parameters: Mapping[str, Any]) -> Array:
        return _units(query, key) @ parameters["v"]

    @staticmethod
    def witness_gradients(
        gradient: Array, query: Array, key: Array | None, parameters: Mapping[str, Any]
    ) -> dict[str, Array]:
        for_sums = gradient[..., None] * parameters["v"] * (1.0 - _units(query, key) ** 2)
        return {"Q": for_sums.sum(axis=-2), "K": for_sums.sum(axis=-3)}


def _units(query: Array, key: Array | None) -> Array:
    """tanh(q + k) of every pair, (…, T, S, A)."""
    assert key is not None
    return np.tanh(query[..., :, None, :] + key[..., None, :, :])
