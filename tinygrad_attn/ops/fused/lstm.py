"""The LSTM: lstm over a whole sequence, and lstm_step, one step, which has the derivatives.

Helpers that all recurrent ops use are in `tinygrad_attn.ops.fused.recurrence`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.kernels.recurrent.lstm import LSTM
from tinygrad_attn.kernels.recurrent.sequence import Saved, run_cell, run_cell_backward
from tinygrad_attn.op import op
from tinygrad_attn.ops.fused.linear import linear
from tinygrad_attn.ops.fused.recurrence import (
    check_shapes,
    loop,
    sample_sequence,
    sample_step,
    step_count,
    sum_over_batch,
    weight_gradient,
)
from tinygrad_attn.ops.joining import cat, chunk
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.pointwise import add, mul, sigmoid, tanh
from tinygrad_attn.overwriting import writes_over
from tinygrad_attn.rule import once_per_node
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["lstm", "lstm_cell", "lstm_step"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    return Sample(sample_sequence(draw, 4, states=2), {"reverse": draw.boolean()})


_gx, _h, _w_hh = np.ones((4, 2, 12)), np.ones((2, 3)), np.ones((12, 3))
_STEP = r"(i, f, o) = \sigma(a_i, a_f, a_o), \quad g = \tanh a_g, \quad a = x + W h + b"
_DELTAS = (
    r"\delta_i = \gamma \odot g \odot i \odot (1 - i), \quad \delta_f = \gamma \odot c \odot f \odot (1 - f), "
    r"\quad \delta_g = \gamma \odot i \odot (1 - g^2), \quad \delta_o = \bar h' \odot \tanh c' \odot o \odot (1 - o)"
)
_CELL = r"\gamma = \bar c' + \bar h' \odot o \odot (1 - \tanh^2 c')"


@op(
    rf"h' = o \odot \tanh c', \quad c' = f \odot c + i \odot g, \quad {_STEP}",
    samples=lambda draw: Sample(sample_step(draw, 4, states=2)),
    errors=[
        ErrorSample((_gx[0], _h, _h[:1], _w_hh, None), {}, ValueError, r"c must .* \(2, 3\).* it has \(1, 3\)"),
        ErrorSample((_gx[0, :, :9], _h, _h, _w_hh, None), {}, ValueError, r"gx must .* \(2, 12\).* it has \(2, 9\)"),
    ],
    outputs=2,
    saves=("gates",),
    symbols={"W": "w_hh", "b": "b_hh"},
)
def lstm_step(gx: Array, h: Array, c: Array, w_hh: Array, b_hh: Array | None = None, /) -> tuple[Array, Array, Array]:
    """One step of an LSTM, from the contributions of the input to its gates.

    Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997, with the forget gate of Gers et al., 2000. The gates
    are in PyTorch's order: i (input), f (forget), g (new), o (output).

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


@once_per_node
def _gates(
    gx: Tensor, h: Tensor, c: Tensor, w_hh: Tensor, b_hh: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """i, f, g, o and the next cell, ``(B, H)`` each."""
    a_i, a_f, a_g, a_o = chunk(add(gx, linear(h, w_hh, b_hh)), 4, -1)
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o)
    return i, f, g, o, add(mul(f, c), mul(i, g))


@once_per_node
def _cell_gradient(arrived: tuple[Tensor | None, Tensor | None], o: Tensor, after: Tensor) -> Tensor:
    """γ, the whole gradient of the next cell: its own, and the part through the next state."""
    for_state, for_cell = arrived
    if for_state is None:
        assert for_cell is not None
        return for_cell
    through = for_state * o * (1.0 - tanh(after) * tanh(after))
    return through if for_cell is None else for_cell + through


@once_per_node
def _gate_gradients(
    arrived: tuple[Tensor | None, Tensor | None], gx: Tensor, h: Tensor, c: Tensor, w_hh: Tensor, b_hh: Tensor | None
) -> Tensor:
    """(δ_i, δ_f, δ_g, δ_o), ``(B, 4H)``."""
    i, f, g, o, after = _gates(gx, h, c, w_hh, b_hh)
    gamma, for_state = _cell_gradient(arrived, o, after), arrived[0]
    delta_o = o * 0.0 if for_state is None else for_state * tanh(after) * o * (1.0 - o)
    return cat([gamma * g * i * (1.0 - i), gamma * c * f * (1.0 - f), gamma * i * (1.0 - g * g), delta_o], -1)


def _before_gradient(
    arrived: tuple[Tensor | None, Tensor | None], gx: Tensor, h: Tensor, c: Tensor, w_hh: Tensor, b_hh: Tensor | None
) -> Tensor:
    """The gradient of the cell before the step."""
    _, f, _, o, after = _gates(gx, h, c, w_hh, b_hh)
    return f * _cell_gradient(arrived, o, after)


lstm_step.vjp(
    "gx",
    rf"(\delta_i, \delta_f, \delta_g, \delta_o), \quad {_DELTAS}, \quad {_CELL}",
    lambda g, gx, h, c, w_hh, b_hh: _gate_gradients(g, gx, h, c, w_hh, b_hh),
)
lstm_step.vjp(
    "h",
    rf"(\delta_i, \delta_f, \delta_g, \delta_o)\,W, \quad {_DELTAS}, \quad {_CELL}",
    lambda g, gx, h, c, w_hh, b_hh: matmul(_gate_gradients(g, gx, h, c, w_hh, b_hh), w_hh),
)
lstm_step.vjp(
    "c",
    rf"f \odot \gamma, \quad {_CELL}",
    lambda g, gx, h, c, w_hh, b_hh: _before_gradient(g, gx, h, c, w_hh, b_hh),
)
lstm_step.vjp(
    "w_hh",
    rf"(\delta_i, \delta_f, \delta_g, \delta_o)^\top h, \quad {_DELTAS}, \quad {_CELL}",
    lambda g, gx, h, c, w_hh, b_hh: weight_gradient(_gate_gradients(g, gx, h, c, w_hh, b_hh), h),
)
lstm_step.vjp(
    "b_hh",
    rf"\textstyle\sum_{{\text{{batch}}}} (\delta_i, \delta_f, \delta_g, \delta_o), \quad {_DELTAS}, \quad {_CELL}",
    lambda g, gx, h, c, w_hh, b_hh: sum_over_batch(_gate_gradients(g, gx, h, c, w_hh, b_hh)),
)


@lstm_step.composed_of
def _lstm_step_reference(gx: Tensor, h: Tensor, c: Tensor, w_hh: Tensor, b_hh: Tensor | None) -> tuple[Tensor, Tensor]:
    check_shapes("lstm_step", 4, (), gx, w_hh, b_hh, h=h, c=c)
    *_, o, after = _gates(gx, h, c, w_hh, b_hh)
    return mul(o, tanh(after)), after


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
        mask: bool ``(T, B)``; a step where it is False, such as padding, does not change state and cell.
        reverse: go from the last step to the first.

    Returns:
        The state after each step, ``(T, B, H)``, at the index of the step, and the final state and cell, ``(B, H)``:
        those at the last index, or the first if ``reverse``.

    Raises:
        ValueError: shapes other than these, or no step.
        TypeError: a mask that is not bool.
    """
    return _run(gx, h0, c0, w_hh, b_hh, mask, reverse, over=False)


def _run(
    gx: Array, h0: Array, c0: Array, w_hh: Array, b_hh: Array | None, mask: Array | None, reverse: bool, over: bool
) -> tuple[Array, Array, Array, Array, Array]:
    check_shapes("lstm", 4, step_count("lstm", 4, gx), gx, w_hh, b_hh, mask, h0=h0, c0=c0)
    states, cells, gates = run_cell(LSTM, gx, w_hh, b_hh, (h0, c0), mask, reverse, over)
    last = 0 if reverse else -1
    return states, states[last].copy(), cells[last].copy(), cells, gates


@writes_over(lstm.forward, "gx")
def _lstm_over_gx(
    gx: Array, h0: Array, c0: Array, w_hh: Array, b_hh: Array | None = None, mask: Array | None = None, *, reverse: bool
) -> tuple[Array, Array, Array, Array, Array]:
    return _run(gx, h0, c0, w_hh, b_hh, mask, reverse, over=True)


@lstm.loop_of(lstm_step, "gx", "h0", "c0", "w_hh", "b_hh")
def _lstm_loop(
    gx: Tensor,
    h0: Tensor,
    c0: Tensor,
    w_hh: Tensor,
    b_hh: Tensor | None,
    mask: Tensor | None,
    reverse: bool = False,
) -> tuple[Tensor, ...]:
    check_shapes("lstm", 4, step_count("lstm", 4, gx), gx, w_hh, b_hh, mask, h0=h0, c0=c0)
    return loop(lambda x, h, c: lstm_step(x, h, c, w_hh, b_hh), gx, (h0, c0), mask, reverse)


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
    return _gradients(g, (h0, c0), w_hh, mask, Saved(z[0], cells, gates), reverse, over=False)


@writes_over(_lstm_gradients, "gates")
def _lstm_gradients_over_gates(*arguments: Any) -> tuple[Array | None, ...]:
    g, z, h0, c0, w_hh, mask, cells, gates, reverse = arguments
    return _gradients(g, (h0, c0), w_hh, mask, Saved(z[0], cells, gates), reverse, over=True)


def _gradients(
    g: tuple[Array | None, Array | None, Array | None],
    initial: tuple[Array, Array],
    w_hh: Array,
    mask: Array | None,
    saved: Saved,
    reverse: bool,
    over: bool,
) -> tuple[Array | None, ...]:
    for_states, *for_last = g
    arrived = np.zeros_like(saved.states) if for_states is None else for_states
    for_gx, for_w_hh, for_b_hh, (for_h0, for_c0) = run_cell_backward(
        LSTM, arrived, saved, w_hh, initial, mask, reverse, tuple(for_last), over
    )
    return for_gx, for_h0, for_c0, for_w_hh, for_b_hh, None
