"""The LSTM, one step forward and backward.

Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997, with the forget gate of Gers et al., 2000, in PyTorch's
order of gates: i (input), f (forget), g (new), o (output). `step` and `step_backward` say in NumPy what the kernels
compute.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.recurrent.loops import Loop, load_sum, prefetch_gates
from tinygrad_attn.kernels.recurrent.sequence import Cell
from tinygrad_attn.kernels.runtime.jit import inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import read_struct, row_at
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["LSTM", "step", "step_backward"]

Array = np.ndarray[Any, Any]


# --- In NumPy ---------------------------------------------------------------------------------------------------------


def step(gx: Array, gh: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """The states after a step, from the gates' parts of the input, gx (B, 4H), and of the state, gh."""
    i, f, g, o = _gates(gx + gh)
    new_c = f * c + i * g
    return o * np.tanh(new_c), new_c


def step_backward(
    gx: Array, gh: Array, states: tuple[Array, Array], d: tuple[Array, Array]
) -> tuple[Array, Array, Array, Array]:
    """The gradients of gx, gh, h and c, given those of the new states; h's leaves out what flows through gh."""
    (_, c), (dh_new, dc_new) = states, d
    i, f, g, o = _gates(gx + gh)
    tanh_c = np.tanh(f * c + i * g)
    dc = dc_new + dh_new * o * (1 - tanh_c**2)
    of_gates = [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g**2), dh_new * tanh_c * o * (1 - o)]
    dgates = np.concatenate(of_gates, -1)
    return dgates, dgates, np.zeros_like(dc), dc * f


def _gates(sums: Array) -> tuple[Array, Array, Array, Array]:
    i, f, g, o = np.split(sums, 4, -1)
    i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
    return i, f, np.tanh(g), o


# --- In kernels, for one row at one step (see `Loop`); the gates that are kept are i, f, g and o. Rows of one step lie
#     apart where arrays are by sequence, so that nothing but a request fetches the next one in time. ------------------


class _Forward(NamedTuple):
    """The arrays of a row forward."""

    gx: Any
    gh: Any
    old_c: Any
    gates: Any
    new_c: Any
    new: Any


@inlined_kernel
def _units_forward(row: Any, size: int, j: int, count: int) -> None:
    """``count`` units from ``j`` on, at most as many as a vector has lanes."""
    gx, gh, gates = row.gx, row.gh, row.gates
    i = simd_math.sigmoid(load_sum(gx, gh, j, count))
    f = simd_math.sigmoid(load_sum(gx, gh, size + j, count))
    g = simd_math.tanh(load_sum(gx, gh, 2 * size + j, count))
    o = simd_math.sigmoid(load_sum(gx, gh, 3 * size + j, count))
    cell = simd.fma(f, simd.load_part(row.old_c, j, count, 0.0), i * g)
    simd.store_part(gates, j, count, i)
    simd.store_part(gates, size + j, count, f)
    simd.store_part(gates, 2 * size + j, count, g)
    simd.store_part(gates, 3 * size + j, count, o)
    simd.store_part(row.new_c, j, count, cell)
    simd.store_part(row.new, j, count, o * simd_math.tanh(cell))


def _make_forward(dtype: Any) -> Any:
    @serial_kernel
    def forward(loop: int, here: int, row: int, h: int, c: int) -> None:
        s = read_struct(Loop, loop)
        size = s.size
        of_row = _Forward(
            row_at(dtype, s.gx, here, 4 * size),
            row_at(dtype, s.gh, row, 4 * size),
            row_at(dtype, c, 0, size),
            row_at(dtype, s.gates, here, 4 * size),
            row_at(dtype, s.cells, here, size),
            row_at(dtype, s.states, here, size),
        )
        next_gx, next_gates = (
            row_at(dtype, s.gx, here + s.stride, 4 * size),
            row_at(dtype, s.gates, here + s.stride, 4 * size),
        )
        step = simd.lanes(of_row.gx)
        whole = size - size % step
        for j in range(0, whole, step):
            prefetch_gates(next_gx, size, j, 4)
            prefetch_gates(next_gates, size, j, 4)
            _units_forward(of_row, size, j, step)
        if whole < size:
            _units_forward(of_row, size, whole, size - whole)

    return forward


class _Backward(NamedTuple):
    """The arrays of a row backward."""

    gates: Any
    dgates: Any
    old_c: Any
    new_c: Any
    dh: Any
    dc: Any


@inlined_kernel
def _units_backward(row: Any, size: int, j: int, count: int) -> None:
    """As `_units_forward`."""
    gates, dgates, dh, dc = row.gates, row.dgates, row.dh, row.dc
    i = simd.load_part(gates, j, count, 0.0)
    f = simd.load_part(gates, size + j, count, 0.0)
    g = simd.load_part(gates, 2 * size + j, count, 0.0)
    o = simd.load_part(gates, 3 * size + j, count, 0.0)
    tanh_c = simd_math.tanh(simd.load_part(row.new_c, j, count, 0.0))
    d = simd.load_part(dh, j, count, 0.0)
    d_cell = simd.fma(d * o, 1.0 - tanh_c * tanh_c, simd.load_part(dc, j, count, 0.0))
    simd.store_part(dgates, j, count, d_cell * g * i * (1.0 - i))
    simd.store_part(dgates, size + j, count, d_cell * simd.load_part(row.old_c, j, count, 0.0) * f * (1.0 - f))
    simd.store_part(dgates, 2 * size + j, count, d_cell * i * (1.0 - g * g))
    simd.store_part(dgates, 3 * size + j, count, d * tanh_c * o * (1.0 - o))
    simd.store_part(dh, j, count, simd.splat(dh, 0.0))
    simd.store_part(dc, j, count, d_cell * f)


def _make_backward(dtype: Any) -> Any:
    @serial_kernel
    def backward(loop: int, here: int, row: int, h: int, c: int) -> None:
        s = read_struct(Loop, loop)
        size = s.size
        of_row = _Backward(
            row_at(dtype, s.gates, here, 4 * size),
            row_at(dtype, s.dgx, here, 4 * size),
            row_at(dtype, c, 0, size),
            row_at(dtype, s.cells, here, size),
            row_at(dtype, s.dh, row, size),
            row_at(dtype, s.dc, row, size),
        )
        next_gates, next_dgates = (
            row_at(dtype, s.gates, here + s.stride, 4 * size),
            row_at(dtype, s.dgx, here + s.stride, 4 * size),
        )
        step = simd.lanes(of_row.dh)
        whole = size - size % step
        for j in range(0, whole, step):
            prefetch_gates(next_gates, size, j, 4)
            prefetch_gates(next_dgates, size, j, 4)
            _units_backward(of_row, size, j, step)
        if whole < size:
            _units_backward(of_row, size, whole, size - whole)

    return backward


LSTM = Cell("lstm", _make_forward, _make_backward, parts=4, gates=4, same_gradient=True)
