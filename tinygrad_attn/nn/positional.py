"""Positional encodings: sinusoidal or learned, added to (…, T, d_model); rotary, of queries and keys; and ALiBi, of
scores."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tinygrad_attn.checked import Count, FloatDtype, Positive, Size, checked
from tinygrad_attn.nn import init
from tinygrad_attn.nn.counting import empty_parameter
from tinygrad_attn.nn.module import Module
from tinygrad_attn.ops.arguments import layer_input
from tinygrad_attn.ops.fused.rotary import rotary
from tinygrad_attn.ops.joining import narrow
from tinygrad_attn.ops.pointwise import add
from tinygrad_attn.tensor import Tensor, default_dtype

__all__ = [
    "LearnedPositionalEncoding", "RotaryPositionalEncoding", "SinusoidalPositionalEncoding", "alibi_bias",
    "alibi_slopes", "kept_alibi", "sinusoids",
]  # fmt: skip


def sinusoids(length: int, d_model: int, start: int = 0) -> np.ndarray[Any, Any]:
    """The paper's sines and cosines (Vaswani et al. 2017, section 3.5) for ``length`` positions from ``start`` on::

        PE(p, 2i) = sin(p / 10000^(2i / d_model))        PE(p, 2i + 1) = cos(p / 10000^(2i / d_model))

    Returns:
        (length, d_model), float64.
    """
    positions = np.arange(start, start + length, dtype=np.float64)[:, None]
    angles = positions / 10000.0 ** (np.arange(0, d_model, 2) / d_model)
    table = np.empty((length, d_model))
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : d_model // 2])
    return table


_MOST_KEPT = 1 << 14  # positions: 32 MB of 512 floats


@functools.lru_cache(maxsize=4)
def _kept_sinusoids(length: int, d_model: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    table = sinusoids(length, d_model).astype(dtype)
    table.flags.writeable = False
    return table


class SinusoidalPositionalEncoding(Module):
    """Adds `sinusoids`: without parameters, for any position."""

    @checked
    def __init__(self, d_model: Size) -> None:
        super().__init__()
        self.d_model = d_model

    def forward(self, input: Tensor, start: int = 0) -> Tensor:
        """(…, T, d_model), the same shape out; ``start`` is the position of the first vector.

        Raises:
            ValueError: the last axis is not of size ``d_model``.
        """
        input = _checked(self, input)
        return add(input, self.vectors(input.shape[-2], start, input.dtype))

    def vectors(self, length: int, start: int = 0, dtype: Any = default_dtype) -> Tensor:
        """The encodings of ``length`` positions, (length, d_model), that `forward` adds."""
        dtype, end = np.dtype(dtype), start + length
        if start < 0 or end > _MOST_KEPT:
            return Tensor(sinusoids(length, self.d_model, start).astype(dtype))
        # A table of a power of two serves every part of it, and a decoder that reads one position after the other.
        whole = _kept_sinusoids(1 << max(0, end - 1).bit_length(), self.d_model, dtype)
        return Tensor(whole[start:end])

    def extra_repr(self) -> str:
        return f"{self.d_model}"


class LearnedPositionalEncoding(Module):
    """Adds a learned vector for each position.

    Attributes:
        weight: (max_length, d_model), initially normal with standard deviation 0.02 (Radford et al. 2018), small
            beside the vectors that it is added to.
    """

    @checked
    def __init__(self, max_length: Size, d_model: Size, dtype: FloatDtype = default_dtype) -> None:
        super().__init__()
        self.max_length = max_length
        self.d_model = d_model
        self.weight = empty_parameter((max_length, d_model), dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.normal_(self.weight, std=0.02)

    def forward(self, input: Tensor, start: int = 0) -> Tensor:
        """(…, T, d_model), the same shape out; ``start`` is the position of the first vector.

        Raises:
            ValueError: the last axis is not of size ``d_model``, or a position lies beyond ``max_length``.
        """
        input = _checked(self, input)
        return add(input, self.vectors(input.shape[-2], start))

    def vectors(self, length: int, start: int = 0, dtype: Any = None) -> Tensor:
        """The encodings of ``length`` positions, (length, d_model), that `forward` adds.

        Their dtype is the weight's; ``dtype`` is not used.

        Raises:
            ValueError: a position lies beyond ``max_length``.
        """
        if start < 0 or start + length > self.max_length:
            raise ValueError(
                f"LearnedPositionalEncoding: positions {start} to {start + length - 1} are not all within max_length "
                f"{self.max_length}"
            )
        return narrow(self.weight, 0, start, length)

    def extra_repr(self) -> str:
        return f"{self.max_length}, {self.d_model}"


class RotaryPositionalEncoding(Module):
    """Turns the vectors of queries and keys by angles that grow with the position, without parameters.

    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021. Element i < d/2 and element
    i + d/2 of a vector at position p are turned by the angle p · base^(−2i/d), as in GPT-NeoX and Hugging Face's
    models; the paper turns neighbours, which is the same but for the order of the axis. A score, the product of a
    query and a key, then depends on how far apart they are, not on where.

    Args:
        dim: d, the size of a head, even.
        base: the larger, the slower the last pairs turn.

    Raises:
        ValueError: ``dim`` is odd.
    """

    @checked
    def __init__(self, dim: Size, base: Positive = 10000.0) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"RotaryPositionalEncoding: dim must be even, for it is rotated in pairs; got {dim}")
        self.dim = dim
        self.base = float(base)

    def forward(self, input: Tensor, start: int = 0, position_dim: int = -2) -> Tensor:
        """(…, T, d), the same shape out.

        Args:
            input: queries or keys.
            start: the position of the first vector.
            position_dim: the axis of the positions, -3 for (B, T, heads, d).

        Raises:
            ValueError: the last axis is not of size ``dim``.
        """
        input = layer_input("RotaryPositionalEncoding", "input", input)
        if input.ndim < 2 or input.shape[-1] != self.dim:
            raise ValueError(f"RotaryPositionalEncoding: input must be (…, T, {self.dim}), it has shape {input.shape}")
        return rotary(input, start, self.base, position_dim)

    def extra_repr(self) -> str:
        return f"{self.dim}, base={self.base}"


@checked
def alibi_slopes(num_heads: Count) -> np.ndarray[Any, Any]:
    """The slopes of ALiBi, one for each head: of n heads, n a power of two, 2^(−8/n), 2^(−16/n), …, 2^(−8).

    For other numbers of heads those of the power of two below, and then every second one of twice that power, as in
    the authors' code.

    Returns:
        (num_heads,), float64.
    """
    below = 2 ** (num_heads.bit_length() - 1)
    slopes = 2.0 ** (-8.0 * np.arange(1, below + 1) / below)
    between = 2.0 ** (-4.0 * np.arange(1, 2 * below + 1, 2) / below)
    return np.concatenate([slopes, between[: num_heads - below]])


@checked
def alibi_bias(
    num_heads: Count, queries: Size, keys: Size, start: Size = 0, dtype: FloatDtype = default_dtype
) -> Tensor:
    """Attention with linear biases: the farther a key, the less its score, −slope · |i − j| for query i and key j.

    Press, Smith and Lewis, "Train Short, Test Long", 2022. The result is added to the scores, as a mask of floats is,
    and does not require a gradient. Which keys come later than a query is for a causal mask to hide.

    Args:
        num_heads: H, whose slopes are `alibi_slopes`.
        queries: L.
        keys: S.
        start: the position of the first query; that of the first key is 0.
        dtype: of the result.

    Returns:
        (H, L, S).
    """
    return Tensor(kept_alibi(num_heads, queries, keys, start, np.dtype(dtype)))


@functools.lru_cache(maxsize=2)
def kept_alibi(heads: int, queries: int, keys: int, start: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The elements of `alibi_bias`, not to be written to; an encoder's and a decoder's are kept for their layers."""
    distances = np.abs(np.arange(start, start + queries)[:, None] - np.arange(keys))
    bias = (-alibi_slopes(heads)[:, None, None] * distances).astype(dtype)
    bias.flags.writeable = False
    return bias


def _checked(encoding: SinusoidalPositionalEncoding | LearnedPositionalEncoding, input: Any) -> Tensor:
    name = type(encoding).__name__
    input = layer_input(name, "input", input)
    if input.ndim < 2 or input.shape[-1] != encoding.d_model:
        raise ValueError(f"{name}: input must be (…, T, {encoding.d_model}), it has shape {input.shape}")
    return input
