"""Dropout in one pass over memory: the same function forward and, of the gradient, backward.

Whether an element is kept depends on its number and a key (`tinygrad_attn.kernels.philox`), so no mask is stored.
`drop_in_numpy` says what the kernel computes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.philox import kept, kept_in_numpy, threshold_of
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, launch, read_struct, row_at
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["drop", "drop_in_numpy"]

_BLOCK = 32  # elements; of two vectors or four
_SERIAL_BLOCKS = 512  # up to which waking the threads costs more than they save
_SHARE_BLOCKS = 512  # that a thread takes at a time


def drop_in_numpy(x: np.ndarray, p: float, key: int) -> np.ndarray:
    """Each element times ``1 / (1 - p)`` if it is kept, and times 0 if not; arguments as of `drop`."""
    kept_ = kept_in_numpy(0, x.size, key, threshold_of(p)).reshape(x.shape)
    return x * np.where(kept_, x.dtype.type(1.0 / (1.0 - p)), x.dtype.type(0.0))


class _Elements(NamedTuple):
    x: Address
    out: Address
    size: int
    key: int
    threshold: int
    scale: float


def _make_drop(dtype: Any) -> Any:
    @serial_kernel
    def drop_blocks(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Elements, arguments)
        x, out = row_at(dtype, s.x, 0, s.size), row_at(dtype, s.out, 0, s.size)
        step = simd.lanes(x)
        scale = simd.splat(x, s.scale)
        for i in range(first * _BLOCK, min(last * _BLOCK, s.size), 2 * step):
            low, high = kept(x, i, s.key, s.threshold)
            rest = s.size - i
            if rest >= 2 * step:
                simd.store(out, i, simd.load(x, i) * simd.select(low, scale, 0.0))
                simd.store(out, i + step, simd.load(x, i + step) * simd.select(high, scale, 0.0))
            else:
                n, m = min(rest, step), max(rest - step, 0)
                simd.store_part(out, i, n, simd.load_part(x, i, n, 0.0) * simd.select(low, scale, 0.0))
                i += step
                simd.store_part(out, i, m, simd.load_part(x, i, m, 0.0) * simd.select(high, scale, 0.0))

    return drop_blocks


def drop(x: np.ndarray, p: float, key: int) -> np.ndarray:
    """Every element of ``x`` times ``1 / (1 - p)``, or with probability ``p`` times 0.

    Args:
        x: float32 or float64, of any shape; copied unless C-contiguous. Elements are numbered in C order.
        p: 0 <= p < 1.
        key: decides, with an element's number, whether it is kept: 63 bits.

    Returns:
        A new array of ``x``'s shape and dtype.
    """
    out = np.empty(x.shape, x.dtype)
    elements = _Elements(x, out, x.size, key, threshold_of(p), 1.0 / (1.0 - p))
    blocks = -(-x.size // _BLOCK)
    shares = 1 if blocks <= _SERIAL_BLOCKS else -(-blocks // _SHARE_BLOCKS)
    launch(kernel_for(_make_drop, elements.out.dtype.type), Struct(elements), blocks, shares)
    return out
