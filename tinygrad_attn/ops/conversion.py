"""The same numbers in another dtype; the gradient is converted back."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from tinygrad_attn.dtypes import check_dtype
from tinygrad_attn.op import cast
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor

__all__ = ["bool", "double", "float", "long", "target_dtype", "to"]

_DEVICES = ("cpu", "cuda", "mps", "xpu", "meta")


@public("Tensor")
def to(x: Tensor, dtype: Any) -> Tensor:
    """``x`` converted to ``dtype``, ``x`` itself if it has it already.

    Args:
        x: a tensor.
        dtype: a dtype, or a tensor for that tensor's; "cpu", where all tensors are, changes nothing.

    Raises:
        TypeError: not bool, an integer type, float32 or float64; or another device.
        OverflowError: an element that an integer dtype cannot hold. (PyTorch lets it wrap around.)
    """
    wanted = target_dtype("to", dtype)
    return x if wanted is None or x.dtype == wanted else cast(x, dtype=wanted)


def target_dtype(name: str, target: Any) -> np.dtype[Any] | None:
    """The dtype that ``to(target)`` asks for; None for the device "cpu".

    Raises:
        TypeError: neither a dtype nor a tensor nor "cpu".
    """
    if isinstance(target, str) and target in _DEVICES:
        if target != "cpu":
            raise TypeError(f"{name}: there is no device {target!r}; all tensors are in the CPU's memory")
        return None
    return target.dtype if isinstance(target, Tensor) else check_dtype(target, f"{name}: ")


@public("Tensor")
def float(x: Tensor) -> Tensor:
    """``x`` as float32."""
    return to(x, np.float32)


@public("Tensor")
def double(x: Tensor) -> Tensor:
    """``x`` as float64."""
    return to(x, np.float64)


@public("Tensor")
def long(x: Tensor) -> Tensor:
    """``x`` as int64."""
    return to(x, np.int64)


@public("Tensor")
def bool(x: Tensor) -> Tensor:
    """``x`` as bool: False where it is 0."""
    return to(x, builtins.bool)
