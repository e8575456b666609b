"""ScaledDotScore: q · k / √d, the score of every head of multi-head attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.modes import mark
from tinygrad_attn.nn.scores.base import SCORES, Score
from tinygrad_attn.nn.scores.dot import check_sizes
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.pointwise import mul
from tinygrad_attn.ops.shape import transpose
from tinygrad_attn.tensor import Tensor

__all__ = ["ScaledDotScore"]

Array = np.ndarray[Any, Any]

_SCALE = "scale value element"


@SCORES.register("scaled_dot")
class ScaledDotScore(Score):
    """q · k / √d, where d is the size of both (Vaswani et al. 2017)."""

    formula = r"e_{tj} = \lambda \textstyle\sum_i Q_{ti} K_{ji}"
    gradient_formulas: ClassVar = {
        "Q": r"\bar Q_{ti} = \lambda \textstyle\sum_j \bar e_{tj} K_{ji}",
        "K": r"\bar K_{ji} = \lambda \textstyle\sum_t \bar e_{tj} Q_{ti}",
    }
    snippets: ClassVar = {
        ("scores", "value"): (
            "print(q @ k * scale)",
            {"q": "Q value query_row", "k": "K value key_row", "scale": _SCALE},
        ),
        ("Q", "gradient"): (
            "print(de @ K * scale)",
            {"de": "scores gradient row", "K": "K value channel", "scale": _SCALE},
        ),
        ("K", "gradient"): (
            "print(de @ Q * scale)",
            {"de": "scores gradient column", "Q": "Q value channel", "scale": _SCALE},
        ),
    }
    recipes: ClassVar = {
        "scores": ("*", ("s",), ("sum", "i", ("*", ("Q", "t", "i"), ("K", "j", "i")))),
        "Q": ("*", ("s",), ("sum", "j", ("*", ("de", "t", "j"), ("K", "j", "i")))),
        "K": ("*", ("s",), ("sum", "t", ("*", ("de", "t", "j"), ("Q", "t", "i")))),
    }

    @classmethod
    def make(
        cls, query_size: int, key_size: int, size: int, max_length: int, dtype: Any = default_dtype
    ) -> ScaledDotScore:
        return cls()

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        check_sizes(self, query, projected)
        scale = 1.0 / math.sqrt(max(query.shape[-1], 1))
        query = mul(mark("query", query, scale=scale), scale)
        return matmul(query, transpose(mark("key", projected), 1, 2))

    @staticmethod
    def witness(query: Array, key: Array | None, parameters: Mapping[str, Any]) -> Array:
        assert key is not None
        return np.einsum("...tc,...jc->...tj", query, key) * parameters["s"]

    @staticmethod
    def witness_gradients(
        gradient: Array, query: Array, key: Array | None, parameters: Mapping[str, Any]
    ) -> dict[str, Array]:
        assert key is not None
        return {
            "Q": np.einsum("...tj,...jc->...tc", gradient, key) * parameters["s"],
            "K": np.einsum("...tj,...tc->...jc", gradient, query) * parameters["s"],
        }
