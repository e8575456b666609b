"""DotScore: q · k, the dot product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.modes import mark
from tinygrad_attn.nn.scores.base import SCORES, Score
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.shape import transpose
from tinygrad_attn.tensor import Tensor

__all__ = ["DotScore", "check_sizes"]

Array = np.ndarray[Any, Any]


def check_sizes(score: Score, query: Tensor, keys: Tensor) -> None:
    """Check that queries and keys have equally many channels.

    Raises:
        ValueError: they have not.
    """
    if query.shape[-1] != keys.shape[-1]:
        raise ValueError(
            f"{type(score).__name__}: query and keys must have the same size, they have {query.shape[-1]} and "
            f"{keys.shape[-1]}; GeneralScore takes different ones"
        )


@SCORES.register("dot")
class DotScore(Score):
    """q · k (Luong et al. 2015, "dot"); queries and keys have the same size."""

    formula = r"e_{tj} = \textstyle\sum_i Q_{ti} K_{ji}"
    gradient_formulas: ClassVar = {
        "Q": r"\bar Q_{ti} = \textstyle\sum_j \bar e_{tj} K_{ji}",
        "K": r"\bar K_{ji} = \textstyle\sum_t \bar e_{tj} Q_{ti}",
    }
    snippets: ClassVar = {
        ("scores", "value"): ("print(q @ k)", {"q": "Q value query_row", "k": "K value key_row"}),
        ("Q", "gradient"): ("print(de @ K)", {"de": "scores gradient row", "K": "K value channel"}),
        ("K", "gradient"): ("print(de @ Q)", {"de": "scores gradient column", "Q": "Q value channel"}),
    }
    recipes: ClassVar = {
        "scores": ("sum", "i", ("*", ("Q", "t", "i"), ("K", "j", "i"))),
        "Q": ("sum", "j", ("*", ("de", "t", "j"), ("K", "j", "i"))),
        "K": ("sum", "t", ("*", ("de", "t", "j"), ("Q", "t", "i"))),
    }

    @classmethod
    def make(cls, query_size: int, key_size: int, size: int, max_length: int, dtype: Any = default_dtype) -> DotScore:
        return cls()

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        check_sizes(self, query, projected)
        return matmul(mark("query", query), transpose(mark("key", projected), 1, 2))

    @staticmethod
    def witness(query: Array, key: Array | None, parameters: Mapping[str, Any]) -> Array:
        assert key is not None
        return np.einsum("...tc,...jc->...tj", query, key)

    @staticmethod
    def witness_gradients(
        gradient: Array, query: Array, key: Array | None, parameters: Mapping[str, Any]
    ) -> dict[str, Array]:
        assert key is not None
        return {
            "Q": np.einsum("...tj,...jc->...tc", gradient, key),
            "K": np.einsum("...tj,...tc->...jc", gradient, query),
        }
