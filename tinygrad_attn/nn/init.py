"""Initialisation in place, from the package's generator: xavier_uniform_, kaiming_uniform_, …"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.dtypes import check_fits
from tinygrad_attn.modes import no_grad
from tinygrad_attn.ops import inplace
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import number

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


def _filled(name: str, fill: Callable[..., Tensor], tensor: Any, *values: Any, floats: bool = True) -> Tensor:
    """``fill`` a tensor in place, a parameter too: that is no part of the graph.

    Raises:
        TypeError: no tensor, or one of integers or bools where floats are needed.
        ValueError: its memory is read-only.
    """
    if not isinstance(tensor, Tensor) or (floats and not tensor.is_floating_point()):
        found = f"one of {tensor.dtype}" if isinstance(tensor, Tensor) else shown(tensor)
        raise TypeError(f"{name}: tensor must be a tensor of floats, got {found}")
    if not tensor.array.flags.writeable:
        raise ValueError(f"{name}: the memory of this tensor of shape {tensor.shape} is read-only; clone() it first")
    with no_grad():
        return fill(tensor, *values)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform in [a, b); errors as for `Tensor.uniform_`."""
    return _filled("uniform_", inplace.uniform_, tensor, a, b)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal with the given mean and standard deviation; errors as for `Tensor.normal_`."""
    return _filled("normal_", inplace.normal_, tensor, mean, std)


def constant_(tensor: Tensor, value: float) -> Tensor:
    """``value`` everywhere."""
    filling = number("constant_", "value", value)
    if isinstance(tensor, Tensor):
        check_fits("constant_", filling, tensor.dtype)
    return _filled("constant_", inplace.fill_, tensor, filling, floats=False)


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
