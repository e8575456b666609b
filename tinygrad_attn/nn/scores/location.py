"""LocationScore: W q, a score for each position that does not depend on the keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tinygrad_attn.checked import FloatDtype, Size, checked
from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.modes import mark
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.scores.base import SCORES, Score
from tinygrad_attn.ops.joining import narrow
from tinygrad_attn.tensor import Tensor

__all__ = ["LocationScore"]

Array = np.ndarray[Any, Any]


@SCORES.register("location")
class LocationScore(Score):
    """W q: the weights softmax(W q) depend on the query alone (Luong et al. 2015, "location").

    Row j of W scores the key at position j; with S keys the first S rows count.

    Attributes:
        query: W, a `Linear` of weight (max_length, query_size), without a bias.

    Args:
        query_size: the size of a query.
        max_length: the largest number of keys.
        dtype: the dtype of W.
    """

    formula = r"e_{tj} = \textstyle\sum_i W_{ji} Q_{ti}"
    gradient_formulas: ClassVar = {"Q": r"\bar Q_{ti} = \textstyle\sum_j \bar e_{tj} W_{ji}"}
    snippets: ClassVar = {
        ("scores", "value"): ("print(w @ q)", {"w": "W weight key_row", "q": "Q value query_row"}),
        ("Q", "gradient"): ("print(de @ w)", {"de": "scores gradient row", "w": "W weight channel"}),
    }
    recipes: ClassVar = {
        "scores": ("sum", "i", ("*", ("W", "j", "i"), ("Q", "t", "i"))),
        "Q": ("sum", "j", ("*", ("de", "t", "j"), ("W", "j", "i"))),
    }
    has_keys = False
    limits_length = True

    @checked
    def __init__(self, query_size: Size, max_length: Size, dtype: FloatDtype = default_dtype) -> None:
        super().__init__()
        self.max_length = max_length
        self.query = Linear(query_size, max_length, bias=False, dtype=dtype)

    @classmethod
    def make(
        cls, query_size: int, key_size: int, size: int, max_length: int, dtype: Any = default_dtype
    ) -> LocationScore:
        return cls(query_size, max_length, dtype)

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        length = projected.shape[1]
        if length > self.max_length:
            raise ValueError(f"LocationScore: there are {length} keys, max_length is {self.max_length}")
        query = mark("query", query)
        mark("parameter", narrow(self.query.weight, 0, 0, length), symbol="W")
        return narrow(self.query(query), -1, 0, length)

    @staticmethod
    def witness(query: Array, key: Array | None, parameters: Mapping[str, Any]) -> Array:
        return np.einsum("...tc,jc->...tj", query, parameters["W"])

    @staticmethod
    def witness_gradients(
        gradient: Array, query: Array, key: Array | None, parameters: Mapping[str, Any]
    ) -> dict[str, Array]:
        return {"Q": np.einsum("...tj,jc->...tc", gradient, parameters["W"])}
