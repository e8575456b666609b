"""SwiGLU: a feed-forward network with a gate."""

from __future__ import annotations

from tinygrad_attn.checked import Count, FloatDtype, Probability, Size, checked
from tinygrad_attn.nn.dropout import Dropout
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import Module
from tinygrad_attn.ops.activation import silu
from tinygrad_attn.ops.pointwise import mul
from tinygrad_attn.tensor import Tensor, default_dtype

__all__ = ["SwiGLU"]


class SwiGLU(Module):
    """W_2 (silu(W_1 x + b_1) ⊙ (W_3 x + b_3)) + b_2: what one map of x gives is gated by another.

    Shazeer, "GLU Variants Improve Transformer", 2020, whose V is W_3 here, as in LLaMA. With a third matrix
    ``dim_feedforward`` is usually two thirds of what it would be with relu.

    Attributes:
        linear1: the gate W_1, from ``d_model`` to ``dim_feedforward``.
        linear3: W_3, likewise.
        linear2: W_2, from ``dim_feedforward`` to ``d_model``.

    Args:
        d_model: the size of inputs and outputs.
        dim_feedforward: the inner size.
        bias: of all three maps.
        dropout: of the inner vectors, in training.
        dtype: of all parameters.
    """

    @checked
    def __init__(
        self,
        d_model: Count,
        dim_feedforward: Size,
        bias: bool = True,
        dropout: Probability = 0.0,
        dtype: FloatDtype = default_dtype,
    ) -> None:
        super().__init__()
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype)
        self.linear3 = Linear(d_model, dim_feedforward, bias, dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """(…, d_model), the same shape out.

        Raises:
            ValueError: the last axis is not of size ``d_model``.
        """
        return self.linear2(self.dropout(mul(silu(self.linear1(input)), self.linear3(input))))
