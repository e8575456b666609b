"""The loop over the steps of a sequence that all recurrent cells share, forward and backward.

A cell is a function of one step, ``new states = step(gx, gh, *states)`` with ``gh = h W_hh^T + b_hh`` and h the first
of the states. The loop does the rest: the order of the steps, the product with W_hh, whose weights are packed once, the
initial states, and the mask. `run` and `run_backward` say it in NumPy.

Sequences do not depend on each other: each thread takes some of them through all steps, without waiting for another.
The row of step t and sequence i of an array over all steps has the number ``t * step_stride + i * stride``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.gemm.operands import Extent, Matrix
from tinygrad_attn.kernels.runtime.calls import call
from tinygrad_attn.kernels.runtime.jit import called_kernel, inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, read_struct, row_at
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["Loop", "load_sum", "make_backward", "make_forward", "prefetch_gates", "run", "run_backward"]

Array = np.ndarray[Any, Any]


# --- In NumPy ---------------------------------------------------------------------------------------------------------


def run(
    step: Callable[..., Sequence[Array]],
    gx: Array,
    w_hh: Array,
    b_hh: Array,
    initial: Sequence[Array],
    mask: Array,
    reverse: bool = False,
) -> list[Sequence[Array]]:
    """The states before the first step and after each, in the order of the steps. Where the mask is False they stay."""
    history = [initial]
    for t in range(len(gx))[:: -1 if reverse else 1]:
        states = history[-1]
        new = step(gx[t], states[0] @ w_hh.T + b_hh, *states)
        history.append([np.where(mask[t, :, None], *pair) for pair in zip(new, states, strict=True)])
    return history


def run_backward(
    step_backward: Callable[..., Sequence[Array]],
    g: Array,
    g_last: Sequence[Array],
    history: list[Sequence[Array]],
    gx: Array,
    w_hh: Array,
    b_hh: Array,
    mask: Array,
    reverse: bool = False,
) -> tuple[Array, Array, Array, list[Array]]:
    """The gradients of gx, W_hh, b_hh and the initial states, from ``g``, that of h after each step, at the index
    of its input, and ``g_last``, those of all states after the last."""
    dgx, dw_hh, db_hh, d = np.zeros_like(gx), np.zeros_like(w_hh), np.zeros_like(b_hh), list(g_last)
    for t, states in zip(range(len(gx))[:: 1 if reverse else -1], history[-2::-1], strict=True):
        d[0] = d[0] + g[t]
        taken = mask[t, :, None]
        of_gx, of_gh, *before = step_backward(gx[t], states[0] @ w_hh.T + b_hh, states, d)
        dgx[t], of_gh = np.where(taken, of_gx, 0.0), np.where(taken, of_gh, 0.0)
        d = [np.where(taken, *pair) for pair in zip(before, d, strict=True)]
        d[0] = d[0] + of_gh @ w_hh
        dw_hh += of_gh.T @ states[0]
        db_hh += of_gh.sum(0)
    return dgx, dw_hh, db_hh, d


# --- In kernels -------------------------------------------------------------------------------------------------------


class Loop(NamedTuple):
    """What the loop and the cell's kernels work on. Arrays are given as rows; what a pass does not need is None.

    A cell's kernel, forward or backward, is called for one row as ``(loop, here, row, h, c)``: ``here`` is the number
    of the row in arrays over all steps, ``row`` in those by sequence, ``h`` and ``c`` the addresses of the states
    before. Forward it reads gx and gh and writes gates, states and cells. Backward it reads dh and dc, the gradients of
    the states after, writes dgx and dgh, and leaves in dh and dc those of the states before, but for the part through
    gh.

    ``attend``, if not 0, is a kernel to call in every step: forward, before the product, as ``(attention, t, h,
    distance, first, last)``, with the states before at ``h``, ``distance`` bytes apart; backward, after the cell, as
    ``(attention, t, first, last)``.
    """

    panels: Address  # the packed weights of W_hh, transposed for the forward pass
    h0: Address  # (B, H)
    states: Address  # (T, B, H)
    dgh: Address  # (T, B, parts * H)
    bias: Address  # (parts * H,)
    mask: Address  # (T, B) booleans
    c0: Address  # (B, H)
    cells: Address  # (T, B, H)
    gates: Address  # (T, B, n * H), what the cell keeps for its backward step
    gx: Address  # (T, B, parts * H)
    gh: Address  # (B, parts * H)
    g: Address  # (T, B, H)
    dgx: Address  # (T, B, parts * H)
    dh: Address  # (B, H)
    dc: Address  # (B, H)
    before: Address  # (T, B, H), for the states h before each step, which the backward pass writes
    attention: Address
    cell: int
    size: int  # H
    parts: int  # gx and gh have rows of parts * H
    steps: int
    step_stride: int
    stride: int
    product: int  # address of the product with the panels
    width: int  # of a panel
    reverse: int
    attend: int


def make_forward(dtype: Any) -> Any:
    """The loop forward, a kernel ``(loop, first, last)`` for some of the sequences."""
    itemsize = np.dtype(dtype).itemsize

    @serial_kernel
    def forward(loop: int, first: int, last: int) -> None:
        s = read_struct(Loop, loop)
        row_bytes, rows = s.size * itemsize, last - first
        gh = Matrix(s.gh + first * s.parts * row_bytes, s.parts * row_bytes, itemsize)
        h, c, distance = s.h0, s.c0, row_bytes
        for step in range(s.steps):
            t = s.steps - 1 - step if s.reverse else step
            if s.attend:
                call(s.attend, s.attention, t, h, distance, first, last)
            extent, before = Extent(rows, s.parts * s.size, s.size), Matrix(h + first * distance, distance, itemsize)
            call(s.product, extent, before, s.panels, s.width, s.bias, gh, 0, step % 2)
            at = t * s.step_stride
            for row in range(first, last):
                here, old = at + row * s.stride, row * distance
                if s.mask == 0 or row_at(np.bool_, s.mask, here, 1)[0]:
                    call(s.cell, loop, here, row, h + old, c + old)
                else:
                    _copy_row(row_at(dtype, h + old, 0, s.size), row_at(dtype, s.states, here, s.size))
                    if s.cells:
                        _copy_row(row_at(dtype, c + old, 0, s.size), row_at(dtype, s.cells, here, s.size))
            h, c, distance = s.states + at * row_bytes, s.cells + at * row_bytes, s.stride * row_bytes

    return forward


def make_backward(dtype: Any) -> Any:
    """The loop backward, a kernel ``(loop, first, last)`` for some of the sequences."""
    itemsize = np.dtype(dtype).itemsize

    @serial_kernel
    def backward(loop: int, first: int, last: int) -> None:
        s = read_struct(Loop, loop)
        row_bytes, width, rows = s.size * itemsize, s.parts * s.size, last - first
        dh = Matrix(s.dh + first * row_bytes, row_bytes, itemsize)
        for step in range(s.steps):
            t = step if s.reverse else s.steps - 1 - step
            at = t * s.step_stride
            before = (at + s.step_stride if s.reverse else at - s.step_stride) * row_bytes
            h, c, distance = s.states + before, s.cells + before, s.stride * row_bytes
            if step == s.steps - 1:
                h, c, distance = s.h0, s.c0, row_bytes
            for row in range(first, last):
                here, old = at + row * s.stride, row * distance
                _add_row(row_at(dtype, s.dh, row, s.size), row_at(dtype, s.g, here, s.size))
                _copy_row(row_at(dtype, h + old, 0, s.size), row_at(dtype, s.before, here, s.size))
                if s.mask == 0 or row_at(np.bool_, s.mask, here, 1)[0]:
                    call(s.cell, loop, here, row, h + old, c + old)
                else:
                    row_at(dtype, s.dgx, here, width)[:] = 0.0
                    row_at(dtype, s.dgh, here, width)[:] = 0.0
            if s.attend:
                call(s.attend, s.attention, t, first, last)
            start, distance = s.dgh + (at + first * s.stride) * width * itemsize, s.stride * width * itemsize
            dgh = Matrix(start, distance, itemsize)
            call(s.product, Extent(rows, s.size, width), dgh, s.panels, s.width, 0, dh, 1, step % 2)

    return backward


@inlined_kernel
def prefetch_gates(row: Any, size: int, i: int, count: int) -> None:
    """Ask for unit i of so many gates, ``size`` units each, of the row that the next step reads or writes."""
    for gate in range(count):
        simd.prefetch(row, gate * size + i)


@inlined_kernel
def load_sum(x: Any, y: Any, start: int, count: int) -> Any:
    """The vector of ``count`` elements of x + y from ``start`` on."""
    return simd.load_part(x, start, count, 0.0) + simd.load_part(y, start, count, 0.0)


@called_kernel
def _add_row(x: Any, y: Any) -> None:
    """x += y."""
    for i in range(0, x.size, simd.lanes(x)):
        count = min(simd.lanes(x), x.size - i)
        simd.store_part(x, i, count, load_sum(x, y, i, count))


@called_kernel
def _copy_row(x: Any, y: Any) -> None:
    """y = x. A slice assigned to a slice would take a second to compile, for its error message."""
    for i in range(x.size):
        y[i] = x[i]
