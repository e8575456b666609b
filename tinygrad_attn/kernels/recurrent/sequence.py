"""RNN, GRU and LSTM over a whole sequence, forward and backward, in PyTorch's parametrisation and order of gates.

RNN (Elman, "Finding Structure in Time", 1990)::

    h' = tanh(gx + gh)    or, in place of tanh, relu

GRU (Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014), gates r, z, n::

    r = sigmoid(gx_r + gh_r)      z = sigmoid(gx_z + gh_z)      n = tanh(gx_n + r * gh_n)      h' = (1 - z) * n + z * h

LSTM (Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997, with forget gates), gates i, f, g, o::

    i, f, o = sigmoid(gx + gh)    g = tanh(gx_g + gh_g)         c' = f * c + i * g             h' = o * tanh(c')

with ``gx = x W_ih^T + b_ih``, which the caller computes for all steps in one product, and ``gh = h W_hh^T + b_hh``, one
product a step, of weights that are packed once for all steps. The gradient of W_hh is one product over all steps.

An array over all steps is (T, B, ...), and contiguous that way or as (B, T, ...): results are laid out as ``gx`` is.
"""

from __future__ import annotations

import numpy as np

from tinygrad_attn.kernels.gemm.packed import pack
from tinygrad_attn.kernels.gemm.product import gemm
from tinygrad_attn.kernels.recurrent.loops import (
    run_gru,
    run_gru_backward,
    run_lstm,
    run_lstm_backward,
    run_rnn,
    run_rnn_backward,
    share,
)
from tinygrad_attn.kernels.runtime.flat import flat

__all__ = [
    "gru_sequence",
    "gru_sequence_backward",
    "lstm_sequence",
    "lstm_sequence_backward",
    "rnn_sequence",
    "rnn_sequence_backward",
]


def rnn_sequence(
    gx: np.ndarray,
    w_hh: np.ndarray,
    b_hh: np.ndarray | None,
    h0: np.ndarray,
    mask: np.ndarray | None = None,
    reverse: bool = False,
    relu: bool = False,
) -> np.ndarray:
    """Run a plain RNN over ``T`` steps of ``B`` sequences.

    Args:
        gx: ``(T, B, H)``, ``x W_ih^T + b_ih``, float32 or float64, as everything else but the mask.
        w_hh: ``(H, H)``.
        b_hh: ``(H,)``, or None for zeros.
        h0: ``(B, H)``.
        mask: ``(T, B)`` booleans; a step where it is False, such as padding, keeps the state. None for all True.
        reverse: from the last step to the first.
        relu: relu in place of tanh.

    Returns:
        outputs ``(T, B, H)``: the state after each step, where its input stands.
    """
    _check("rnn_sequence", 1, gx, w_hh, b_hh, mask, h0=h0)
    layout = _Layout(gx)
    (batch, size), steps = h0.shape, len(gx)
    outputs = layout.empty(size)
    inputs = (layout.flat(gx), flat(h0), flat(b_hh, gx.dtype), layout.mask(mask))
    options = (steps, *layout.strides, size, reverse, relu)
    run_rnn(
        share(batch, w_hh.size * steps * batch),
        batch,
        pack(w_hh.T),
        (*inputs, layout.flat(outputs), _scratch(h0, 1), *options),
    )
    return outputs


def rnn_sequence_backward(
    g: np.ndarray,
    outputs: np.ndarray,
    w_hh: np.ndarray,
    h0: np.ndarray,
    mask: np.ndarray | None = None,
    reverse: bool = False,
    relu: bool = False,
    g_last: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of `rnn_sequence` from ``g``, ``(T, B, H)``, that of its outputs, and ``g_last``, ``(B, H)``, what
    else arrives at the last state (None for zeros).

    ``outputs`` is what it returned, the rest what it was given.

    Returns:
        dgx ``(T, B, H)``, dw_hh ``(H, H)``, db_hh ``(H,)`` and dh0 ``(B, H)``.
    """
    _check_backward("rnn_sequence_backward", g, outputs, mask)
    layout = _Layout(outputs)
    steps, batch, size = g.shape
    dgx, dh = layout.empty(size), _start(g_last, h0)
    inputs = (
        layout.flat(g),
        flat(None, g.dtype),
        layout.mask(mask),
        layout.flat(outputs),
    )
    options = (steps, *layout.strides, size, reverse, relu)
    arguments = (*inputs, layout.flat(dgx), dh.reshape(-1), *options)
    run_rnn_backward(share(batch, w_hh.size * steps * batch), batch, pack(w_hh), arguments)
    return dgx, *layout.parameter_gradients(dgx, outputs, h0, reverse), dh


def gru_sequence(
    gx: np.ndarray,
    w_hh: np.ndarray,
    b_hh: np.ndarray | None,
    h0: np.ndarray,
    mask: np.ndarray | None = None,
    reverse: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Run a GRU over ``T`` steps of ``B`` sequences.

    Args:
        gx: ``(T, B, 3H)``, ``x W_ih^T + b_ih``, float32 or float64, as everything else but the mask.
        w_hh: ``(3H, H)``.
        b_hh: ``(3H,)``, or None for zeros.
        h0: ``(B, H)``.
        mask: ``(T, B)`` booleans; a step where it is False, such as padding, keeps the state. None for all True.
        reverse: from the last step to the first.

    Returns:
        outputs ``(T, B, H)``: the state after each step, where its input stands; and for the backward pass the gates
        ``(T, B, 4H)``.
    """
    _check("gru_sequence", 3, gx, w_hh, b_hh, mask, h0=h0)
    layout = _Layout(gx)
    (batch, size), steps = h0.shape, len(gx)
    outputs, gates = layout.empty(size), layout.empty(4 * size)
    inputs = (layout.flat(gx), flat(h0), flat(b_hh, gx.dtype), layout.mask(mask))
    results = (layout.flat(gates), layout.flat(outputs), _scratch(h0, 3))
    arguments = (*inputs, *results, steps, *layout.strides, size, reverse)
    run_gru(share(batch, w_hh.size * steps * batch), batch, pack(w_hh.T), arguments)
    return outputs, gates


def gru_sequence_backward(
    g: np.ndarray,
    outputs: np.ndarray,
    gates: np.ndarray,
    w_hh: np.ndarray,
    h0: np.ndarray,
    mask: np.ndarray | None = None,
    reverse: bool = False,
    g_last: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of `gru_sequence` from ``g``, ``(T, B, H)``, that of its outputs, and ``g_last``, ``(B, H)``, what
    else arrives at the last state (None for zeros).

    ``outputs`` and ``gates`` are what it returned, the rest what it was given.

    Returns:
        dgx ``(T, B, 3H)``, dw_hh ``(3H, H)``, db_hh ``(3H,)`` and dh0 ``(B, H)``.
    """
    _check_backward("gru_sequence_backward", g, outputs, mask)
    layout = _Layout(gates)
    steps, batch, size = g.shape
    dgx, dgh, dh = layout.empty(3 * size), layout.empty(3 * size), _start(g_last, h0)
    inputs = (layout.flat(g), flat(h0), flat(None, g.dtype), layout.mask(mask))
    saved = (layout.flat(gates), layout.flat(outputs))
    results = (layout.flat(dgx), layout.flat(dgh), dh.reshape(-1))
    arguments = (*inputs, *saved, *results, steps, *layout.strides, size, reverse)
    run_gru_backward(share(batch, w_hh.size * steps * batch), batch, pack(w_hh), arguments)
    return dgx, *layout.parameter_gradients(dgh, outputs, h0, reverse), dh


def lstm_sequence(
    gx: np.ndarray,
    w_hh: np.ndarray,
    b_hh: np.ndarray | None,
    h0: np.ndarray,
    c0: np.ndarray,
    mask: np.ndarray | None = None,
    reverse: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run an LSTM over ``T`` steps of ``B`` sequences.

    Args:
        gx: ``(T, B, 4H)``, ``x W_ih^T + b_ih``, float32 or float64, as everything else but the mask.
        w_hh: ``(4H, H)``.
        b_hh: ``(4H,)``, or None for zeros.
        h0, c0: ``(B, H)``.
        mask: ``(T, B)`` booleans; a step where it is False, such as padding, keeps state and cell. None for all True.
        reverse: from the last step to the first.

    Returns:
        outputs ``(T, B, H)``: the state after each step, where its input stands; and for the backward pass the cells
        ``(T, B, H)`` and the gates ``(T, B, 4H)``.
    """
    _check("lstm_sequence", 4, gx, w_hh, b_hh, mask, h0=h0, c0=c0)
    layout = _Layout(gx)
    (batch, size), steps = h0.shape, len(gx)
    outputs, cells, gates = layout.empty(size), layout.empty(size), layout.empty(4 * size)
    inputs = (
        layout.flat(gx),
        flat(h0),
        flat(c0),
        flat(b_hh, gx.dtype),
        layout.mask(mask),
    )
    results = (layout.flat(gates), layout.flat(outputs), layout.flat(cells), _scratch(h0, 4))
    arguments = (*inputs, *results, steps, *layout.strides, size, reverse)
    run_lstm(share(batch, w_hh.size * steps * batch), batch, pack(w_hh.T), arguments)
    return outputs, cells, gates


def lstm_sequence_backward(
    g: np.ndarray,
    outputs: np.ndarray,
    cells: np.ndarray,
    gates: np.ndarray,
    w_hh: np.ndarray,
    h0: np.ndarray,
    c0: np.ndarray,
    mask: np.ndarray | None = None,
    reverse: bool = False,
    g_last: np.ndarray | None = None,
    g_cell: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of `lstm_sequence` from ``g``, ``(T, B, H)``, that of its outputs, from ``g_last``, ``(B, H)``,
    what else arrives at the last state, and from ``g_cell``, that of the last cell (None for zeros).

    ``outputs``, ``cells`` and ``gates`` are what it returned, the rest what it was given.

    Returns:
        dgx ``(T, B, 4H)``, dw_hh ``(4H, H)``, db_hh ``(4H,)``, dh0 and dc0 ``(B, H)``.
    """
    _check_backward("lstm_sequence_backward", g, outputs, mask)
    layout = _Layout(gates)
    steps, batch, size = g.shape
    dgates, dh, dc = layout.empty(4 * size), _start(g_last, h0), _start(g_cell, c0)
    inputs = (layout.flat(g), flat(c0), flat(None, g.dtype), layout.mask(mask))
    saved = (layout.flat(gates), layout.flat(cells))
    results = (layout.flat(dgates), dh.reshape(-1), dc.reshape(-1))
    arguments = (*inputs, *saved, *results, steps, *layout.strides, size, reverse)
    run_lstm_backward(share(batch, w_hh.size * steps * batch), batch, pack(w_hh), arguments)
    return dgates, *layout.parameter_gradients(dgates, outputs, h0, reverse), dh, dc


class _Layout:
    """How the arrays over all steps of one call lie in memory: by steps, or by sequences as ``like`` if that is."""

    def __init__(self, like: np.ndarray) -> None:
        self.steps, self.batch = like.shape[:2]
        self.dtype = like.dtype
        self.by_sequence = not like.flags.c_contiguous and like.transpose(1, 0, 2).flags.c_contiguous
        self.strides = (1, self.steps) if self.by_sequence else (self.batch, 1)  # in rows, of a step and of a sequence

    def empty(self, width: int) -> np.ndarray:
        if self.by_sequence:
            return np.empty((self.batch, self.steps, width), self.dtype).transpose(1, 0, 2)
        return np.empty((self.steps, self.batch, width), self.dtype)

    def flat(self, array: np.ndarray) -> np.ndarray:
        """All elements of an array (T, B, ...) in the order of this layout; a copy if it has another."""
        return flat(array.swapaxes(0, 1) if self.by_sequence else array)

    def mask(self, mask: np.ndarray | None) -> np.ndarray:
        return np.ones(self.steps * self.batch, np.bool_) if mask is None else self.flat(mask)

    def parameter_gradients(
        self, dgh: np.ndarray, outputs: np.ndarray, h0: np.ndarray, reverse: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """dw_hh and db_hh from the gradient of gh, and the states that the steps started from."""
        before = self.empty(h0.shape[1])
        if self.steps:
            before[-1 if reverse else 0] = h0
            if reverse:
                before[:-1] = outputs[1:]
            else:
                before[1:] = outputs[:-1]
        rows = self.flat(dgh).reshape(self.steps * self.batch, dgh.shape[-1])
        return gemm(rows.T, self.flat(before).reshape(len(rows), h0.shape[1])), np.add.reduce(rows, axis=0)


def _start(g: np.ndarray | None, state: np.ndarray) -> np.ndarray:
    """An array that begins as the gradient ``g`` of a last state, and ends as that of the first."""
    return np.zeros(state.shape, state.dtype) if g is None else np.array(g, state.dtype, order="C")


def _scratch(h0: np.ndarray, parts: int) -> np.ndarray:
    return np.empty(parts * h0.size, h0.dtype)


def _check(
    name: str,
    parts: int,
    gx: np.ndarray,
    w_hh: np.ndarray,
    b_hh: np.ndarray | None,
    mask: np.ndarray | None,
    **initial: np.ndarray,
) -> None:
    """Check everything against ``h0``."""
    h0 = initial["h0"]
    if h0.dtype != np.float32 and h0.dtype != np.float64:
        raise TypeError(f"{name}: dtype must be float32 or float64, got {h0.dtype} for h0; convert with astype")
    if h0.ndim != 2 or gx.ndim != 3:
        raise ValueError(f"{name}: gx must be (T, B, {parts}H) and h0 (B, H), got {gx.shape} and {h0.shape}")
    batch, size = h0.shape
    expected = {
        "gx": (gx, (len(gx), batch, parts * size)),
        "w_hh": (w_hh, (parts * size, size)),
        "b_hh": (b_hh, (parts * size,)),
        **{which: (array, (batch, size)) for which, array in initial.items()},
    }
    for which, (array, shape) in expected.items():
        if array is not None and (array.shape != shape or array.dtype != h0.dtype):
            raise ValueError(
                f"{name}: for h0 {h0.shape} {h0.dtype}, {which} must be {shape}, got {array.shape} {array.dtype}"
            )
    _check_mask(name, mask, len(gx), batch)


def _check_backward(name: str, g: np.ndarray, outputs: np.ndarray, mask: np.ndarray | None) -> None:
    if g.shape != outputs.shape or g.dtype != outputs.dtype:
        raise ValueError(
            f"{name}: the gradient must be {outputs.shape} {outputs.dtype}, as the outputs, got {g.shape} {g.dtype}"
        )
    _check_mask(name, mask, *outputs.shape[:2])


def _check_mask(name: str, mask: np.ndarray | None, steps: int, batch: int) -> None:
    if mask is not None and (mask.dtype != np.bool_ or mask.shape != (steps, batch)):
        raise ValueError(f"{name}: mask must be {(steps, batch)} and boolean, got {mask.shape} {mask.dtype}")
