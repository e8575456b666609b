"""The pointwise part of one GRU or LSTM step, forward and backward: everything but the product with W_hh.

The formulas are in `tinygrad_attn.kernels.recurrent`. Arrays are flat; a row of the batch with k gates is k parts of
``size``. Rows whose mask is False keep their state: their gates are left unwritten, their dgx and dgh are zero, and
their gradient passes on to the state before.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tinygrad_attn.kernels import simd, simd_math
from tinygrad_attn.kernels.jit import inlined_kernel, parallel_kernel, serial_kernel

__all__ = ["gru_step", "gru_step_backward", "lstm_step", "lstm_step_backward"]

_SERIAL_SIZE = 8192  # states up to which waking the threads costs more than they save
_BLOCK_SIZE = 2048  # states that a thread takes at a time, or one row if that is longer


# --- Some rows of the batch -------------------------------------------------------------------------------------------


@inlined_kernel
def _load_sum(x: Any, y: Any, start: int, count: int) -> Any:
    return simd.load_part(x, start, count, 0.0) + simd.load_part(y, start, count, 0.0)


@serial_kernel
def _gru_rows(gx: Any, gh: Any, h: Any, mask: Any, gates: Any, new_h: Any, size: int, first: int, last: int) -> None:
    step = simd.lanes(h)
    for row in range(first, last):
        if not mask[row]:
            new_h[row * size : (row + 1) * size] = h[row * size : (row + 1) * size]
            continue
        for i in range(0, size, step):
            count = min(step, size - i)
            x, out, at = 3 * row * size + i, 4 * row * size + i, row * size + i
            old = simd.load_part(h, at, count, 0.0)
            gh_n = simd.load_part(gh, x + 2 * size, count, 0.0)
            r = simd_math.sigmoid(_load_sum(gx, gh, x, count))
            z = simd_math.sigmoid(_load_sum(gx, gh, x + size, count))
            n = simd_math.tanh(simd.fma(r, gh_n, simd.load_part(gx, x + 2 * size, count, 0.0)))
            simd.store_part(gates, out, count, r)
            simd.store_part(gates, out + size, count, z)
            simd.store_part(gates, out + 2 * size, count, n)
            simd.store_part(gates, out + 3 * size, count, gh_n)
            simd.store_part(new_h, at, count, simd.fma(z, old - n, n))


@serial_kernel
def _gru_backward_rows(
    g: Any, h: Any, mask: Any, gates: Any, dgx: Any, dgh: Any, dh: Any, size: int, first: int, last: int
) -> None:
    step = simd.lanes(h)
    for row in range(first, last):
        if not mask[row]:
            dgx[3 * row * size : 3 * (row + 1) * size] = 0.0
            dgh[3 * row * size : 3 * (row + 1) * size] = 0.0
            for i in range(row * size, (row + 1) * size):
                dh[i] += g[i]
            continue
        for i in range(0, size, step):
            count = min(step, size - i)
            x, out, at = 3 * row * size + i, 4 * row * size + i, row * size + i
            r = simd.load_part(gates, out, count, 0.0)
            z = simd.load_part(gates, out + size, count, 0.0)
            n = simd.load_part(gates, out + 2 * size, count, 0.0)
            gh_n = simd.load_part(gates, out + 3 * size, count, 0.0)
            d = _load_sum(dh, g, at, count)
            dz = d * (simd.load_part(h, at, count, 0.0) - n) * z * (1.0 - z)
            dn = d * (1.0 - z) * (1.0 - n * n)
            dr = dn * gh_n * r * (1.0 - r)
            simd.store_part(dgx, x, count, dr)
            simd.store_part(dgx, x + size, count, dz)
            simd.store_part(dgx, x + 2 * size, count, dn)
            simd.store_part(dgh, x, count, dr)
            simd.store_part(dgh, x + size, count, dz)
            simd.store_part(dgh, x + 2 * size, count, dn * r)
            simd.store_part(dh, at, count, d * z)


@serial_kernel
def _lstm_rows(
    gx: Any, gh: Any, h: Any, c: Any, mask: Any, gates: Any, new_h: Any, new_c: Any, size: int, first: int, last: int
) -> None:
    step = simd.lanes(h)
    for row in range(first, last):
        if not mask[row]:
            new_h[row * size : (row + 1) * size] = h[row * size : (row + 1) * size]
            new_c[row * size : (row + 1) * size] = c[row * size : (row + 1) * size]
            continue
        for j in range(0, size, step):
            count = min(step, size - j)
            x, at = 4 * row * size + j, row * size + j
            i = simd_math.sigmoid(_load_sum(gx, gh, x, count))
            f = simd_math.sigmoid(_load_sum(gx, gh, x + size, count))
            g = simd_math.tanh(_load_sum(gx, gh, x + 2 * size, count))
            o = simd_math.sigmoid(_load_sum(gx, gh, x + 3 * size, count))
            cell = simd.fma(f, simd.load_part(c, at, count, 0.0), i * g)
            simd.store_part(gates, x, count, i)
            simd.store_part(gates, x + size, count, f)
            simd.store_part(gates, x + 2 * size, count, g)
            simd.store_part(gates, x + 3 * size, count, o)
            simd.store_part(new_c, at, count, cell)
            simd.store_part(new_h, at, count, o * simd_math.tanh(cell))


@serial_kernel
def _lstm_backward_rows(
    g: Any,
    c: Any,
    new_c: Any,
    mask: Any,
    gates: Any,
    dgates: Any,
    dh: Any,
    dc: Any,
    size: int,
    first: int,
    last: int,
) -> None:
    step = simd.lanes(g)
    for row in range(first, last):
        if not mask[row]:
            dgates[4 * row * size : 4 * (row + 1) * size] = 0.0
            for j in range(row * size, (row + 1) * size):
                dh[j] += g[j]
            continue
        for j in range(0, size, step):
            count = min(step, size - j)
            x, at = 4 * row * size + j, row * size + j
            i = simd.load_part(gates, x, count, 0.0)
            f = simd.load_part(gates, x + size, count, 0.0)
            new = simd.load_part(gates, x + 2 * size, count, 0.0)
            o = simd.load_part(gates, x + 3 * size, count, 0.0)
            tanh_c = simd_math.tanh(simd.load_part(new_c, at, count, 0.0))
            d = _load_sum(dh, g, at, count)
            d_cell = simd.fma(d * o, 1.0 - tanh_c * tanh_c, simd.load_part(dc, at, count, 0.0))
            simd.store_part(dgates, x, count, d_cell * new * i * (1.0 - i))
            simd.store_part(dgates, x + size, count, d_cell * simd.load_part(c, at, count, 0.0) * f * (1.0 - f))
            simd.store_part(dgates, x + 2 * size, count, d_cell * i * (1.0 - new * new))
            simd.store_part(dgates, x + 3 * size, count, d * tanh_c * o * (1.0 - o))
            simd.store_part(dh, at, count, simd.splat(g, 0.0))
            simd.store_part(dc, at, count, d_cell * f)


# --- All rows ---------------------------------------------------------------------------------------------------------


@parallel_kernel
def _gru_parallel(
    gx: Any, gh: Any, h: Any, mask: Any, gates: Any, new_h: Any, size: int, rows: int, block: int
) -> None:
    for i in numba.prange((rows + block - 1) // block):
        _gru_rows(gx, gh, h, mask, gates, new_h, size, i * block, min(rows, (i + 1) * block))


@parallel_kernel
def _gru_backward_parallel(
    g: Any, h: Any, mask: Any, gates: Any, dgx: Any, dgh: Any, dh: Any, size: int, rows: int, block: int
) -> None:
    for i in numba.prange((rows + block - 1) // block):
        _gru_backward_rows(g, h, mask, gates, dgx, dgh, dh, size, i * block, min(rows, (i + 1) * block))


@parallel_kernel
def _lstm_parallel(
    gx: Any, gh: Any, h: Any, c: Any, mask: Any, gates: Any, new_h: Any, new_c: Any, size: int, rows: int, block: int
) -> None:
    for i in numba.prange((rows + block - 1) // block):
        _lstm_rows(gx, gh, h, c, mask, gates, new_h, new_c, size, i * block, min(rows, (i + 1) * block))


@parallel_kernel
def _lstm_backward_parallel(
    g: Any, c: Any, new_c: Any, mask: Any, gates: Any, dgates: Any, dh: Any, dc: Any, size: int, rows: int, block: int
) -> None:
    for i in numba.prange((rows + block - 1) // block):
        _lstm_backward_rows(g, c, new_c, mask, gates, dgates, dh, dc, size, i * block, min(rows, (i + 1) * block))


def gru_step(
    gx: np.ndarray, gh: np.ndarray, h: np.ndarray, mask: np.ndarray, gates: np.ndarray, new_h: np.ndarray, size: int
) -> None:
    """Write the new state, and r, z, n and gh_n to ``gates``."""
    _run(_gru_rows, _gru_parallel, (gx, gh, h, mask, gates, new_h), size, mask.size)


def gru_step_backward(
    g: np.ndarray,
    h: np.ndarray,
    mask: np.ndarray,
    gates: np.ndarray,
    dgx: np.ndarray,
    dgh: np.ndarray,
    dh: np.ndarray,
    size: int,
) -> None:
    """Write ``dgx`` and ``dgh``. ``g + dh`` is the new state's gradient; ``dh`` becomes the old one's, but for its part
    through gh."""
    _run(_gru_backward_rows, _gru_backward_parallel, (g, h, mask, gates, dgx, dgh, dh), size, mask.size)


def lstm_step(
    gx: np.ndarray,
    gh: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
    mask: np.ndarray,
    gates: np.ndarray,
    new_h: np.ndarray,
    new_c: np.ndarray,
    size: int,
) -> None:
    """Write the new state and cell, and i, f, g and o to ``gates``."""
    _run(_lstm_rows, _lstm_parallel, (gx, gh, h, c, mask, gates, new_h, new_c), size, mask.size)


def lstm_step_backward(
    g: np.ndarray,
    c: np.ndarray,
    new_c: np.ndarray,
    mask: np.ndarray,
    gates: np.ndarray,
    dgates: np.ndarray,
    dh: np.ndarray,
    dc: np.ndarray,
    size: int,
) -> None:
    """Write ``dgates``, the gradient of gx and of gh. ``g + dh`` is the new state's gradient and ``dc`` the new cell's;
    ``dh`` and ``dc`` become the old ones', but for the state's part through gh."""
    _run(_lstm_backward_rows, _lstm_backward_parallel, (g, c, new_c, mask, gates, dgates, dh, dc), size, mask.size)


def _run(serial: Any, parallel: Any, arrays: tuple[np.ndarray, ...], size: int, rows: int) -> None:
    if size * rows <= _SERIAL_SIZE:
        serial(*arrays, size, 0, rows)
    else:
        parallel(*arrays, size, rows, max(1, _BLOCK_SIZE // size))
