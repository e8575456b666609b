"""RNN, GRU and LSTM over a whole sequence, forward and backward, in PyTorch's parametrisation and order of gates.

RNN (Elman, "Finding Structure in Time", 1990)::

    h' = tanh(gx + gh)    or, in place of tanh, relu

GRU (Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014), gates r, z, n::

    r = sigmoid(gx_r + gh_r)      z = sigmoid(gx_z + gh_z)      n = tanh(gx_n + r * gh_n)      h' = (1 - z) * n + z * h

LSTM (Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997, with forget gates), gates i, f, g, o::

    i, f, o = sigmoid(gx + gh)    g = tanh(gx_g + gh_g)         c' = f * c + i * g             h' = o * tanh(c')

with ``gx = x W_ih^T + b_ih``, which the caller computes for all steps in one product, and ``gh = h W_hh^T + b_hh``, one
product a step. A step takes that product and one pass over the gates. The states lie in one array with the initial one
before the first step's (after the last step's if ``reverse``), so that the states that the steps started from, which
the gradient of W_hh needs, are a view of it, and that gradient is one product over all steps.
"""

from __future__ import annotations

import numpy as np

from tinygrad_attn.kernels.gemm import gemm
from tinygrad_attn.kernels.recurrent_steps import gru_step, gru_step_backward, lstm_step, lstm_step_backward

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
) -> tuple[np.ndarray, np.ndarray]:
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
        outputs ``(T, B, H)``: the state after each step, where its input stands; and for the backward pass the states
        ``(T + 1, B, H)``, of which outputs are a view.
    """
    gx, mask = _check("rnn_sequence", 1, gx, w_hh, b_hh, mask, h0=h0)
    steps = len(gx)
    states, before, after = _states(steps, h0, reverse)
    w_hh_t, padding = w_hh.T, ~mask[..., None]
    for t in range(steps)[:: -1 if reverse else 1]:
        old, new = states[t + before], states[t + after]
        gemm(old, w_hh_t, new, bias=b_hh)
        new += gx[t]
        if relu:
            np.maximum(new, 0.0, out=new)
        else:
            np.tanh(new, out=new)
        np.copyto(new, old, where=padding[t])
    return states[after : after + steps], states


def rnn_sequence_backward(
    g: np.ndarray,
    states: np.ndarray,
    w_hh: np.ndarray,
    mask: np.ndarray | None = None,
    reverse: bool = False,
    relu: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of `rnn_sequence` from ``g``, ``(T, B, H)``, that of its outputs.

    ``states`` is what it returned, the rest what it was given.

    Returns:
        dgx ``(T, B, H)``, dw_hh ``(H, H)``, db_hh ``(H,)`` and dh0 ``(B, H)``.
    """
    g, mask = _check_backward("rnn_sequence_backward", g, states, mask)
    steps = len(g)
    before, after = (1, 0) if reverse else (0, 1)
    outputs, taken = states[after : after + steps], mask[..., None]
    # tanh' = 1 - tanh^2, relu' = [relu > 0]; a padded step passes its gradient on to the state before.
    slope = np.where(taken, outputs > 0.0 if relu else 1.0 - outputs * outputs, 0.0).astype(g.dtype, copy=False)
    dgx = np.empty_like(g)
    dh = np.zeros(g.shape[1:], g.dtype)
    for t in range(steps)[:: 1 if reverse else -1]:
        dh += g[t]
        np.multiply(dh, slope[t], out=dgx[t])
        np.copyto(dh, 0.0, where=taken[t])
        gemm(dgx[t], w_hh, dh, accumulate=True)
    return dgx, *_parameter_gradients(dgx, states[before : before + steps]), dh


def gru_sequence(
    gx: np.ndarray,
    w_hh: np.ndarray,
    b_hh: np.ndarray | None,
    h0: np.ndarray,
    mask: np.ndarray | None = None,
    reverse: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run a GRU over ``T`` steps of ``B`` sequences.

    Args:
        gx: ``(T, B, 3H)``, ``x W_ih^T + b_ih``, float32 or float64, as everything else but the mask.
        w_hh: ``(3H, H)``.
        b_hh: ``(3H,)``, or None for zeros.
        h0: ``(B, H)``.
        mask: ``(T, B)`` booleans; a step where it is False, such as padding, keeps the state. None for all True.
        reverse: from the last step to the first.

    Returns:
        outputs ``(T, B, H)``: the state after each step, where its input stands; and for the backward pass the states
        ``(T + 1, B, H)``, of which outputs are a view, and the gates ``(T, B, 4H)``.
    """
    gx, mask = _check("gru_sequence", 3, gx, w_hh, b_hh, mask, h0=h0)
    steps, batch, size = len(gx), *h0.shape
    states, before, after = _states(steps, h0, reverse)
    gates = np.empty((steps, batch, 4 * size), gx.dtype)
    gh = np.empty((batch, 3 * size), gx.dtype)
    flat_x, flat_h, flat_gates, w_hh_t = _flat(gx), _flat(states), _flat(gates), w_hh.T
    for t in range(steps)[:: -1 if reverse else 1]:
        gemm(states[t + before], w_hh_t, gh, bias=b_hh)
        gru_step(flat_x[t], gh.reshape(-1), flat_h[t + before], mask[t], flat_gates[t], flat_h[t + after], size)
    return states[after : after + steps], states, gates


def gru_sequence_backward(
    g: np.ndarray,
    states: np.ndarray,
    gates: np.ndarray,
    w_hh: np.ndarray,
    mask: np.ndarray | None = None,
    reverse: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of `gru_sequence` from ``g``, ``(T, B, H)``, that of its outputs.

    ``states`` and ``gates`` are what it returned, the rest what it was given.

    Returns:
        dgx ``(T, B, 3H)``, dw_hh ``(3H, H)``, db_hh ``(3H,)`` and dh0 ``(B, H)``.
    """
    g, mask = _check_backward("gru_sequence_backward", g, states, mask)
    steps, batch, size = g.shape
    before = 1 if reverse else 0
    dgx, dgh = (np.empty((steps, batch, 3 * size), g.dtype) for _ in range(2))
    dh = np.zeros((batch, size), g.dtype)
    flat_g, flat_h, flat_gates, flat_dgx, flat_dgh = (_flat(array) for array in (g, states, gates, dgx, dgh))
    for t in range(steps)[:: 1 if reverse else -1]:
        saved = (flat_h[t + before], mask[t], flat_gates[t])
        gru_step_backward(flat_g[t], *saved, flat_dgx[t], flat_dgh[t], dh.reshape(-1), size)
        gemm(dgh[t], w_hh, dh, accumulate=True)
    return dgx, *_parameter_gradients(dgh, states[before : before + steps]), dh


def lstm_sequence(
    gx: np.ndarray,
    w_hh: np.ndarray,
    b_hh: np.ndarray | None,
    h0: np.ndarray,
    c0: np.ndarray,
    mask: np.ndarray | None = None,
    reverse: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Run an LSTM over ``T`` steps of ``B`` sequences.

    Args:
        gx: ``(T, B, 4H)``, ``x W_ih^T + b_ih``, float32 or float64, as everything else but the mask.
        w_hh: ``(4H, H)``.
        b_hh: ``(4H,)``, or None for zeros.
        h0, c0: ``(B, H)``.
        mask: ``(T, B)`` booleans; a step where it is False, such as padding, keeps state and cell. None for all True.
        reverse: from the last step to the first.

    Returns:
        outputs ``(T, B, H)``: the state after each step, where its input stands; and for the backward pass the states
        ``(T + 1, B, H)``, of which outputs are a view, the cells likewise, and the gates ``(T, B, 4H)``. The last cell
        is ``cells[-1]``, or ``cells[0]`` if ``reverse``.
    """
    gx, mask = _check("lstm_sequence", 4, gx, w_hh, b_hh, mask, h0=h0, c0=c0)
    steps, batch, size = len(gx), *h0.shape
    states, before, after = _states(steps, h0, reverse)
    cells, _, _ = _states(steps, c0, reverse)
    gates = np.empty(gx.shape, gx.dtype)
    gh = np.empty((batch, 4 * size), gx.dtype)
    flat_x, flat_h, flat_c, flat_gates, w_hh_t = _flat(gx), _flat(states), _flat(cells), _flat(gates), w_hh.T
    for t in range(steps)[:: -1 if reverse else 1]:
        gemm(states[t + before], w_hh_t, gh, bias=b_hh)
        old = (flat_x[t], gh.reshape(-1), flat_h[t + before], flat_c[t + before], mask[t])
        new = (flat_gates[t], flat_h[t + after], flat_c[t + after])
        lstm_step(*old, *new, size)
    return states[after : after + steps], states, cells, gates


def lstm_sequence_backward(
    g: np.ndarray,
    states: np.ndarray,
    cells: np.ndarray,
    gates: np.ndarray,
    w_hh: np.ndarray,
    mask: np.ndarray | None = None,
    reverse: bool = False,
    g_cell: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of `lstm_sequence` from ``g``, ``(T, B, H)``, that of its outputs, and ``g_cell``, ``(B, H)``, that
    of the last cell (None for zeros).

    ``states``, ``cells`` and ``gates`` are what it returned, the rest what it was given.

    Returns:
        dgx ``(T, B, 4H)``, dw_hh ``(4H, H)``, db_hh ``(4H,)``, dh0 and dc0 ``(B, H)``.
    """
    g, mask = _check_backward("lstm_sequence_backward", g, states, mask)
    steps, batch, size = g.shape
    before, after = (1, 0) if reverse else (0, 1)
    dgates = np.empty((steps, batch, 4 * size), g.dtype)
    dh = np.zeros((batch, size), g.dtype)
    dc = np.zeros((batch, size), g.dtype) if g_cell is None else np.array(g_cell, g.dtype, order="C")
    flat_g, flat_c, flat_gates, flat_dgates = (_flat(array) for array in (g, cells, gates, dgates))
    for t in range(steps)[:: 1 if reverse else -1]:
        saved = (flat_c[t + before], flat_c[t + after], mask[t], flat_gates[t])
        lstm_step_backward(flat_g[t], *saved, flat_dgates[t], dh.reshape(-1), dc.reshape(-1), size)
        gemm(dgates[t], w_hh, dh, accumulate=True)
    return dgates, *_parameter_gradients(dgates, states[before : before + steps]), dh, dc


def _states(steps: int, initial: np.ndarray, reverse: bool) -> tuple[np.ndarray, int, int]:
    """An array for the states, and what to add to a step's number for the state before it and the one after it."""
    states = np.empty((steps + 1, *initial.shape), initial.dtype)
    states[-1 if reverse else 0] = initial
    return states, *((1, 0) if reverse else (0, 1))


def _flat(array: np.ndarray) -> np.ndarray:
    """``(T, ...)`` to ``(T, everything else)``."""
    return array.reshape(len(array), -1) if array.size else array.reshape(len(array), 0)


def _parameter_gradients(dgh: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """dw_hh and db_hh from the gradient of gh and the states that the steps started from."""
    rows = dgh.reshape(-1, dgh.shape[-1])
    return gemm(rows.T, before.reshape(-1, before.shape[-1])), rows.sum(axis=0)


def _check(
    name: str,
    parts: int,
    gx: np.ndarray,
    w_hh: np.ndarray,
    b_hh: np.ndarray | None,
    mask: np.ndarray | None,
    **initial: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """``gx`` contiguous and a mask, after checking everything against ``h0``."""
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
    return np.ascontiguousarray(gx), _check_mask(name, mask, len(gx), batch)


def _check_backward(
    name: str, g: np.ndarray, states: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    shape = (len(states) - 1, *states.shape[1:])
    if g.shape != shape or g.dtype != states.dtype:
        raise ValueError(
            f"{name}: the gradient must be {shape} {states.dtype}, as the outputs, got {g.shape} {g.dtype}"
        )
    return np.ascontiguousarray(g), _check_mask(name, mask, *shape[:2])


def _check_mask(name: str, mask: np.ndarray | None, steps: int, batch: int) -> np.ndarray:
    if mask is None:
        return np.ones((steps, batch), np.bool_)
    if mask.dtype != np.bool_ or mask.shape != (steps, batch):
        raise ValueError(f"{name}: mask must be {(steps, batch)} and boolean, got {mask.shape} {mask.dtype}")
    return np.ascontiguousarray(mask)
