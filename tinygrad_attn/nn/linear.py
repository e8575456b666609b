"""Linear: y = x Wᵀ + b."""

from __future__ import annotations

import math

from tinygrad_attn.checked import FloatDtype, Size, checked
from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.nn import init
from tinygrad_attn.nn.counting import empty_parameter
from tinygrad_attn.nn.module import Module
from tinygrad_attn.ops.fused.linear import linear
from tinygrad_attn.tensor import Tensor

__all__ = ["Linear"]


class Linear(Module):
    """y = x Wᵀ + b, for x of shape (…, in_features) and y of shape (…, out_features).

    Attributes:
        weight: (out_features, in_features).
        bias: (out_features,), or None.

    Both are initialised uniformly within ±1/√in_features, as in PyTorch.
    """

    @checked
    def __init__(
        self, in_features: Size, out_features: Size, bias: bool = True, dtype: FloatDtype = default_dtype
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = empty_parameter((out_features, in_features), dtype)
        self.bias = empty_parameter(out_features, dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1.0 / math.sqrt(self.in_features) if self.in_features else 0.0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features)."""
        return linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
