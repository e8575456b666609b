"""Softmax and its logarithm over the last axis, masked too, and their derivatives.

A row is read while it lies in cache: its maximum, then its exponentials and their sum, then the division. Rows are
spread over the threads; each row is summed by one of them in one order. The functions that end in ``_in_numpy`` say
what the kernels compute.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from tinygrad_attn.kernels.runtime.jit import inlined_kernel, parallel_kernel, serial_kernel
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = [
    "log_softmax",
    "log_softmax_backward",
    "log_softmax_backward_in_numpy",
    "log_softmax_in_numpy",
    "softmax",
    "softmax_backward",
    "softmax_backward_in_numpy",
    "softmax_backward_row",
    "softmax_in_numpy",
    "softmax_rows",
]

Array = np.ndarray[Any, Any]

_SERIAL_SIZE = 16384  # elements up to which waking the threads costs more than they save
_BLOCK_SIZE = 16384  # elements that a thread takes at a time, or one row if that is longer


# --- In NumPy ---------------------------------------------------------------------------------------------------------


def softmax_in_numpy(x: Array, mask: Array | bool = True) -> Array:
    """exp(x_i) / sum_j exp(x_j) over the elements where ``mask``; zeros in rows whose mask is False throughout."""
    x = np.where(mask, x, -np.inf)
    top = x.max(-1, keepdims=True)
    exponentials = np.exp(x - np.where(top == -np.inf, 0, top))
    total = exponentials.sum(-1, keepdims=True)
    return exponentials / np.where(total == 0, 1, total)


def softmax_backward_in_numpy(g: Array, y: Array) -> Array:
    """The gradient of x for y = softmax(x): dy_i / dx_j is y_i ([i = j] - y_j)."""
    return y * (g - (g * y).sum(-1, keepdims=True))


def log_softmax_in_numpy(x: Array) -> Array:
    """x_i - log sum_j exp(x_j)."""
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def log_softmax_backward_in_numpy(g: Array, z: Array) -> Array:
    """The gradient of x for z = log_softmax(x)."""
    return g - np.exp(z) * g.sum(-1, keepdims=True)


# --- One row, which is x[start : whole + rest]: whole vectors from start to whole, and a rest that stays in a register
#     as ``tail``, since reading back what a masked store has just written would stall --------------------------------


@inlined_kernel
def row_maximum(x: Any, start: int, whole: int, tail: Any) -> Any:
    top = tail
    for i in range(start, whole, simd.lanes(x)):
        top = simd.maximum(top, simd.load(x, i))
    return simd.reduce_max(top)


@inlined_kernel
def _mask_row(x: Any, mask: Any, mask_start: int, y: Any, start: int, whole: int, tail: Any) -> Any:
    """Write the row to ``y`` with -inf where ``mask`` is False, and return its maximum."""
    top = tail
    for i in range(start, whole, simd.lanes(x)):
        row = simd.load(x, i)
        row = simd.select(simd.load_mask(mask, mask_start + i - start, row), row, -math.inf)
        simd.store(y, i, row)
        top = simd.maximum(top, row)
    return simd.reduce_max(top)


@inlined_kernel
def shift_of(x: Any, top: Any) -> Any:
    """The vector to subtract from a row with maximum ``top``: zeros if that is -inf, so that -inf stays -inf."""
    shift = simd.splat(x, top)
    return simd.select(shift > -math.inf, shift, 0.0)


@inlined_kernel
def _softmax_row(x: Any, y: Any, start: int, whole: int, rest: int, tail: Any, top: Any) -> None:
    step = simd.lanes(x)
    shift = shift_of(x, top)
    total = simd.splat(x, 0.0)
    for i in range(start, whole, step):
        exponential = simd_math.exp(simd.load(x, i) - shift)
        simd.store(y, i, exponential)
        total = total + exponential
    if rest:
        tail = simd_math.exp(tail - shift)
        total = total + tail
    total = simd.splat(x, simd.reduce_sum(total))
    scale = simd.select(total == 0.0, 0.0, 1.0 / total)
    for i in range(start, whole, step):
        simd.store(y, i, simd.load(y, i) * scale)
    if rest:
        simd.store_part(y, whole, rest, tail * scale)


@inlined_kernel
def row_total(x: Any, start: int, whole: int, tail: Any, top: Any) -> Any:
    """The sum of ``exp(x - top)``."""
    shift = shift_of(x, top)
    total = simd_math.exp(tail - shift)
    for i in range(start, whole, simd.lanes(x)):
        total = total + simd_math.exp(simd.load(x, i) - shift)
    return simd.reduce_sum(total)


@inlined_kernel
def _log_softmax_row(x: Any, y: Any, start: int, whole: int, rest: int, top: Any, log_total: Any) -> None:
    shift = shift_of(x, top)
    for i in range(start, whole, simd.lanes(x)):
        simd.store(y, i, simd.load(x, i) - shift - log_total)
    if rest:
        simd.store_part(y, whole, rest, simd.load_part(x, whole, rest, 0.0) - shift - log_total)


@inlined_kernel
def softmax_backward_row(g: Any, y: Any, dx: Any, start: int, whole: int, rest: int) -> None:
    step = simd.lanes(g)
    g_tail, y_tail = simd.load_part(g, whole, rest, 0.0), simd.load_part(y, whole, rest, 0.0)
    total = g_tail * y_tail
    for i in range(start, whole, step):
        total = simd.fma(simd.load(g, i), simd.load(y, i), total)
    mean = simd.splat(g, simd.reduce_sum(total))
    for i in range(start, whole, step):
        simd.store(dx, i, simd.load(y, i) * (simd.load(g, i) - mean))
    if rest:
        simd.store_part(dx, whole, rest, y_tail * (g_tail - mean))


@inlined_kernel
def _log_softmax_backward_row(g: Any, z: Any, dx: Any, start: int, whole: int, rest: int) -> None:
    step = simd.lanes(g)
    tail = simd.load_part(g, whole, rest, 0.0)
    total = tail
    for i in range(start, whole, step):
        total = total + simd.load(g, i)
    total = simd.splat(g, simd.reduce_sum(total))
    for i in range(start, whole, step):
        simd.store(dx, i, simd.load(g, i) - simd_math.exp(simd.load(z, i)) * total)
    if rest:
        simd.store_part(dx, whole, rest, tail - simd_math.exp(simd.load_part(z, whole, rest, 0.0)) * total)


# --- Many rows --------------------------------------------------------------------------------------------------------


@serial_kernel
def softmax_rows(x: Any, y: Any, size: int, first: int, last: int) -> None:
    rest = size % simd.lanes(x)
    for start in range(first * size, last * size, size):
        whole = start + size - rest
        tail = simd.load_part(x, whole, rest, -math.inf)
        _softmax_row(x, y, start, whole, rest, tail, row_maximum(x, start, whole, tail))


@serial_kernel
def _log_softmax_rows(x: Any, tops: Any, totals: Any, y: Any, size: int, first: int, last: int) -> None:
    """``tops`` and ``totals`` have an element per row to work with: one vector of logarithms then serves many rows."""
    rest = size % simd.lanes(x)
    for row in range(first, last):
        whole = (row + 1) * size - rest
        tail = simd.load_part(x, whole, rest, -math.inf)
        tops[row] = row_maximum(x, row * size, whole, tail)
        total = row_total(x, row * size, whole, tail, tops[row])
        totals[row] = 1.0 if total == 0.0 else total
    for row in range(first, last, simd.lanes(x)):
        count = min(simd.lanes(x), last - row)
        simd.store_part(totals, row, count, simd_math.log(simd.load_part(totals, row, count, 1.0)))
    for row in range(first, last):
        _log_softmax_row(x, y, row * size, (row + 1) * size - rest, rest, tops[row], totals[row])


@serial_kernel
def _masked_softmax_rows(x: Any, mask: Any, mask_starts: Any, y: Any, size: int, first: int, last: int) -> None:
    rest = size % simd.lanes(x)
    for row in range(first, last):
        start = row * size
        whole = start + size - rest
        tail = simd.load_part(x, whole, rest, -math.inf)
        tail_mask = simd.load_mask_part(mask, mask_starts[row] + size - rest, rest, tail)
        tail = simd.select(tail_mask, tail, -math.inf)
        top = _mask_row(x, mask, mask_starts[row], y, start, whole, tail)
        _softmax_row(y, y, start, whole, rest, tail, top)


@serial_kernel
def _backward_rows(g: Any, y: Any, dx: Any, size: int, first: int, last: int, log: bool) -> None:
    rest = size % simd.lanes(g)
    for start in range(first * size, last * size, size):
        if log:
            _log_softmax_backward_row(g, y, dx, start, start + size - rest, rest)
        else:
            softmax_backward_row(g, y, dx, start, start + size - rest, rest)


@parallel_kernel
def _softmax_parallel(x: Any, y: Any, size: int, rows: int, block: int) -> None:
    for i in numba.prange((rows + block - 1) // block):
        softmax_rows(x, y, size, i * block, min(rows, (i + 1) * block))


@parallel_kernel
def _log_softmax_parallel(x: Any, tops: Any, totals: Any, y: Any, size: int, rows: int, block: int) -> None:
    for i in numba.prange((rows + block - 1) // block):
        _log_softmax_rows(x, tops, totals, y, size, i * block, min(rows, (i + 1) * block))


@parallel_kernel
def _masked_softmax_parallel(x: Any, mask: Any, mask_starts: Any, y: Any, size: int, rows: int, block: int) -> None:
    for i in numba.prange((rows + block - 1) // block):
        _masked_softmax_rows(x, mask, mask_starts, y, size, i * block, min(rows, (i + 1) * block))


@parallel_kernel
def _backward_parallel(g: Any, y: Any, dx: Any, size: int, rows: int, block: int, log: bool) -> None:
    for i in numba.prange((rows + block - 1) // block):
        _backward_rows(g, y, dx, size, i * block, min(rows, (i + 1) * block), log)


# --- Any shape --------------------------------------------------------------------------------------------------------


def softmax(x: Array, mask: Array | None = None, out: Array | None = None) -> Array:
    """``exp(x) / sum(exp(x))`` along the last axis, over the elements where ``mask`` is True.

    A row is zeros if its mask is False throughout or its elements are all -inf.

    Args:
        x: ``(..., n)``, float32 or float64; copied unless C-contiguous.
        mask: booleans that broadcast to ``x``, True where an element takes part. Not expanded along leading axes.
        out: a C-contiguous array of ``x``'s shape and dtype for the result; ``x`` itself will do.

    Returns:
        An array of ``x``'s shape and dtype.
    """
    x, out, size, rows = _prepare("softmax", x, out)
    if x.size == 0:
        return out
    flat_x, flat_out = x.reshape(-1), out.reshape(-1)
    if mask is None:
        _run(softmax_rows, _softmax_parallel, (flat_x, flat_out), size, rows)
    else:
        _run(_masked_softmax_rows, _masked_softmax_parallel, (flat_x, *_mask_rows(mask, x.shape), flat_out), size, rows)
    return out


def log_softmax(x: Array, out: Array | None = None) -> Array:
    """``x - log(sum(exp(x)))`` along the last axis, without overflow; a row that is -inf throughout stays so.

    Shapes and dtypes are those of `softmax`.
    """
    x, out, size, rows = _prepare("log_softmax", x, out)
    if x.size:
        tops, totals = np.empty((2, rows), x.dtype)
        _run(_log_softmax_rows, _log_softmax_parallel, (x.reshape(-1), tops, totals, out.reshape(-1)), size, rows)
    return out


def softmax_backward(g: Array, y: Array, out: Array | None = None) -> Array:
    """``y * (g - sum(g * y))`` along the last axis: the gradient of ``x`` for ``y = softmax(x)``, masked or not.

    ``g`` and ``y`` have one shape and dtype; ``out`` may be either of them.
    """
    return _backward("softmax_backward", g, y, out, log=False)


def log_softmax_backward(g: Array, z: Array, out: Array | None = None) -> Array:
    """``g - exp(z) * sum(g)`` along the last axis: the gradient of ``x`` for ``z = log_softmax(x)``.

    ``g`` and ``z`` have one shape and dtype; ``out`` may be either of them.
    """
    return _backward("log_softmax_backward", g, z, out, log=True)


def _backward(name: str, g: Array, y: Array, out: Array | None, log: bool) -> Array:
    if g.shape != y.shape or g.dtype != y.dtype:
        raise ValueError(
            f"{name}: gradient {g.shape} {g.dtype} and output {y.shape} {y.dtype} must have the same shape and dtype"
        )
    g, out, size, rows = _prepare(name, g, out)
    if g.size:
        arrays = (g.reshape(-1), np.ascontiguousarray(y).reshape(-1), out.reshape(-1))
        _run(_backward_rows, _backward_parallel, arrays, size, rows, log)
    return out


def _prepare(name: str, x: Array, out: Array | None) -> tuple[Array, Array, int, int]:
    """``x`` contiguous, where the result goes, the length of a row, and how many there are."""
    if x.dtype != np.float32 and x.dtype != np.float64:
        raise TypeError(f"{name}: dtype must be float32 or float64, got {x.dtype}; convert with astype")
    if x.ndim == 0:
        raise ValueError(f"{name}: needs at least one axis, got a 0-d array; reshape it to (1,)")
    if out is None:
        out = np.empty(x.shape, x.dtype)
    elif out.shape != x.shape or out.dtype != x.dtype or not out.flags.carray:
        raise ValueError(
            f"{name}: out must be writeable, C-contiguous, {x.shape} and {x.dtype} as the input, "
            f"got {out.shape} and {out.dtype}"
        )
    size = x.shape[-1]
    return np.ascontiguousarray(x), out, size, x.size // max(size, 1)


def _mask_rows(mask: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """``mask`` flat, and for each row of an array of ``shape`` where in it that row's booleans start."""
    if mask.dtype != np.bool_:
        raise TypeError(f"softmax: mask must be boolean (True = takes part), got {mask.dtype}")
    size, leading = shape[-1], shape[:-1]
    try:
        if mask.shape[-1:] != (size,):
            mask = np.broadcast_to(mask, (*mask.shape[:-1], size))
        starts = np.arange(0, mask.size, size).reshape(mask.shape[:-1])
        if starts.shape != leading:
            starts = np.ascontiguousarray(np.broadcast_to(starts, leading))
    except ValueError:
        raise ValueError(f"softmax: mask {mask.shape} does not broadcast to {shape}") from None
    return np.ascontiguousarray(mask).reshape(-1), starts.reshape(-1)


def _run(serial: Any, parallel: Any, arrays: tuple[Any, ...], size: int, rows: int, *options: Any) -> None:
    if size * rows <= _SERIAL_SIZE:
        serial(*arrays, size, 0, rows, *options)
    else:
        parallel(*arrays, size, rows, max(1, _BLOCK_SIZE // size), *options)
