"""Initialisation in place, from the package's generator: xavier_uniform_, kaiming_uniform_, …"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.dtypes import check_fits
from tinygrad_attn.random import generator
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import number, real_number

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


def _to_fill(name: str, tensor: Any, floats: bool = True) -> np.ndarray[Any, Any]:
    """The array of a tensor, to be written to.

    Raises:
        TypeError: no tensor, or one of integers or bools where floats are needed.
        ValueError: its memory is read-only.
    """
    if not isinstance(tensor, Tensor) or (floats and not tensor.is_floating_point()):
        found = f"one of {tensor.dtype}" if isinstance(tensor, Tensor) else shown(tensor)
        raise TypeError(f"{name}: tensor must be a tensor of floats, got {found}")
    if not tensor.array.flags.writeable:
        raise ValueError(f"{name}: the memory of this tensor of shape {tensor.shape} is read-only; clone() it first")
    return tensor.array


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform in [a, b)."""
    array, low, high = _to_fill("uniform_", tensor), real_number("uniform_", "a", a), real_number("uniform_", "b", b)
    # Drawn in the tensor's dtype: float32 numbers take half the time of float64.
    array[...] = generator().random(array.shape, array.dtype) * (high - low) + low  # type: ignore[arg-type]
    tensor.storage.written_by("uniform_()")
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal with the given mean and standard deviation."""
    array = _to_fill("normal_", tensor)
    centre, spread = real_number("normal_", "mean", mean), real_number("normal_", "std", std)
    array[...] = generator().standard_normal(array.shape, array.dtype) * spread + centre  # type: ignore[arg-type]
    tensor.storage.written_by("normal_()")
    return tensor


def constant_(tensor: Tensor, value: float) -> Tensor:
    """``value`` everywhere."""
    array, filling = _to_fill("constant_", tensor, floats=False), number("constant_", "value", value)
    check_fits("constant_", filling, array.dtype)
    array[...] = filling
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
    if not isinstance(tensor, Tensor) or tensor.ndim < 2:
        raise ValueError(
            f"fan-in and fan-out need a weight of at least two axes, this one {getattr(tensor, 'shape', tensor)!r}"
        )
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
