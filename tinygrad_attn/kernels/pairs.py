"""Functions of the elements of two arrays, on all threads if they are large, with the bits of NumPy.

In NumPy: ``x + y``, and ``x * (1 - y * y)``, the gradient of tanh's operand from that of its result y.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Job, Prepared
from tinygrad_attn.kernels.runtime.structs import Address, kernel_for, read_struct, row_at
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["add_into", "tanh_gradient"]

Array = np.ndarray[Any, Any]

_ADD, _TANH_GRADIENT = range(2)
_ADD_IN_NUMPY = 131072  # elements up to which NumPy is as quick
_TANH_IN_NUMPY = 8192  # of three passes
_BLOCK_SIZE = 32768  # elements that a thread takes at a time


class _Pairs(NamedTuple):
    x: Address  # (size,)
    y: Address  # (size,)
    out: Address  # (size,), may be x or y
    size: int
    function: int


def _make_kernel(dtype: Any) -> Any:
    @serial_kernel
    def compute(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Pairs, arguments)
        x, y, out = row_at(dtype, s.x, 0, s.size), row_at(dtype, s.y, 0, s.size), row_at(dtype, s.out, 0, s.size)
        for i in range(first, last, simd.lanes(x)):
            count = min(simd.lanes(x), last - i)
            a, b = simd.load_part(x, i, count, 0.0), simd.load_part(y, i, count, 0.0)
            simd.store_part(out, i, count, a + b if s.function == _ADD else a * (1.0 - b * b))

    return compute


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared(function: int, size: int, dtype: Any) -> Prepared:
    last = {"size": size, "function": function}
    return Prepared(Job(kernel_for(_make_kernel, dtype.type), _Pairs, last, size, -(-size // _BLOCK_SIZE)))


def _computed(function: int, least: int, x: Array, y: Array, out: Array) -> bool:
    """Write the function of x and y to ``out``, if there are more than ``least`` elements and they lie in order."""
    size, dtype = out.size, out.dtype
    if size <= least or dtype.char not in "fd" or x.dtype is not dtype or y.dtype is not dtype:
        return False
    if not (x.shape == y.shape == out.shape and x.flags.c_contiguous and y.flags.c_contiguous and out.flags.carray):
        return False
    _prepared(function, size, dtype).launch((data_address(x), data_address(y), data_address(out)))
    return True


def add_into(x: Array, y: Array, out: Array) -> Array:
    """Write the sum of two arrays of one shape to ``out``, which may be one of them, and return it."""
    return out if _computed(_ADD, _ADD_IN_NUMPY, x, y, out) else np.add(x, y, out=out)


def tanh_gradient(g: Array, z: Array) -> Array:
    """``g * (1 - z * z)``, a new array in the shape of z."""
    result = np.empty_like(z)
    if _computed(_TANH_GRADIENT, _TANH_IN_NUMPY, g, z, result):
        return result
    np.multiply(z, z, out=result)
    np.subtract(1.0, result, out=result)
    return np.multiply(g, result, out=result)
