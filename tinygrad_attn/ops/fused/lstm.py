"""The LSTM: over a whole sequence as one op, and one step of it for decoders (see `tinygrad_attn.ops.fused.gru`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.kernels.recurrent.lstm import LSTM
from tinygrad_attn.kernels.recurrent.sequence import Saved, run_cell, run_cell_backward
from tinygrad_attn.modes import at_step
from tinygrad_attn.op import op
from tinygrad_attn.ops.fused.gru import check_shapes, steps_of
from tinygrad_attn.ops.fused.linear import linear
from tinygrad_attn.ops.joining import chunk, stack, unbind
from tinygrad_attn.ops.pointwise import add, mul, sigmoid, tanh, where
from tinygrad_attn.ops.shape import unsqueeze
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["lstm", "lstm_cell", "lstm_step"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    steps, batch, size = draw.integer(1, 2), draw.integer(0, 2), draw.integer(1, 2)
    bias = draw.floats((4 * size,)) if draw.boolean() else None
    mask = draw.mask((steps, batch)) if draw.boolean() else None
    gx, h0, c0 = draw.floats((steps, batch, 4 * size)), draw.floats((batch, size)), draw.floats((batch, size))
    return Sample((gx, h0, c0, draw.floats((4 * size, size)), bias, mask), {"reverse": draw.boolean()})


def _step_samples(draw: Draw) -> Sample:
    gx, h, c, w_hh, bias, _ = _samples(draw).operands
    return Sample((gx[0], h, c, w_hh, bias))


_gx, _h, _w_hh = np.ones((4, 2, 12)), np.ones((2, 3)), np.ones((12, 3))
_STEP = r"(i, f, o) = \sigma(a_i, a_f, a_o), \quad g = \tanh a_g, \quad a = x + W h + b"
_DELTAS = (
    r"\delta_i = \bar c \odot g \odot i \odot (1 - i), \quad \delta_f = \bar c \odot c \odot f \odot (1 - f), "
    r"\quad \delta_g = \bar c \odot i \odot (1 - g^2), \quad \delta_o = \bar h' \odot \tanh c' \odot o \odot (1 - o), "
    r"\quad \bar c = \bar c' + \bar h' \odot o \odot (1 - \tanh^2 c')"
)


@op(
    rf"h' = o \odot \tanh c', \quad c' = f \odot c + i \odot g, \quad {_STEP}",
    samples=_step_samples,
    errors=[
        ErrorSample((_gx[0], _h, _h[:1], _w_hh, None), {}, ValueError, r"c must .* \(2, 3\).* it has \(1, 3\)"),
        ErrorSample((_gx[0, :, :9], _h, _h, _w_hh, None), {}, ValueError, r"gx must .* \(2, 12\).* it has \(2, 9\)"),
    ],
    outputs=2,
    saves=("gates",),
)
def lstm_step(gx: Array, h: Array, c: Array, w_hh: Array, b_hh: Array | None = None, /) -> tuple[Array, Array, Array]:
    """One step of an LSTM, from the contributions of the input to its gates.

    Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997, with the forget gate of Gers et al., 2000. The gates lie
    in PyTorch's order i (input), f (forget), g (new), o (output).

    Args:
        gx: ``(B, 4H)``, ``linear(x, w_ih, b_ih)``.
        h, c: the state and the cell, ``(B, H)``.
        w_hh: ``(4H, H)``.
        b_hh: ``(4H,)``, or None.

    Returns:
        The next state and the next cell, ``(B, H)`` each.

    Raises:
        ValueError: shapes other than these.
    """
    check_shapes("lstm_step", 4, (), gx, w_hh, b_hh, h=h, c=c)
    states, cells, gates = run_cell(LSTM, gx[None], w_hh, b_hh, (h, c))
    return states[0], cells[0], gates


lstm_step.vjp("gx", rf"(\delta_i, \delta_f, \delta_g, \delta_o), \quad {_DELTAS}")
lstm_step.vjp("h", r"(\delta_i, \delta_f, \delta_g, \delta_o)\,W")
lstm_step.vjp("c", r"f \odot \bar c, \quad \bar c = \bar c' + \bar h' \odot o \odot (1 - \tanh^2 c')")
lstm_step.vjp("w_hh", r"(\delta_i, \delta_f, \delta_g, \delta_o)^\top h")
lstm_step.vjp("b_hh", r"\textstyle\sum_{\text{batch}} (\delta_i, \delta_f, \delta_g, \delta_o)")


@lstm_step.composed_of
def _lstm_step_reference(gx: Tensor, h: Tensor, c: Tensor, w_hh: Tensor, b_hh: Tensor | None) -> tuple[Tensor, Tensor]:
    check_shapes("lstm_step", 4, (), gx, w_hh, b_hh, h=h, c=c)
    a_i, a_f, a_g, a_o = chunk(add(gx, linear(h, w_hh, b_hh)), 4, -1)
    after = add(mul(sigmoid(a_f), c), mul(sigmoid(a_i), tanh(a_g)))
    return mul(sigmoid(a_o), tanh(after)), after


@lstm_step.kernel
def _lstm_step_gradients(
    g: tuple[Array | None, Array | None], z: tuple[Array, Array], h: Array, c: Array, w_hh: Array, gates: Array
) -> tuple[Array, ...]:
    for_state, for_cell = g
    states, cells = z[0][None], z[1][None]
    arrived = np.zeros_like(states) if for_state is None else for_state[None]
    for_gx, for_w_hh, for_b_hh, (for_h, for_c) = run_cell_backward(
        LSTM, arrived, Saved(states, cells, gates), w_hh, (h, c), g_last=(None, for_cell)
    )
    return for_gx[0], for_h, for_c, for_w_hh, for_b_hh


def lstm_cell(
    input: Any, hx: tuple[Any, Any], w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM (see `lstm_step`) from the input itself.

    Args:
        input: ``(B, I)``.
        hx: the state and the cell, ``(B, H)`` each.
        w_ih: ``(4H, I)``.
        w_hh: ``(4H, H)``.
        b_ih, b_hh: ``(4H,)``, or None.

    Returns:
        The next state and the next cell, ``(B, H)`` each.

    Raises:
        ValueError: shapes other than these.
    """
    h, c = hx
    return lstm_step(linear(input, w_ih, b_ih), h, c, w_hh, b_hh)


@op(
    rf"z_t = o \odot \tanh c_t, \quad c_t = f \odot c_{{t-1}} + i \odot g, \quad h = z_{{t-1}}, \quad {_STEP}",
    samples=_samples,
    errors=[
        ErrorSample((_gx[:0], _h, _h, _w_hh, None, None), {}, ValueError, r"at least one step.* \(0, 2, 12\)"),
        ErrorSample((_gx, _h, _h[0], _w_hh, None, None), {}, ValueError, r"c0 must .* \(2, 3\).* it has \(3,\)"),
    ],
    outputs=3,
    saves=("cells", "gates"),
)
def lstm(
    gx: Array,
    h0: Array,
    c0: Array,
    w_hh: Array,
    b_hh: Array | None = None,
    mask: Array | None = None,
    /,
    *,
    reverse: bool = False,
) -> tuple[Array, Array, Array, Array, Array]:
    """An LSTM over a whole sequence: `lstm_step` from each step's state and cell to the next.

    Args:
        gx: ``(T, B, 4H)``, ``linear(x, w_ih, b_ih)``.
        h0, c0: the first state and cell, ``(B, H)``.
        w_hh: ``(4H, H)``.
        b_hh: ``(4H,)``, or None.
        mask: bool ``(T, B)``; a step where it is False, such as padding, leaves state and cell as they were.
        reverse: go from the last step to the first.

    Returns:
        The state after each step, ``(T, B, H)``, at its step's place, and the final state and cell, ``(B, H)``: those
        after the last of the steps, the first if ``reverse``, padded or not.

    Raises:
        ValueError: shapes other than these, or no step.
        TypeError: a mask that is not bool.
    """
    check_shapes("lstm", 4, steps_of("lstm", 4, gx), gx, w_hh, b_hh, mask, h0=h0, c0=c0)
    states, cells, gates = run_cell(LSTM, gx, w_hh, b_hh, (h0, c0), mask, reverse)
    last = 0 if reverse else -1
    return states, states[last].copy(), cells[last].copy(), cells, gates


_DELTA = r"\delta_t = (\delta_i, \delta_f, \delta_g, \delta_o)"
_INTO_STATE = r"\bar h_{t-1} = \bar z_{t-1} + \delta_t\,W, \quad \bar c_{t-1}' = f \odot \bar c"
lstm.vjp("gx", rf"\bar x_t = {_DELTA}, \quad {_DELTAS}, \quad {_INTO_STATE}")
lstm.vjp("h0", rf"\bar h_0, \quad {_INTO_STATE}")
lstm.vjp("c0", rf"\bar c_0, \quad {_INTO_STATE}")
lstm.vjp("w_hh", rf"\textstyle\sum_t \delta_t^\top z_{{t-1}}, \quad {_DELTA}")
lstm.vjp("b_hh", rf"\textstyle\sum_t \sum_{{\text{{batch}}}} \delta_t, \quad {_DELTA}")


@lstm.composed_of
def _lstm_reference(
    gx: Tensor,
    h0: Tensor,
    c0: Tensor,
    w_hh: Tensor,
    b_hh: Tensor | None,
    mask: Tensor | None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    check_shapes("lstm", 4, steps_of("lstm", 4, gx), gx, w_hh, b_hh, mask, h0=h0, c0=c0)
    steps = range(gx.shape[0])
    gates, masks = unbind(gx, 0), None if mask is None else unbind(unsqueeze(mask, -1), 0)
    states: dict[int, Tensor] = {}
    h, c = h0, c0
    for t in reversed(steps) if reverse else steps:
        with at_step(t):
            after_h, after_c = lstm_step(gates[t], h, c, w_hh, b_hh)
            h = states[t] = after_h if masks is None else where(masks[t], after_h, h)
            c = after_c if masks is None else where(masks[t], after_c, c)
    return stack([states[t] for t in steps], 0), h, c


@lstm.kernel
def _lstm_gradients(
    g: tuple[Array | None, Array | None, Array | None],
    z: tuple[Array, Array, Array],
    h0: Array,
    c0: Array,
    w_hh: Array,
    mask: Array | None,
    cells: Array,
    gates: Array,
    reverse: bool,
) -> tuple[Array | None, ...]:
    for_states, *for_last = g
    states, _, _ = z
    arrived = np.zeros_like(states) if for_states is None else for_states
    saved = Saved(states, cells, gates)
    for_gx, for_w_hh, for_b_hh, (for_h0, for_c0) = run_cell_backward(
        LSTM, arrived, saved, w_hh, (h0, c0), mask, reverse, tuple(for_last)
    )
    return for_gx, for_h0, for_c0, for_w_hh, for_b_hh, None
