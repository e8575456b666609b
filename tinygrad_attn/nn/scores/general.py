"""GeneralScore: q · W k, a dot product with linearly mapped keys."""

from __future__ import annotations

from typing import Any

from tinygrad_attn.checked import FloatDtype, Size, checked
from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.modes import mark
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.scores.base import SCORES, Score
from tinygrad_attn.nn.scores.dot import DotScore
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.shape import transpose
from tinygrad_attn.tensor import Tensor

__all__ = ["GeneralScore"]


@SCORES.register("general")
class GeneralScore(Score):
    """q · W k (Luong et al. 2015, "general"). W k is the part that `project` computes; from there on it is `DotScore`.

    Attributes:
        key: W, a `Linear` of weight (query_size, key_size), without a bias.
    """

    formula = r"e_{tj} = \textstyle\sum_i Q_{ti} K_{ji}, \quad K_j = W_k h_j"
    gradient_formulas = DotScore.gradient_formulas
    snippets = DotScore.snippets
    recipes = DotScore.recipes
    witness = DotScore.witness
    witness_gradients = DotScore.witness_gradients

    @checked
    def __init__(self, query_size: Size, key_size: Size, dtype: FloatDtype = default_dtype) -> None:
        super().__init__()
        self.key = Linear(key_size, query_size, bias=False, dtype=dtype)

    @classmethod
    def make(
        cls, query_size: int, key_size: int, size: int, max_length: int, dtype: Any = default_dtype
    ) -> GeneralScore:
        return cls(query_size, key_size, dtype)

    def project(self, keys: Tensor) -> Tensor:
        """W k: (B, S, key_size) to (B, S, query_size)."""
        return self.key(keys)

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        return matmul(mark("query", query), transpose(mark("key", projected), 1, 2))
