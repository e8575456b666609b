"""RNN, GRU and LSTM through all steps, for some sequences of a batch or, in parallel, for all of them.

Sequences do not depend on each other: each thread takes some of them through all steps, without waiting for another.
Arrays are flat. The row of step t and sequence i of an array over all steps has the number
``t * step_stride + i * stride``. ``w`` is W_hh, transposed for the forward direction, packed by
`tinygrad_attn.kernels.gemm.packed`. ``gh`` and ``dh`` have a row for each sequence; ``dh`` begins as
what arrives at the last state beside ``g``, and ends as the gradient of ``h0``.
"""

from __future__ import annotations

from typing import Any

import numba

from tinygrad_attn.kernels.gemm.packed import Rows, multiply_packed
from tinygrad_attn.kernels.recurrent.steps import (
    gru_backward_rows,
    gru_rows,
    lstm_backward_rows,
    lstm_rows,
    rnn_backward_rows,
    rnn_rows,
)
from tinygrad_attn.kernels.runtime.jit import get_num_threads, parallel_kernel, serial_kernel

__all__ = ["run_gru", "run_gru_backward", "run_lstm", "run_lstm_backward", "run_rnn", "run_rnn_backward", "share"]

_SERIAL_WORK = 80**3  # multiplications up to which waking the threads costs more than they save


def share(batch: int, work: int) -> int:
    """Among how many threads to share ``batch`` sequences that take ``work`` multiplications."""
    return 1 if work <= _SERIAL_WORK else min(batch, get_num_threads())


@serial_kernel
def _rnn(
    w: Any,
    gx: Any,
    h0: Any,
    b_hh: Any,
    mask: Any,
    states: Any,
    gh: Any,
    steps: int,
    step_stride: int,
    stride: int,
    size: int,
    reverse: bool,
    relu: bool,
    first: int,
    last: int,
) -> None:
    old, old_at, old_stride = h0, 0, 1
    for step in range(steps):
        at = (steps - 1 - step if reverse else step) * step_stride
        begin, rows, odd = (old_at + first * old_stride) * size, last - first, step % 2 == 1
        multiply_packed(rows, Rows(old, begin, old_stride * size), w, b_hh, Rows(gh, first * size, size), False, odd)
        rnn_rows(gx, gh, old, old_at, old_stride, mask, states, at, stride, size, relu, first, last)
        old, old_at, old_stride = states, at, stride


@serial_kernel
def _rnn_backward(
    w: Any,
    g: Any,
    no_bias: Any,
    mask: Any,
    states: Any,
    dgx: Any,
    dh: Any,
    steps: int,
    step_stride: int,
    stride: int,
    size: int,
    reverse: bool,
    relu: bool,
    first: int,
    last: int,
) -> None:
    for step in range(steps):
        at = (step if reverse else steps - 1 - step) * step_stride
        rnn_backward_rows(g, mask, states, dgx, at, stride, dh, size, relu, first, last)
        begin, rows, odd = (at + first * stride) * size, last - first, step % 2 == 1
        multiply_packed(rows, Rows(dgx, begin, stride * size), w, no_bias, Rows(dh, first * size, size), True, odd)


@serial_kernel
def _gru(
    w: Any,
    gx: Any,
    h0: Any,
    b_hh: Any,
    mask: Any,
    gates: Any,
    states: Any,
    gh: Any,
    steps: int,
    step_stride: int,
    stride: int,
    size: int,
    reverse: bool,
    first: int,
    last: int,
) -> None:
    old, old_at, old_stride, width = h0, 0, 1, 3 * size
    for step in range(steps):
        at = (steps - 1 - step if reverse else step) * step_stride
        begin, rows, odd = (old_at + first * old_stride) * size, last - first, step % 2 == 1
        multiply_packed(rows, Rows(old, begin, old_stride * size), w, b_hh, Rows(gh, first * width, width), False, odd)
        gru_rows(gx, gh, old, old_at, old_stride, mask, gates, states, at, stride, size, first, last)
        old, old_at, old_stride = states, at, stride


@serial_kernel
def _gru_backward(
    w: Any,
    g: Any,
    h0: Any,
    no_bias: Any,
    mask: Any,
    gates: Any,
    states: Any,
    dgx: Any,
    dgh: Any,
    dh: Any,
    steps: int,
    step_stride: int,
    stride: int,
    size: int,
    reverse: bool,
    first: int,
    last: int,
) -> None:
    width = 3 * size
    for step in range(steps):
        at = (step if reverse else steps - 1 - step) * step_stride
        old, old_at, old_stride = states, at + (step_stride if reverse else -step_stride), stride
        if step == steps - 1:
            old, old_at, old_stride = h0, 0, 1
        gru_backward_rows(g, old, old_at, old_stride, mask, gates, dgx, dgh, at, stride, dh, size, first, last)
        begin, rows, odd = (at + first * stride) * width, last - first, step % 2 == 1
        multiply_packed(rows, Rows(dgh, begin, stride * width), w, no_bias, Rows(dh, first * size, size), True, odd)


@serial_kernel
def _lstm(
    w: Any,
    gx: Any,
    h0: Any,
    c0: Any,
    b_hh: Any,
    mask: Any,
    gates: Any,
    states: Any,
    cells: Any,
    gh: Any,
    steps: int,
    step_stride: int,
    stride: int,
    size: int,
    reverse: bool,
    first: int,
    last: int,
) -> None:
    old, old_cell, old_at, old_stride, width = h0, c0, 0, 1, 4 * size
    for step in range(steps):
        at = (steps - 1 - step if reverse else step) * step_stride
        begin, rows, odd = (old_at + first * old_stride) * size, last - first, step % 2 == 1
        multiply_packed(rows, Rows(old, begin, old_stride * size), w, b_hh, Rows(gh, first * width, width), False, odd)
        before = (old, old_cell, old_at, old_stride)
        lstm_rows(gx, gh, *before, mask, gates, states, cells, at, stride, size, first, last)
        old, old_cell, old_at, old_stride = states, cells, at, stride


@serial_kernel
def _lstm_backward(
    w: Any,
    g: Any,
    c0: Any,
    no_bias: Any,
    mask: Any,
    gates: Any,
    cells: Any,
    dgates: Any,
    dh: Any,
    dc: Any,
    steps: int,
    step_stride: int,
    stride: int,
    size: int,
    reverse: bool,
    first: int,
    last: int,
) -> None:
    width = 4 * size
    for step in range(steps):
        at = (step if reverse else steps - 1 - step) * step_stride
        old, old_at, old_stride = cells, at + (step_stride if reverse else -step_stride), stride
        if step == steps - 1:
            old, old_at, old_stride = c0, 0, 1
        lstm_backward_rows(
            g, old, old_at, old_stride, mask, gates, cells, dgates, at, stride, dh, dc, size, first, last
        )
        begin, rows, odd = (at + first * stride) * width, last - first, step % 2 == 1
        multiply_packed(rows, Rows(dgates, begin, stride * width), w, no_bias, Rows(dh, first * size, size), True, odd)


# --- All sequences: ``arguments`` are those of the kernel of the same name but for the first and the last two ---------


@parallel_kernel
def run_rnn(workers: int, batch: int, w: Any, arguments: Any) -> None:
    for worker in numba.prange(workers):
        _rnn(w, *arguments, batch * worker // workers, batch * (worker + 1) // workers)


@parallel_kernel
def run_rnn_backward(workers: int, batch: int, w: Any, arguments: Any) -> None:
    for worker in numba.prange(workers):
        _rnn_backward(w, *arguments, batch * worker // workers, batch * (worker + 1) // workers)


@parallel_kernel
def run_gru(workers: int, batch: int, w: Any, arguments: Any) -> None:
    for worker in numba.prange(workers):
        _gru(w, *arguments, batch * worker // workers, batch * (worker + 1) // workers)


@parallel_kernel
def run_gru_backward(workers: int, batch: int, w: Any, arguments: Any) -> None:
    for worker in numba.prange(workers):
        _gru_backward(w, *arguments, batch * worker // workers, batch * (worker + 1) // workers)


@parallel_kernel
def run_lstm(workers: int, batch: int, w: Any, arguments: Any) -> None:
    for worker in numba.prange(workers):
        _lstm(w, *arguments, batch * worker // workers, batch * (worker + 1) // workers)


@parallel_kernel
def run_lstm_backward(workers: int, batch: int, w: Any, arguments: Any) -> None:
    for worker in numba.prange(workers):
        _lstm_backward(w, *arguments, batch * worker // workers, batch * (worker + 1) // workers)
