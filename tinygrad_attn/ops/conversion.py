"""The same numbers in another dtype; the gradient is converted back."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from tinygrad_attn.dtypes import check_dtype
from tinygrad_attn.op import cast
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import check_device

__all__ = [
    "bool", "byte", "char", "cpu", "double", "float", "int", "long", "short", "target_dtype", "to", "type", "type_as",
]  # fmt: skip

_DEVICES = ("cpu", "cuda", "mps", "xpu", "meta")


@public("Tensor")
def to(x: Tensor, *targets: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``x`` converted to a dtype, ``x`` itself if it has it already.

    Args:
        x: a tensor.
        targets: a dtype, or a tensor for that tensor's; "cpu", where all tensors are, changes nothing.
        dtype: a dtype by name.
        device: "cpu" by name.

    Raises:
        TypeError: not bool, an integer type, float32 or float64; another device; or nothing at all.
        OverflowError: an element that an integer dtype cannot hold. (PyTorch lets it wrap around.)
    """
    wanted = target_dtype("to", targets, dtype, device)
    return x if wanted is None or x.dtype == wanted else cast(x, dtype=wanted)


def target_dtype(name: str, targets: tuple[Any, ...], dtype: Any, device: Any) -> np.dtype[Any] | None:
    """The dtype that ``to(*targets, dtype=, device=)`` asks for; None for the device "cpu" alone.

    Raises:
        TypeError: neither a dtype nor a tensor nor "cpu", or nothing at all.
    """
    check_device(name, device)
    given = targets if dtype is None else (*targets, dtype)
    if not given and device is None:
        raise TypeError(f"{name}: expected a dtype, a tensor or the device 'cpu', got nothing")
    wanted = None
    for target in given:
        if isinstance(target, str) and target.split(":")[0] in _DEVICES:
            check_device(name, target)
        else:
            wanted = target.dtype if isinstance(target, Tensor) else check_dtype(target, f"{name}: ")
    return wanted


@public("Tensor")
def cpu(x: Tensor) -> Tensor:
    """``x`` itself: all tensors are in the CPU's memory."""
    return x


@public("Tensor")
def type(x: Tensor, dtype: Any) -> Tensor:
    """``x`` converted to ``dtype`` (see `to`)."""
    return to(x, check_dtype(dtype, "type: "))


@public("Tensor")
def type_as(x: Tensor, other: Tensor) -> Tensor:
    """``x`` converted to the dtype of ``other``.

    Raises:
        TypeError: ``other`` is no tensor.
    """
    if not isinstance(other, Tensor):
        raise TypeError(f"type_as: other must be a tensor, got a {builtins.type(other).__name__}; use to()")
    return to(x, other)


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
    """``x`` as int64, without what is behind the point."""
    return to(x, np.int64)


@public("Tensor")
def int(x: Tensor) -> Tensor:
    """``x`` as int32, without what is behind the point."""
    return to(x, np.int32)


@public("Tensor")
def short(x: Tensor) -> Tensor:
    """``x`` as int16, without what is behind the point."""
    return to(x, np.int16)


@public("Tensor")
def char(x: Tensor) -> Tensor:
    """``x`` as int8, without what is behind the point."""
    return to(x, np.int8)


@public("Tensor")
def byte(x: Tensor) -> Tensor:
    """``x`` as uint8, without what is behind the point."""
    return to(x, np.uint8)


@public("Tensor")
def bool(x: Tensor) -> Tensor:
    """``x`` as bool: False where it is 0."""
    return to(x, builtins.bool)
