"""Rotation of pairs of elements by angles that grow with the position, for rotary positional encoding.

A row of d elements is d / 2 pairs (x_i, x_{i + d/2}); at position p each is turned by its angle θ_pi::

    y_i = x_i cos θ_pi - x_{i + d/2} sin θ_pi,   y_{i + d/2} = x_{i + d/2} cos θ_pi + x_i sin θ_pi

The gradient is turned back, by -θ. `rotate_in_numpy` says what the kernel computes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.jit import inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, launch, read_struct, row_at
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["rotate", "rotate_in_numpy", "turn_row"]

Array = np.ndarray[Any, Any]

_SERIAL_SIZE = 16384  # elements up to which waking the threads costs more than they save
_BLOCK_SIZE = 16384  # elements that a thread takes at a time


def rotate_in_numpy(x: Array, cos: Array, sin: Array) -> Array:
    """The rotation; arguments as of `rotate`."""
    first, second = np.split(x, 2, -1)
    cos, sin = cos[:, None], sin[:, None]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


class _Task(NamedTuple):
    x: int  # address
    outer: int  # bytes from sequence to sequence, position to position, and row to row of a position
    step: int
    inner: int
    y: Address  # (sequences, positions, rows, 2 · half)
    cos: Address  # (positions, half)
    sin: Address
    sign: float
    positions: int
    rows: int
    turned: int  # of these rows; the others are copied
    half: int


@inlined_kernel
def turn_row(x: Any, cosines: Any, sines: Any, sign: float, y: Any) -> None:
    """Write the pairs of a row, turned, to ``y``, which may be ``x``; back for a sign of -1."""
    half = cosines.size
    for i in range(0, half, simd.lanes(x)):
        count = min(half - i, simd.lanes(x))
        cos, sin = simd.load_part(cosines, i, count, 0.0), simd.load_part(sines, i, count, 0.0) * sign
        one, other = simd.load_part(x, i, count, 0.0), simd.load_part(x, half + i, count, 0.0)
        simd.store_part(y, i, count, one * cos - other * sin)
        simd.store_part(y, half + i, count, other * cos + one * sin)


def _make_rotate(dtype: Any) -> Any:
    @serial_kernel
    def turn(task: int, first: int, last: int) -> None:
        s = read_struct(_Task, task)
        half = s.half
        for item in range(first, last):
            position = item // s.rows % s.positions
            sequence, row = item // s.rows // s.positions, item % s.rows
            at = s.x + sequence * s.outer + position * s.step + row * s.inner
            x, y = row_at(dtype, at, 0, 2 * half), row_at(dtype, s.y, item, 2 * half)
            if row >= s.turned:
                y[:] = x
            else:
                cosines, sines = row_at(dtype, s.cos, position, half), row_at(dtype, s.sin, position, half)
                turn_row(x, cosines, sines, s.sign, y)

    return turn


def rotate(x: Array, cos: Array, sin: Array, turned: int | None = None, *, back: bool = False) -> Array:
    """Turn each pair by its angle, or ``back``.

    Args:
        x: ``(sequences, positions, rows, d)``, float32 or float64; any strides but along the last axis, else copied.
        cos, sin: ``(positions, d / 2)``, of ``x``'s dtype.
        turned: how many rows of a position are turned, the others being copied; all if None.
    """
    y = np.empty(x.shape, x.dtype)
    if not x.size:
        return y
    if x.strides[-1] != x.itemsize:
        x = np.ascontiguousarray(x)
    _, positions, rows, width = x.shape
    sign, items = (-1.0 if back else 1.0), x.size // width
    outer, step, inner, _ = x.strides
    turned = rows if turned is None else turned
    task = _Task(data_address(x), outer, step, inner, y, cos, sin, sign, positions, rows, turned, width // 2)
    shares = 1 if x.size <= _SERIAL_SIZE else min(items, -(-x.size // _BLOCK_SIZE))
    launch(kernel_for(_make_rotate, x.dtype.type), Struct(task), items, shares)
    return y
