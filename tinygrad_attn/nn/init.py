"""Initialisation in place, from the package's generator: xavier_uniform_, kaiming_uniform_, …"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_attn.random import generator
from tinygrad_attn.tensor import Tensor

__all__ = [
    "calculate_fan",
    "constant_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "uniform_",
    "xavier_uniform_",
    "zeros_",
]


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform in [a, b)."""
    # Drawn in the tensor's dtype: float32 numbers take half the time of float64.
    tensor.array[...] = generator().random(tensor.shape, tensor.dtype) * (b - a) + a  # type: ignore[arg-type]
    tensor.storage.written_by("uniform_()")
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal with the given mean and standard deviation."""
    tensor.array[...] = generator().standard_normal(tensor.shape, tensor.dtype) * std + mean  # type: ignore[arg-type]
    tensor.storage.written_by("normal_()")
    return tensor


def constant_(tensor: Tensor, value: float) -> Tensor:
    """``value`` everywhere."""
    tensor.array[...] = value
    tensor.storage.written_by("constant_()")
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


def calculate_fan(tensor: Tensor) -> tuple[int, int]:
    """The numbers of inputs and outputs of a weight of shape (outputs, inputs, …).

    Raises:
        ValueError: the tensor has fewer than two axes.
    """
    if tensor.ndim < 2:
        raise ValueError(f"fan-in and fan-out need a weight of at least two axes, this one has shape {tensor.shape}")
    field = int(np.prod(tensor.shape[2:]))
    return tensor.shape[1] * field, tensor.shape[0] * field


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform within ±gain·√(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    bound = gain * math.sqrt(6.0 / max(sum(calculate_fan(tensor)), 1))  # without elements there is nothing to draw
    return uniform_(tensor, -bound, bound)


def kaiming_uniform_(tensor: Tensor, a: float = 0.0) -> Tensor:
    """Uniform within ±√(6 / ((1 + a²)·fan_in)), for a leaky ReLU of slope ``a`` (He et al. 2015)."""
    bound = math.sqrt(6.0 / ((1.0 + a * a) * max(calculate_fan(tensor)[0], 1)))
    return uniform_(tensor, -bound, bound)
