"""The error function, which NumPy does not have: ``np.vectorize(math.erf)``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.kernels.runtime.jit import serial_kernel

__all__ = ["erf"]

Array = np.ndarray[Any, Any]


@serial_kernel
def _erf(x: Array, out: Array) -> None:
    for i in range(x.size):
        out[i] = math.erf(x[i])


def erf(x: Array) -> Array:
    """erf of every element of a float32 or float64 array, in its dtype."""
    flat = np.ascontiguousarray(x).reshape(-1)
    out = np.empty_like(flat)
    _erf(flat, out)
    return out.reshape(x.shape)
