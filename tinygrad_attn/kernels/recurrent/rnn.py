"""The plain RNN, one step forward and backward.

Elman, "Finding Structure in Time", 1990, with tanh or relu. `step` and `step_backward` say in NumPy what the kernels
compute.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tinygrad_attn.kernels.recurrent.loops import Loop, load_sum
from tinygrad_attn.kernels.recurrent.sequence import Cell
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import read_struct, row_at
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["RELU", "TANH", "step", "step_backward"]

Array = np.ndarray[Any, Any]


# --- In NumPy ---------------------------------------------------------------------------------------------------------


def step(gx: Array, gh: Array, h: Array, relu: bool = False) -> tuple[Array]:
    """The state after a step, from the parts of the input, gx (B, H), and of the state, gh."""
    return (np.maximum(gx + gh, 0.0) if relu else np.tanh(gx + gh),)


def step_backward(
    gx: Array, gh: Array, states: tuple[Array], d: tuple[Array], relu: bool = False
) -> tuple[Array, Array, Array]:
    """The gradients of gx, gh and h, given that of the new state; h's leaves out what flows through gh."""
    (new,), (d_new,) = step(gx, gh, *states, relu), d
    dg = d_new * ((new > 0) if relu else 1 - new**2)
    return dg, dg, np.zeros_like(dg)


# --- In kernels, for one row at one step (see `Loop`) -----------------------------------------------------------------


def _make_forward(relu: bool, dtype: Any) -> Any:
    @serial_kernel
    def forward(loop: int, here: int, row: int, h: int, c: int) -> None:
        s = read_struct(Loop, loop)
        gx, gh, new = (
            row_at(dtype, s.gx, here, s.size),
            row_at(dtype, s.gh, row, s.size),
            row_at(dtype, s.states, here, s.size),
        )
        for i in range(0, s.size, simd.lanes(gx)):
            count = min(simd.lanes(gx), s.size - i)
            total = load_sum(gx, gh, i, count)
            simd.store_part(new, i, count, simd.select(total < 0.0, 0.0, total) if relu else simd_math.tanh(total))

    return forward


def _make_backward(relu: bool, dtype: Any) -> Any:
    @serial_kernel
    def backward(loop: int, here: int, row: int, h: int, c: int) -> None:
        s = read_struct(Loop, loop)
        new, dh, dgx = (
            row_at(dtype, s.states, here, s.size),
            row_at(dtype, s.dh, row, s.size),
            row_at(dtype, s.dgx, here, s.size),
        )
        for i in range(0, s.size, simd.lanes(dh)):
            count = min(simd.lanes(dh), s.size - i)
            after, d = simd.load_part(new, i, count, 0.0), simd.load_part(dh, i, count, 0.0)
            simd.store_part(dgx, i, count, simd.select(after > 0.0, d, 0.0) if relu else d * (1.0 - after * after))
            simd.store_part(dh, i, count, simd.splat(dh, 0.0))

    return backward


def _cell(relu: bool) -> Cell:
    forward, backward = functools.partial(_make_forward, relu), functools.partial(_make_backward, relu)
    return Cell("rnn", forward, backward, parts=1, gates=0, same_gradient=True)


TANH, RELU = _cell(False), _cell(True)
