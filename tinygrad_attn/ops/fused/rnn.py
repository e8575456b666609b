"""The plain RNN: over a whole sequence as one op, and one step of it for decoders.

See `tinygrad_attn.ops.fused.gru`, which it shares its conventions and checks with.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.kernels.recurrent.rnn import RELU, TANH
from tinygrad_attn.kernels.recurrent.sequence import Saved, run_cell, run_cell_backward
from tinygrad_attn.modes import at_step
from tinygrad_attn.op import op
from tinygrad_attn.ops.activation import relu
from tinygrad_attn.ops.fused.gru import check_shapes, steps_of
from tinygrad_attn.ops.fused.linear import linear
from tinygrad_attn.ops.joining import stack, unbind
from tinygrad_attn.ops.pointwise import add, tanh, where
from tinygrad_attn.ops.shape import unsqueeze
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["NONLINEARITIES", "rnn", "rnn_cell"]

Array = np.ndarray[Any, Any]

NONLINEARITIES = {"tanh": tanh, "relu": relu}
_CELLS = {"tanh": TANH, "relu": RELU}


def _samples(draw: Draw) -> Sample:
    steps, batch, size = draw.integer(1, 3), draw.integer(0, 2), draw.integer(1, 3)
    bias = draw.floats((size,)) if draw.boolean() else None
    mask = draw.mask((steps, batch)) if draw.boolean() else None
    operands = (draw.floats((steps, batch, size)), draw.floats((batch, size)), draw.floats((size, size)), bias, mask)
    return Sample(operands, {"reverse": draw.boolean(), "nonlinearity": draw.choice(list(NONLINEARITIES))})


_gx, _h, _w_hh = np.ones((4, 2, 3)), np.ones((2, 3)), np.ones((3, 3))


@op(
    r"z_t = \phi(x_t + W z_{t-1} + b), \quad z_0 = h_0, \quad \phi \in \{\tanh, \operatorname{relu}\}",
    samples=_samples,
    errors=[
        ErrorSample((_gx[0], _h, _w_hh, None, None), {}, ValueError, r"\(T, B, 1H\).* \(2, 3\)"),
        ErrorSample((_gx, _h[:1], _w_hh, None, None), {}, ValueError, r"gx must .* \(4, 1, 3\).* it has \(4, 2, 3\)"),
        ErrorSample((_gx, _h, _w_hh, np.ones(6), None), {}, ValueError, r"b_hh must .* \(3,\).* it has \(6,\)"),
        ErrorSample(
            (_gx, _h, _w_hh, None, None), {"nonlinearity": "sin"}, ValueError, "must be 'tanh' or 'relu', got 'sin'"
        ),
    ],
    outputs=2,
)
def rnn(
    gx: Array,
    h0: Array,
    w_hh: Array,
    b_hh: Array | None = None,
    mask: Array | None = None,
    /,
    *,
    reverse: bool = False,
    nonlinearity: str = "tanh",
) -> tuple[Array, Array]:
    """A plain RNN over a whole sequence (Elman, "Finding Structure in Time", 1990).

    Args:
        gx: ``(T, B, H)``, ``linear(x, w_ih, b_ih)``.
        h0: the first state, ``(B, H)``.
        w_hh: ``(H, H)``.
        b_hh: ``(H,)``, or None.
        mask: bool ``(T, B)``; a step where it is False, such as padding, leaves the state as it was.
        reverse: go from the last step to the first.
        nonlinearity: "tanh" or "relu".

    Returns:
        The state after each step, ``(T, B, H)``, at its step's place, and the final state, ``(B, H)``: the last of
        them, the first if ``reverse``, padded or not.

    Raises:
        ValueError: shapes other than these, no step, or another nonlinearity.
        TypeError: a mask that is not bool.
    """
    check_nonlinearity("rnn", nonlinearity)
    check_shapes("rnn", 1, steps_of("rnn", 1, gx), gx, w_hh, b_hh, mask, h0=h0)
    states = run_cell(_CELLS[nonlinearity], gx, w_hh, b_hh, (h0,), mask, reverse).states
    return states, states[0 if reverse else -1].copy()


_DELTA = r"\delta_t = \bar h_t \odot \phi', \quad \tanh' = 1 - z_t^2, \quad \operatorname{relu}' = [z_t > 0]"
_INTO_STATE = r"\bar h_{t-1} = \bar z_{t-1} + \delta_t\,W"
rnn.vjp("gx", rf"\bar x_t = {_DELTA}, \quad {_INTO_STATE}")
rnn.vjp("h0", rf"\bar h_0, \quad {_INTO_STATE}, \quad {_DELTA}")
rnn.vjp("w_hh", rf"\textstyle\sum_t \delta_t^\top z_{{t-1}}, \quad {_DELTA}")
rnn.vjp("b_hh", rf"\textstyle\sum_t \sum_{{\text{{batch}}}} \delta_t, \quad {_DELTA}")


@rnn.composed_of
def _rnn_reference(
    gx: Tensor,
    h0: Tensor,
    w_hh: Tensor,
    b_hh: Tensor | None,
    mask: Tensor | None,
    reverse: bool = False,
    nonlinearity: str = "tanh",
) -> tuple[Tensor, Tensor]:
    check_nonlinearity("rnn", nonlinearity)
    check_shapes("rnn", 1, steps_of("rnn", 1, gx), gx, w_hh, b_hh, mask, h0=h0)
    steps = range(gx.shape[0])
    inputs, masks = unbind(gx, 0), None if mask is None else unbind(unsqueeze(mask, -1), 0)
    states: dict[int, Tensor] = {}
    h = h0
    for t in reversed(steps) if reverse else steps:
        with at_step(t):
            after = NONLINEARITIES[nonlinearity](add(inputs[t], linear(h, w_hh, b_hh)))
            h = states[t] = after if masks is None else where(masks[t], after, h)
    return stack([states[t] for t in steps], 0), h


@rnn.kernel
def _rnn_gradients(
    g: tuple[Array | None, Array | None],
    z: tuple[Array, Array],
    h0: Array,
    w_hh: Array,
    mask: Array | None,
    reverse: bool,
    nonlinearity: str,
) -> tuple[Array | None, ...]:
    for_states, for_last = g
    states, _ = z
    arrived = np.zeros_like(states) if for_states is None else for_states
    saved = Saved(states, None, None)
    for_gx, for_w_hh, for_b_hh, (for_h0,) = run_cell_backward(
        _CELLS[nonlinearity], arrived, saved, w_hh, (h0,), mask, reverse, (for_last,)
    )
    return for_gx, for_h0, for_w_hh, for_b_hh, None


def rnn_cell(
    input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None, nonlinearity: str = "tanh"
) -> Tensor:
    """One step of a plain RNN: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu.

    Args:
        input: ``(B, I)``.
        hx: the state, ``(B, H)``.
        w_ih: ``(H, I)``.
        w_hh: ``(H, H)``.
        b_ih, b_hh: ``(H,)``, or None.
        nonlinearity: "tanh" or "relu".

    Returns:
        The next state, ``(B, H)``.

    Raises:
        ValueError: shapes other than these, or another nonlinearity.
    """
    check_nonlinearity("rnn_cell", nonlinearity)
    gx = linear(input, w_ih, b_ih)
    check_shapes("rnn_cell", 1, (), gx, w_hh, b_hh, h=hx)
    return NONLINEARITIES[nonlinearity](add(gx, linear(hx, w_hh, b_hh)))


def check_nonlinearity(name: str, nonlinearity: str) -> None:
    """Raise a ValueError unless it is one of `NONLINEARITIES`."""
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(f"{name}: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
