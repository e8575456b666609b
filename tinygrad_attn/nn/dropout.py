"""Dropout."""

from __future__ import annotations

from tinygrad_attn.checked import Probability, checked
from tinygrad_attn.nn.module import Module
from tinygrad_attn.ops.dropout import dropout
from tinygrad_attn.tensor import Tensor

__all__ = ["Dropout"]


class Dropout(Module):
    """In training, zero each element with probability ``p`` and scale the rest by 1/(1 − p) (Srivastava et al.
    2014)."""

    @checked
    def __init__(self, p: Probability = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        """Any shape, the same shape out."""
        return dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
