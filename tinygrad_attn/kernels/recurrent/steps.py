"""The pointwise part of one RNN, GRU or LSTM step, forward and backward: everything but the product with W_hh.

The formulas are in `kernels.recurrent.sequence`. Each kernel works on the sequences ``first`` to ``last`` of the batch.
Arrays are flat; a row with k gates is k parts of ``size``. Of an array over all steps, the row of sequence i at this
step has the number ``at + i * stride``; the state before stands at ``old_at + i * old_stride`` of ``old``. What has one
row a sequence, such as the product ``gh``, is numbered by i.

Sequences whose mask is False keep their state: their gates are left unwritten, their dgx and dgh are zero, and their
gradient passes on to the state before.
"""

from __future__ import annotations

from typing import Any

from tinygrad_attn.kernels.runtime.jit import inlined_kernel, serial_kernel
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["gru_backward_rows", "gru_rows", "lstm_backward_rows", "lstm_rows", "rnn_backward_rows", "rnn_rows"]


@inlined_kernel
def _load_sum(x: Any, x_at: int, y: Any, y_at: int, count: int) -> Any:
    return simd.load_part(x, x_at, count, 0.0) + simd.load_part(y, y_at, count, 0.0)


@inlined_kernel
def _add_row(x: Any, x_at: int, y: Any, y_at: int, size: int) -> None:
    """x += y for a row."""
    step = simd.lanes(x)
    for i in range(0, size, step):
        count = min(step, size - i)
        simd.store_part(x, x_at + i, count, _load_sum(x, x_at + i, y, y_at + i, count))


@inlined_kernel
def _copy_row(x: Any, x_at: int, y: Any, y_at: int, size: int) -> None:
    """x = y for a row. A slice assigned to a slice would take a second to compile, for its error message."""
    step = simd.lanes(x)
    for i in range(0, size, step):
        count = min(step, size - i)
        simd.store_part(x, x_at + i, count, simd.load_part(y, y_at + i, count, 0.0))


@serial_kernel
def rnn_rows(
    gx: Any,
    gh: Any,
    old: Any,
    old_at: int,
    old_stride: int,
    mask: Any,
    states: Any,
    at: int,
    stride: int,
    size: int,
    relu: bool,
    first: int,
    last: int,
) -> None:
    """Write the new states."""
    step = simd.lanes(gx)
    for row in range(first, last):
        here, before = at + row * stride, old_at + row * old_stride
        if not mask[here]:
            _copy_row(states, here * size, old, before * size, size)
            continue
        for i in range(0, size, step):
            count = min(step, size - i)
            total = _load_sum(gx, here * size + i, gh, row * size + i, count)
            new = simd.select(total < 0.0, 0.0, total) if relu else simd_math.tanh(total)
            simd.store_part(states, here * size + i, count, new)


@serial_kernel
def rnn_backward_rows(
    g: Any,
    mask: Any,
    states: Any,
    dgx: Any,
    at: int,
    stride: int,
    dh: Any,
    size: int,
    relu: bool,
    first: int,
    last: int,
) -> None:
    """Write ``dgx``. ``g + dh`` is the new state's gradient; ``dh`` becomes the old one's, but for its part through
    the product."""
    step = simd.lanes(g)
    for row in range(first, last):
        here = at + row * stride
        if not mask[here]:
            dgx[here * size : (here + 1) * size] = 0.0
            _add_row(dh, row * size, g, here * size, size)
            continue
        for i in range(0, size, step):
            count = min(step, size - i)
            new = simd.load_part(states, here * size + i, count, 0.0)
            d = _load_sum(dh, row * size + i, g, here * size + i, count)
            d = simd.select(new > 0.0, d, 0.0) if relu else d * (1.0 - new * new)
            simd.store_part(dgx, here * size + i, count, d)
            simd.store_part(dh, row * size + i, count, simd.splat(g, 0.0))


@serial_kernel
def gru_rows(
    gx: Any,
    gh: Any,
    old: Any,
    old_at: int,
    old_stride: int,
    mask: Any,
    gates: Any,
    states: Any,
    at: int,
    stride: int,
    size: int,
    first: int,
    last: int,
) -> None:
    """Write the new states, and r, z, n and gh_n to ``gates``."""
    step = simd.lanes(gx)
    for row in range(first, last):
        here, before = at + row * stride, old_at + row * old_stride
        if not mask[here]:
            _copy_row(states, here * size, old, before * size, size)
            continue
        for i in range(0, size, step):
            count = min(step, size - i)
            x, y, out = 3 * here * size + i, 3 * row * size + i, 4 * here * size + i
            h = simd.load_part(old, before * size + i, count, 0.0)
            gh_n = simd.load_part(gh, y + 2 * size, count, 0.0)
            r = simd_math.sigmoid(_load_sum(gx, x, gh, y, count))
            z = simd_math.sigmoid(_load_sum(gx, x + size, gh, y + size, count))
            n = simd_math.tanh(simd.fma(r, gh_n, simd.load_part(gx, x + 2 * size, count, 0.0)))
            simd.store_part(gates, out, count, r)
            simd.store_part(gates, out + size, count, z)
            simd.store_part(gates, out + 2 * size, count, n)
            simd.store_part(gates, out + 3 * size, count, gh_n)
            simd.store_part(states, here * size + i, count, simd.fma(z, h - n, n))


@serial_kernel
def gru_backward_rows(
    g: Any,
    old: Any,
    old_at: int,
    old_stride: int,
    mask: Any,
    gates: Any,
    dgx: Any,
    dgh: Any,
    at: int,
    stride: int,
    dh: Any,
    size: int,
    first: int,
    last: int,
) -> None:
    """Write ``dgx`` and ``dgh``. ``g + dh`` is the new state's gradient; ``dh`` becomes the old one's, but for its part
    through gh."""
    step = simd.lanes(g)
    for row in range(first, last):
        here, before = at + row * stride, old_at + row * old_stride
        if not mask[here]:
            dgx[3 * here * size : 3 * (here + 1) * size] = 0.0
            dgh[3 * here * size : 3 * (here + 1) * size] = 0.0
            _add_row(dh, row * size, g, here * size, size)
            continue
        for i in range(0, size, step):
            count = min(step, size - i)
            x, out = 3 * here * size + i, 4 * here * size + i
            r = simd.load_part(gates, out, count, 0.0)
            z = simd.load_part(gates, out + size, count, 0.0)
            n = simd.load_part(gates, out + 2 * size, count, 0.0)
            gh_n = simd.load_part(gates, out + 3 * size, count, 0.0)
            d = _load_sum(dh, row * size + i, g, here * size + i, count)
            dz = d * (simd.load_part(old, before * size + i, count, 0.0) - n) * z * (1.0 - z)
            dn = d * (1.0 - z) * (1.0 - n * n)
            dr = dn * gh_n * r * (1.0 - r)
            simd.store_part(dgx, x, count, dr)
            simd.store_part(dgx, x + size, count, dz)
            simd.store_part(dgx, x + 2 * size, count, dn)
            simd.store_part(dgh, x, count, dr)
            simd.store_part(dgh, x + size, count, dz)
            simd.store_part(dgh, x + 2 * size, count, dn * r)
            simd.store_part(dh, row * size + i, count, d * z)


@serial_kernel
def lstm_rows(
    gx: Any,
    gh: Any,
    old: Any,
    old_cell: Any,
    old_at: int,
    old_stride: int,
    mask: Any,
    gates: Any,
    states: Any,
    cells: Any,
    at: int,
    stride: int,
    size: int,
    first: int,
    last: int,
) -> None:
    """Write the new states and cells, and i, f, g and o to ``gates``."""
    step = simd.lanes(gx)
    for row in range(first, last):
        here, before = at + row * stride, old_at + row * old_stride
        if not mask[here]:
            _copy_row(states, here * size, old, before * size, size)
            _copy_row(cells, here * size, old_cell, before * size, size)
            continue
        for j in range(0, size, step):
            count = min(step, size - j)
            x, y = 4 * here * size + j, 4 * row * size + j
            i = simd_math.sigmoid(_load_sum(gx, x, gh, y, count))
            f = simd_math.sigmoid(_load_sum(gx, x + size, gh, y + size, count))
            g = simd_math.tanh(_load_sum(gx, x + 2 * size, gh, y + 2 * size, count))
            o = simd_math.sigmoid(_load_sum(gx, x + 3 * size, gh, y + 3 * size, count))
            cell = simd.fma(f, simd.load_part(old_cell, before * size + j, count, 0.0), i * g)
            simd.store_part(gates, x, count, i)
            simd.store_part(gates, x + size, count, f)
            simd.store_part(gates, x + 2 * size, count, g)
            simd.store_part(gates, x + 3 * size, count, o)
            simd.store_part(cells, here * size + j, count, cell)
            simd.store_part(states, here * size + j, count, o * simd_math.tanh(cell))


@serial_kernel
def lstm_backward_rows(
    g: Any,
    old_cell: Any,
    old_at: int,
    old_stride: int,
    mask: Any,
    gates: Any,
    cells: Any,
    dgates: Any,
    at: int,
    stride: int,
    dh: Any,
    dc: Any,
    size: int,
    first: int,
    last: int,
) -> None:
    """Write ``dgates``, the gradient of gx and of gh. ``g + dh`` is the new state's gradient and ``dc`` the new cell's;
    ``dh`` and ``dc`` become the old ones', but for the state's part through gh."""
    step = simd.lanes(g)
    for row in range(first, last):
        here, before = at + row * stride, old_at + row * old_stride
        if not mask[here]:
            dgates[4 * here * size : 4 * (here + 1) * size] = 0.0
            _add_row(dh, row * size, g, here * size, size)
            continue
        for j in range(0, size, step):
            count = min(step, size - j)
            x, y = 4 * here * size + j, row * size + j
            i = simd.load_part(gates, x, count, 0.0)
            f = simd.load_part(gates, x + size, count, 0.0)
            new = simd.load_part(gates, x + 2 * size, count, 0.0)
            o = simd.load_part(gates, x + 3 * size, count, 0.0)
            c = simd.load_part(old_cell, before * size + j, count, 0.0)
            tanh_c = simd_math.tanh(simd.load_part(cells, here * size + j, count, 0.0))
            d = _load_sum(dh, y, g, here * size + j, count)
            d_cell = simd.fma(d * o, 1.0 - tanh_c * tanh_c, simd.load_part(dc, y, count, 0.0))
            simd.store_part(dgates, x, count, d_cell * new * i * (1.0 - i))
            simd.store_part(dgates, x + size, count, d_cell * c * f * (1.0 - f))
            simd.store_part(dgates, x + 2 * size, count, d_cell * i * (1.0 - new * new))
            simd.store_part(dgates, x + 3 * size, count, d * tanh_c * o * (1.0 - o))
            simd.store_part(dh, y, count, simd.splat(g, 0.0))
            simd.store_part(dc, y, count, d_cell * f)
