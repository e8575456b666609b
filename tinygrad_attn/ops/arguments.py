"""Tensors as users give them to functions that are made of several ops."""

from __future__ import annotations

from typing import Any

from tinygrad_attn.tensor import Tensor, as_array

__all__ = ["as_tensor", "floating"]


def as_tensor(x: Any) -> Tensor:
    """``x`` itself, or a tensor around an array, a list or a number."""
    return x if isinstance(x, Tensor) else Tensor(as_array(x))


def floating(op: str, name: str, x: Any) -> Tensor:
    """`as_tensor` of the argument ``name`` of ``op``.

    Raises:
        TypeError: it does not hold floats.
    """
    x = as_tensor(x)
    if not x.is_floating_point():
        raise TypeError(f"{op}: {name} must hold floats, it is {x.dtype}")
    return x
