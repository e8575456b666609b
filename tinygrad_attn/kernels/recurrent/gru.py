"""The GRU, one step forward and backward.

Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014, in PyTorch's form and order of gates: r
(reset), z (update), n (new). `step` and `step_backward` say in NumPy what the kernels compute.
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

__all__ = ["GRU", "step", "step_backward"]

Array = np.ndarray[Any, Any]


# --- In NumPy ---------------------------------------------------------------------------------------------------------


def step(gx: Array, gh: Array, h: Array) -> tuple[Array]:
    """The state after a step, from the gates' parts of the input, gx (B, 3H), and of the state, gh."""
    _, z, n = _gates(gx, gh)
    return ((1 - z) * n + z * h,)


def step_backward(gx: Array, gh: Array, states: tuple[Array], d: tuple[Array]) -> tuple[Array, Array, Array]:
    """The gradients of gx, gh and h, given that of the new state; h's leaves out what flows through gh."""
    (h,), (d_new,) = states, d
    r, z, n = _gates(gx, gh)
    dz = d_new * (h - n) * z * (1 - z)
    dn = d_new * (1 - z) * (1 - n**2)
    dr = dn * np.split(gh, 3, -1)[2] * r * (1 - r)
    return np.concatenate([dr, dz, dn], -1), np.concatenate([dr, dz, dn * r], -1), d_new * z


def _gates(gx: Array, gh: Array) -> tuple[Array, Array, Array]:
    (gx_r, gx_z, gx_n), (gh_r, gh_z, gh_n) = np.split(gx, 3, -1), np.split(gh, 3, -1)
    r, z = 1 / (1 + np.exp(-gx_r - gh_r)), 1 / (1 + np.exp(-gx_z - gh_z))
    return r, z, np.tanh(gx_n + r * gh_n)


# --- In kernels, for one row at one step (see `Loop`); the gates that are kept are r, z, n and gh_n. Rows of one step
#     lie apart where arrays are by sequence, so that nothing but a request fetches the next one in time. --------------


class _Forward(NamedTuple):
    """The arrays of a row forward."""

    gx: Any
    gh: Any
    old: Any
    gates: Any
    new: Any


@inlined_kernel
def _units_forward(row: Any, size: int, i: int, count: int) -> None:
    """``count`` units from ``i`` on, at most as many as a vector has lanes."""
    gx, gh, gates = row.gx, row.gh, row.gates
    gh_n = simd.load_part(gh, 2 * size + i, count, 0.0)
    r = simd_math.sigmoid(load_sum(gx, gh, i, count))
    z = simd_math.sigmoid(load_sum(gx, gh, size + i, count))
    n = simd_math.tanh(simd.fma(r, gh_n, simd.load_part(gx, 2 * size + i, count, 0.0)))
    simd.store_part(gates, i, count, r)
    simd.store_part(gates, size + i, count, z)
    simd.store_part(gates, 2 * size + i, count, n)
    simd.store_part(gates, 3 * size + i, count, gh_n)
    simd.store_part(row.new, i, count, simd.fma(z, simd.load_part(row.old, i, count, 0.0) - n, n))


def _make_forward(dtype: Any) -> Any:
    @serial_kernel
    def forward(loop: int, here: int, row: int, h: int, c: int) -> None:
        s = read_struct(Loop, loop)
        size = s.size
        of_row = _Forward(
            row_at(dtype, s.gx, here, 3 * size),
            row_at(dtype, s.gh, row, 3 * size),
            row_at(dtype, h, 0, size),
            row_at(dtype, s.gates, here, 4 * size),
            row_at(dtype, s.states, here, size),
        )
        next_gx, next_gates = (
            row_at(dtype, s.gx, here + s.stride, 3 * size),
            row_at(dtype, s.gates, here + s.stride, 4 * size),
        )
        step = simd.lanes(of_row.gx)
        whole = size - size % step
        for i in range(0, whole, step):
            prefetch_gates(next_gx, size, i, 3)
            prefetch_gates(next_gates, size, i, 4)
            _units_forward(of_row, size, i, step)
        if whole < size:
            _units_forward(of_row, size, whole, size - whole)

    return forward


class _Backward(NamedTuple):
    """The arrays of a row backward."""

    gates: Any
    old: Any
    dh: Any
    dgx: Any
    dgh: Any


@inlined_kernel
def _units_backward(row: Any, size: int, i: int, count: int) -> None:
    """As `_units_forward`."""
    gates, dh, dgx, dgh = row.gates, row.dh, row.dgx, row.dgh
    r = simd.load_part(gates, i, count, 0.0)
    z = simd.load_part(gates, size + i, count, 0.0)
    n = simd.load_part(gates, 2 * size + i, count, 0.0)
    d = simd.load_part(dh, i, count, 0.0)
    dz = d * (simd.load_part(row.old, i, count, 0.0) - n) * z * (1.0 - z)
    dn = d * (1.0 - z) * (1.0 - n * n)
    dr = dn * simd.load_part(gates, 3 * size + i, count, 0.0) * r * (1.0 - r)
    simd.store_part(dgx, i, count, dr)
    simd.store_part(dgx, size + i, count, dz)
    simd.store_part(dgx, 2 * size + i, count, dn)
    simd.store_part(dgh, i, count, dr)
    simd.store_part(dgh, size + i, count, dz)
    simd.store_part(dgh, 2 * size + i, count, dn * r)
    simd.store_part(dh, i, count, d * z)


def _make_backward(dtype: Any) -> Any:
    @serial_kernel
    def backward(loop: int, here: int, row: int, h: int, c: int) -> None:
        s = read_struct(Loop, loop)
        size = s.size
        of_row = _Backward(
            row_at(dtype, s.gates, here, 4 * size),
            row_at(dtype, h, 0, size),
            row_at(dtype, s.dh, row, size),
            row_at(dtype, s.dgx, here, 3 * size),
            row_at(dtype, s.dgh, here, 3 * size),
        )
        next_gates, next_dgx, next_dgh = (
            row_at(dtype, s.gates, here + s.stride, 4 * size),
            row_at(dtype, s.dgx, here + s.stride, 3 * size),
            row_at(dtype, s.dgh, here + s.stride, 3 * size),
        )
        step = simd.lanes(of_row.dh)
        whole = size - size % step
        for i in range(0, whole, step):
            prefetch_gates(next_gates, size, i, 4)
            prefetch_gates(next_dgx, size, i, 3)
            prefetch_gates(next_dgh, size, i, 3)
            _units_backward(of_row, size, i, step)
        if whole < size:
            _units_backward(of_row, size, whole, size - whole)

    return backward


GRU = Cell("gru", _make_forward, _make_backward, parts=3, gates=4, same_gradient=False)
