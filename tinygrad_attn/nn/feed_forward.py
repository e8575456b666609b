"""Feed-forward networks: two linear maps with an activation between them, and SwiGLU, with a gate."""

from __future__ import annotations

from tinygrad_attn.checked import Count, FloatDtype, Probability, Size, checked
from tinygrad_attn.modes import current_modes, marks_are_heard
from tinygrad_attn.nn.dropout import Dropout
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import Module, is_plain
from tinygrad_attn.ops.activation import gelu, relu, silu
from tinygrad_attn.ops.fused.feed_forward import feed_forward
from tinygrad_attn.ops.fused.linear import activated_linear
from tinygrad_attn.ops.pointwise import mul
from tinygrad_attn.tensor import Tensor, default_dtype

__all__ = ["SwiGLU", "feed_forward_of"]


def feed_forward_of(x: Tensor, linear1: Module, activation: str, dropout: Module | None, linear2: Module) -> Tensor:
    """linear2(dropout(activation(linear1(x)))), in as few ops as compute it.

    Args:
        x: (…, in).
        linear1: to the inner size.
        activation: "relu" or "gelu".
        dropout: of the inner vectors, or None.
        linear2: from the inner size.
    """
    if not is_plain(linear1, Linear):
        inner = _ACTIVATIONS[activation](linear1(x))
    elif is_plain(linear2, Linear) and _is_idle(dropout) and not _is_looked_into():
        weights = linear1.weight, linear2.weight, linear1.bias, linear2.bias
        return feed_forward(x, *weights, activation=activation)
    else:
        inner = activated_linear(x, linear1.weight, linear1.bias, activation=activation)
    return linear2(inner if dropout is None else dropout(inner))


_ACTIVATIONS = {"relu": relu, "gelu": gelu}


def _is_looked_into() -> bool:
    return current_modes().unfused or marks_are_heard()


def _is_idle(dropout: Module | None) -> bool:
    return dropout is None or (is_plain(dropout, Dropout) and (dropout.p == 0.0 or not dropout.training))


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
