"""Softmax and its logarithm over the last axis, masked too, and their derivatives.

A row is read while it lies in cache: its maximum, then its exponentials and their sum, then the division. Rows are
spread over the threads; each row is summed by one of them in one order. The functions that end in ``_in_numpy`` say
what the kernels compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.jit import inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, launch, read_struct, row_at
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
    "softmax_row",
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


# --- One row: whole vectors, and a rest that stays in a register as ``tail``, since reading back what a masked store
#     has just written would stall -------------------------------------------------------------------------------------


@inlined_kernel
def row_maximum(x: Any, whole: int, tail: Any) -> Any:
    top = tail
    for i in range(0, whole, simd.lanes(x)):
        top = simd.maximum(top, simd.load(x, i))
    return simd.reduce_max(top)


@inlined_kernel
def _mask_row(x: Any, mask: Any, y: Any, whole: int, tail: Any) -> Any:
    """Write the row to ``y`` with -inf where ``mask`` is False, and return its maximum."""
    top = tail
    for i in range(0, whole, simd.lanes(x)):
        row = simd.load(x, i)
        row = simd.select(simd.load_mask(mask, i, row), row, -math.inf)
        simd.store(y, i, row)
        top = simd.maximum(top, row)
    return simd.reduce_max(top)


@inlined_kernel
def shift_of(x: Any, top: Any) -> Any:
    """The vector to subtract from a row with maximum ``top``: zeros if that is -inf, so that -inf stays -inf."""
    shift = simd.splat(x, top)
    return simd.select(shift > -math.inf, shift, 0.0)


@inlined_kernel
def _divide_row(x: Any, y: Any, whole: int, tail: Any, top: Any) -> None:
    """Write ``exp(x - top)``, divided by its sum."""
    step, rest = simd.lanes(x), x.size - whole
    shift = shift_of(x, top)
    total = simd.splat(x, 0.0)
    for i in range(0, whole, step):
        exponential = simd_math.exp(simd.load(x, i) - shift)
        simd.store(y, i, exponential)
        total = total + exponential
    if rest:
        tail = simd_math.exp(tail - shift)
        total = total + tail
    total = simd.splat(x, simd.reduce_sum(total))
    scale = simd.select(total == 0.0, 0.0, 1.0 / total)
    for i in range(0, whole, step):
        simd.store(y, i, simd.load(y, i) * scale)
    if rest:
        simd.store_part(y, whole, rest, tail * scale)


@inlined_kernel
def softmax_row(x: Any, y: Any) -> None:
    rest = x.size % simd.lanes(x)
    tail = simd.load_part(x, x.size - rest, rest, -math.inf)
    _divide_row(x, y, x.size - rest, tail, row_maximum(x, x.size - rest, tail))


@inlined_kernel
def _masked_softmax_row(x: Any, mask: Any, y: Any) -> None:
    rest = x.size % simd.lanes(x)
    tail = simd.load_part(x, x.size - rest, rest, -math.inf)
    tail = simd.select(simd.load_mask_part(mask, x.size - rest, rest, tail), tail, -math.inf)
    _divide_row(y, y, x.size - rest, tail, _mask_row(x, mask, y, x.size - rest, tail))


@inlined_kernel
def row_total(x: Any, whole: int, tail: Any, top: Any) -> Any:
    """The sum of ``exp(x - top)``."""
    shift = shift_of(x, top)
    total = simd_math.exp(tail - shift)
    for i in range(0, whole, simd.lanes(x)):
        total = total + simd_math.exp(simd.load(x, i) - shift)
    return simd.reduce_sum(total)


@inlined_kernel
def _log_softmax_row(x: Any, y: Any, top: Any, log_total: Any) -> None:
    rest = x.size % simd.lanes(x)
    whole = x.size - rest
    shift = shift_of(x, top)
    for i in range(0, whole, simd.lanes(x)):
        simd.store(y, i, simd.load(x, i) - shift - log_total)
    if rest:
        simd.store_part(y, whole, rest, simd.load_part(x, whole, rest, 0.0) - shift - log_total)


@inlined_kernel
def softmax_backward_row(g: Any, y: Any, dx: Any) -> None:
    step, rest = simd.lanes(g), g.size % simd.lanes(g)
    whole = g.size - rest
    g_tail, y_tail = simd.load_part(g, whole, rest, 0.0), simd.load_part(y, whole, rest, 0.0)
    total = g_tail * y_tail
    for i in range(0, whole, step):
        total = simd.fma(simd.load(g, i), simd.load(y, i), total)
    mean = simd.splat(g, simd.reduce_sum(total))
    for i in range(0, whole, step):
        simd.store(dx, i, simd.load(y, i) * (simd.load(g, i) - mean))
    if rest:
        simd.store_part(dx, whole, rest, y_tail * (g_tail - mean))


@inlined_kernel
def _log_softmax_backward_row(g: Any, z: Any, dx: Any) -> None:
    step, rest = simd.lanes(g), g.size % simd.lanes(g)
    whole = g.size - rest
    tail = simd.load_part(g, whole, rest, 0.0)
    total = tail
    for i in range(0, whole, step):
        total = total + simd.load(g, i)
    total = simd.splat(g, simd.reduce_sum(total))
    for i in range(0, whole, step):
        simd.store(dx, i, simd.load(g, i) - simd_math.exp(simd.load(z, i)) * total)
    if rest:
        simd.store_part(dx, whole, rest, tail - simd_math.exp(simd.load_part(z, whole, rest, 0.0)) * total)


# --- Many rows: kernels (arguments, first, last) on the rows from first to last ---------------------------------------


class _Rows(NamedTuple):
    """What the kernels work on: of ``(rows, size)`` each, x, the gradient of the result if it is backward, y, which is
    the result, and dx."""

    rows: int
    size: int
    y: Address
    x: Address = None
    g: Address = None
    dx: Address = None
    mask: Address = None  # booleans, one row after another
    mask_starts: Address = None  # (rows,) int64, where in the mask the booleans of each row start
    tops: Address = None  # (rows,), to work with
    totals: Address = None  # (rows,), likewise


def _make_softmax(dtype: Any) -> Any:
    @serial_kernel
    def softmax(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Rows, arguments)
        for row in range(first, last):
            softmax_row(row_at(dtype, s.x, row, s.size), row_at(dtype, s.y, row, s.size))

    return softmax


def _make_masked_softmax(dtype: Any) -> Any:
    @serial_kernel
    def masked_softmax(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Rows, arguments)
        starts = row_at(np.int64, s.mask_starts, 0, s.rows)
        for row in range(first, last):
            mask = row_at(np.bool_, s.mask + starts[row], 0, s.size)
            _masked_softmax_row(row_at(dtype, s.x, row, s.size), mask, row_at(dtype, s.y, row, s.size))

    return masked_softmax


def _make_log_softmax(dtype: Any) -> Any:
    @serial_kernel
    def log_softmax(arguments: int, first: int, last: int) -> None:
        """The maxima and totals of all rows come first: one vector of logarithms then serves many rows."""
        s = read_struct(_Rows, arguments)
        tops, totals = row_at(dtype, s.tops, 0, s.rows), row_at(dtype, s.totals, 0, s.rows)
        whole = s.size - s.size % simd.lanes(tops)
        for row in range(first, last):
            x = row_at(dtype, s.x, row, s.size)
            tail = simd.load_part(x, whole, s.size - whole, -math.inf)
            tops[row] = row_maximum(x, whole, tail)
            total = row_total(x, whole, tail, tops[row])
            totals[row] = 1.0 if total == 0.0 else total
        for row in range(first, last, simd.lanes(tops)):
            count = min(simd.lanes(tops), last - row)
            simd.store_part(totals, row, count, simd_math.log(simd.load_part(totals, row, count, 1.0)))
        for row in range(first, last):
            _log_softmax_row(row_at(dtype, s.x, row, s.size), row_at(dtype, s.y, row, s.size), tops[row], totals[row])

    return log_softmax


def _make_softmax_backward(dtype: Any) -> Any:
    @serial_kernel
    def softmax_backward(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Rows, arguments)
        for row in range(first, last):
            g, y = row_at(dtype, s.g, row, s.size), row_at(dtype, s.y, row, s.size)
            softmax_backward_row(g, y, row_at(dtype, s.dx, row, s.size))

    return softmax_backward


def _make_log_softmax_backward(dtype: Any) -> Any:
    @serial_kernel
    def log_softmax_backward(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Rows, arguments)
        for row in range(first, last):
            g, z = row_at(dtype, s.g, row, s.size), row_at(dtype, s.y, row, s.size)
            _log_softmax_backward_row(g, z, row_at(dtype, s.dx, row, s.size))

    return log_softmax_backward


def _launch(make: Callable[[Any], Any], dtype: Any, arguments: _Rows) -> None:
    """Run the kernel that ``make`` makes for a dtype on all rows."""
    elements = arguments.rows * arguments.size
    shares = 1 if elements <= _SERIAL_SIZE else min(arguments.rows, -(-elements // _BLOCK_SIZE))
    if elements:
        launch(kernel_for(make, dtype.type), Struct(arguments), arguments.rows, shares)


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
    rows, size, out = _prepare("softmax", x, out)
    if mask is None or x.size == 0:
        _launch(_make_softmax, x.dtype, _Rows(rows, size, out, x))
    else:
        flat, starts = _mask_rows(mask, x.shape)
        _launch(_make_masked_softmax, x.dtype, _Rows(rows, size, out, x, mask=flat, mask_starts=starts))
    return out


def log_softmax(x: Array, out: Array | None = None) -> Array:
    """``x - log(sum(exp(x)))`` along the last axis, without overflow; a row that is -inf throughout stays so.

    Shapes and dtypes are those of `softmax`.
    """
    rows, size, out = _prepare("log_softmax", x, out)
    tops, totals = np.empty((2, rows), x.dtype)
    _launch(_make_log_softmax, x.dtype, _Rows(rows, size, out, x, tops=tops, totals=totals))
    return out


def softmax_backward(g: Array, y: Array, out: Array | None = None) -> Array:
    """``y * (g - sum(g * y))`` along the last axis: the gradient of ``x`` for ``y = softmax(x)``, masked or not.

    ``g`` and ``y`` have one shape and dtype; ``out`` may be either of them.
    """
    return _backward("softmax_backward", _make_softmax_backward, g, y, out)


def log_softmax_backward(g: Array, z: Array, out: Array | None = None) -> Array:
    """``g - exp(z) * sum(g)`` along the last axis: the gradient of ``x`` for ``z = log_softmax(x)``.

    ``g`` and ``z`` have one shape and dtype; ``out`` may be either of them.
    """
    return _backward("log_softmax_backward", _make_log_softmax_backward, g, z, out)


def _backward(name: str, make: Callable[[Any], Any], g: Array, y: Array, out: Array | None) -> Array:
    if g.shape != y.shape or g.dtype != y.dtype:
        raise ValueError(
            f"{name}: gradient {g.shape} {g.dtype} and output {y.shape} {y.dtype} must have the same shape and dtype"
        )
    rows, size, out = _prepare(name, g, out)
    _launch(make, g.dtype, _Rows(rows, size, y, g=g, dx=out))
    return out


def _prepare(name: str, x: Array, out: Array | None) -> tuple[int, int, Array]:
    """How many rows ``x`` has, their length, and where the result goes."""
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
    return x.size // max(size, 1), size, out


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
