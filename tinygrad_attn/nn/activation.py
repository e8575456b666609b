"""Activations as modules, for `Sequential`: ReLU, GELU, Tanh, Softmax, …; and Flatten."""

from __future__ import annotations

from typing import Any, Literal

from tinygrad_attn.checked import Index, Positive, Real, checked
from tinygrad_attn.nn.module import Module
from tinygrad_attn.ops.activation import elu, gelu, leaky_relu, relu, silu, softplus
from tinygrad_attn.ops.fused.softmax import log_softmax, softmax
from tinygrad_attn.ops.loss import logsigmoid
from tinygrad_attn.ops.pointwise import sigmoid, tanh
from tinygrad_attn.ops.shape import flatten
from tinygrad_attn.tensor import Tensor

__all__ = [
    "ELU",
    "GELU",
    "Flatten",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]  # fmt: skip


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, input: Any) -> Tensor:
        """Any shape, the same shape out."""
        return relu(input)


class LeakyReLU(Module):
    """x where x > 0, else ``negative_slope`` · x."""

    @checked
    def __init__(self, negative_slope: Real = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, input: Any) -> Tensor:
        """Any shape, the same shape out."""
        return leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x where x > 0, else ``alpha`` · (e^x − 1)."""

    @checked
    def __init__(self, alpha: Real = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, input: Any) -> Tensor:
        """Any shape, the same shape out."""
        return elu(input, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(Module):
    """x Φ(x), with the normal distribution function Φ, or its approximation by tanh."""

    @checked
    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Any) -> Tensor:
        """Any shape, the same shape out."""
        return gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x σ(x)."""

    def forward(self, input: Any) -> Tensor:
        """Any shape, the same shape out."""
        return silu(input)


class Softplus(Module):
    """ln(1 + e^(βx)) / β, and x itself where βx is above ``threshold``."""

    @checked
    def __init__(self, beta: Positive = 1.0, threshold: Real = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Any) -> Tensor:
        """Any shape, the same shape out."""
        return softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Tanh(Module):
    """tanh x."""

    def forward(self, input: Any) -> Tensor:
        """Any shape, the same shape out."""
        return tanh(input)


class Sigmoid(Module):
    """σ(x) = 1 / (1 + e^−x)."""

    def forward(self, input: Any) -> Tensor:
        """Any shape, the same shape out."""
        return sigmoid(input)


class LogSigmoid(Module):
    """ln σ(x)."""

    def forward(self, input: Any) -> Tensor:
        """Any shape, the same shape out."""
        return logsigmoid(input)


class Softmax(Module):
    """The softmax along axis ``dim``."""

    @checked
    def __init__(self, dim: Index) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        """Any shape, the same shape out."""
        return softmax(input, dim=self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """The logarithm of the softmax along axis ``dim``."""

    def forward(self, input: Any) -> Tensor:
        """Any shape, the same shape out."""
        return log_softmax(input, dim=self.dim)


class Flatten(Module):
    """The axes from ``start_dim`` to ``end_dim`` joined to one."""

    @checked
    def __init__(self, start_dim: Index = 1, end_dim: Index = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Any) -> Tensor:
        """(…, sizes of the joined axes, …) to (…, their product, …)."""
        return flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
