"""Conversion of users' arguments to tensors, and errors where they are none or hold no floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import as_array

__all__ = ["as_tensor", "floating", "layer_input", "only_floats"]


def as_tensor(x: Any, name: str = "tensor") -> Tensor:
    """``x`` itself, or a tensor around an array, a list or a number; ``name`` begins messages."""
    return x if isinstance(x, Tensor) else Tensor(as_array(x, name=name))


def layer_input(layer: str, name: str, x: Any) -> Tensor:
    """The input ``name`` of a layer: a tensor as it is, an array or a list as a constant.

    Raises:
        TypeError: something else, or what holds no floats.
    """
    if not isinstance(x, Tensor):
        if not isinstance(x, (np.ndarray, list)):
            raise TypeError(f"{layer}: {name} must be a tensor, got {shown(x)}")
        x = Tensor(as_array(x, name=f"{layer}: {name}"))
    if x.array.dtype.kind != "f":
        raise TypeError(f"{layer}: {name} must hold floats, it is {x.dtype}; convert it with float()")
    return x


def floating(op: str, name: str, x: Any) -> Tensor:
    """`as_tensor` for the argument ``name`` of ``op``, which must hold floats.

    Raises:
        TypeError: it does not hold floats.
    """
    x = as_tensor(x, f"{op}: {name}")
    if not x.is_floating_point():
        raise TypeError(f"{op}: {name} must hold floats, it is {x.dtype}")
    return x


def only_floats(op: str, input: np.ndarray[Any, Any], hint: str = "") -> None:
    """Raise a TypeError, which ends in ``hint``, unless the forward of ``op`` was given floats."""
    if input.dtype.kind != "f":
        raise TypeError(f"{op}: input must be float32 or float64, it is {input.dtype}{hint and f'; {hint}'}")
