"""The same numbers in another dtype; the gradient is converted back."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from tinygrad_attn.dtypes import check_dtype
from tinygrad_attn.op import cast
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor

__all__ = ["bool", "double", "float", "long", "to"]


@public("Tensor")
def to(x: Tensor, dtype: Any) -> Tensor:
    """``x`` converted to ``dtype``, ``x`` itself if it has it already.

    Raises:
        TypeError: not bool, an integer type, float32 or float64.
    """
    return x if x.dtype == check_dtype(dtype) else cast(x, dtype=np.dtype(dtype))


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
