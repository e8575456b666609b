"""Embedding: a vector for each integer."""

from __future__ import annotations

from tinygrad_attn.checked import FloatDtype, Index, Size, checked
from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.nn import init
from tinygrad_attn.nn.counting import empty_parameter
from tinygrad_attn.nn.module import Module
from tinygrad_attn.ops.fused.embedding import embedding
from tinygrad_attn.tensor import Tensor

__all__ = ["Embedding"]


class Embedding(Module):
    """Row i of ``weight`` for every integer i: (…) to (…, embedding_dim).

    Attributes:
        weight: (num_embeddings, embedding_dim), initially standard normal; the row ``padding_idx`` is and stays zero.
    """

    @checked
    def __init__(
        self,
        num_embeddings: Size,
        embedding_dim: Size,
        padding_idx: Index | None = None,
        dtype: FloatDtype = default_dtype,
    ) -> None:
        super().__init__()
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding: padding_idx {padding_idx} is not one of the {num_embeddings} rows")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.weight = empty_parameter((num_embeddings, embedding_dim), dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.array[self.padding_idx] = 0.0

    def forward(self, input: Tensor) -> Tensor:
        """Integers of any shape (…) to vectors (…, embedding_dim)."""
        return embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = f", padding_idx={self.padding_idx}" if self.padding_idx is not None else ""
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
