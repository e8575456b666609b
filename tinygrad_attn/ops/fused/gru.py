"""The GRU: gru over a whole sequence, and gru_step, one step, which has the derivatives.

Helpers that all recurrent ops use are in `tinygrad_attn.ops.fused.recurrence`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.recurrent.gru import GRU
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
from tinygrad_attn.ops.pointwise import add, mul, sigmoid, sub, tanh
from tinygrad_attn.rule import once_per_node
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["gru", "gru_cell", "gru_step"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    return Sample(sample_sequence(draw, 3), {"reverse": draw.boolean()})


_gx, _h, _w_hh = np.ones((4, 2, 9)), np.ones((2, 3)), np.ones((9, 3))
_STEP = r"r = \sigma(x_r + a_r), \quad u = \sigma(x_u + a_u), \quad n = \tanh(x_n + r \odot a_n), \quad a = W h + b"


@op(
    rf"z = (1 - u) \odot n + u \odot h, \quad {_STEP}",
    samples=lambda draw: Sample(sample_step(draw, 3)),
    errors=[
        ErrorSample((_gx[0], np.ones((3, 3)), _w_hh, None), {}, ValueError, r"gx must .* \(3, 9\).* it has \(2, 9\)"),
        ErrorSample((_gx, _h, _w_hh, None), {}, ValueError, r"gx must .* \(2, 9\).* it has \(4, 2, 9\)"),
        ErrorSample((_gx[0], _h, _w_hh.T, None), {}, ValueError, r"w_hh must have shape \(9, 3\).* it has \(3, 9\)"),
        ErrorSample((_gx[0], _h, _w_hh, np.ones(3)), {}, ValueError, r"b_hh must have shape \(9,\).* it has \(3,\)"),
    ],
    saves=("gates",),
    symbols={"W": "w_hh", "b": "b_hh"},
)
def gru_step(gx: Array, h: Array, w_hh: Array, b_hh: Array | None = None, /) -> tuple[Array, Array]:
    """One step of a GRU, from the contributions of the input to its gates.

    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014, in PyTorch's form. The order of the
    gates is r (reset), u (update, PyTorch's z), n (new).

    Args:
        gx: ``(B, 3H)``, ``linear(x, w_ih, b_ih)``.
        h: the state, ``(B, H)``.
        w_hh: ``(3H, H)``.
        b_hh: ``(3H,)``, or None.

    Returns:
        The next state, ``(B, H)``.

    Raises:
        ValueError: shapes other than these.
    """
    check_shapes("gru_step", 3, (), gx, w_hh, b_hh, h=h)
    states, _, gates = run_cell(GRU, gx[None], w_hh, b_hh, (h,))
    return states[0], gates


def gates(gx: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """r, u, n and a_n, the state's contribution to n; ``(B, H)`` each."""
    x_r, x_u, x_n = chunk(gx, 3, -1)
    a_r, a_u, a_n = chunk(linear(h, w_hh, b_hh), 3, -1)
    r = sigmoid(add(x_r, a_r))
    u = sigmoid(add(x_u, a_u))
    n = tanh(add(x_n, mul(r, a_n)))
    return r, u, n, a_n


class GateGradients(NamedTuple):
    """The gradients of a step: of the input's contribution, of W h + b, and of the state through u ⊙ h."""

    input: Tensor
    state: Tensor
    past: Tensor


@once_per_node
def gate_gradients(g: Tensor, gx: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None) -> GateGradients:
    """δ = (δ_r, δ_u, δ_n), (δ_r, δ_u, r ⊙ δ_n), and u ⊙ g, for the gradient ``g`` of the next state."""
    r, u, n, a_n = gates(gx, h, w_hh, b_hh)
    delta_n = g * (1.0 - u) * (1.0 - n * n)
    delta_u = g * (h - n) * u * (1.0 - u)
    delta_r = delta_n * a_n * r * (1.0 - r)
    return GateGradients(cat([delta_r, delta_u, delta_n], -1), cat([delta_r, delta_u, r * delta_n], -1), u * g)


DELTAS = (
    r"\delta_n = {g} \odot (1 - u) \odot (1 - n^2), \quad \delta_u = {g} \odot (h - n) \odot u \odot (1 - u), "
    r"\quad \delta_r = \delta_n \odot a_n \odot r \odot (1 - r)"
)
"""The gradients of the gates, given that of the next state."""
_DELTAS = DELTAS.replace("{g}", r"\bar z")
gru_step.vjp(
    "gx",
    rf"(\delta_r, \delta_u, \delta_n), \quad {_DELTAS}",
    lambda g, gx, h, w_hh, b_hh: gate_gradients(g, gx, h, w_hh, b_hh).input,
)


def _state_gradient(g: Tensor, gx: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None) -> Tensor:
    found = gate_gradients(g, gx, h, w_hh, b_hh)
    return found.past + matmul(found.state, w_hh)


gru_step.vjp("h", rf"u \odot \bar z + (\delta_r, \delta_u, r \odot \delta_n)\,W, \quad {_DELTAS}", _state_gradient)
gru_step.vjp(
    "w_hh",
    rf"(\delta_r, \delta_u, r \odot \delta_n)^\top h, \quad {_DELTAS}",
    lambda g, gx, h, w_hh, b_hh: weight_gradient(gate_gradients(g, gx, h, w_hh, b_hh).state, h),
)
gru_step.vjp(
    "b_hh",
    rf"\textstyle\sum_{{\text{{batch}}}} (\delta_r, \delta_u, r \odot \delta_n), \quad {_DELTAS}",
    lambda g, gx, h, w_hh, b_hh: sum_over_batch(gate_gradients(g, gx, h, w_hh, b_hh).state),
)


@gru_step.composed_of
def _gru_step_reference(gx: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None) -> Tensor:
    check_shapes("gru_step", 3, (), gx, w_hh, b_hh, h=h)
    _, u, n, _ = gates(gx, h, w_hh, b_hh)
    return add(n, mul(u, sub(h, n)))


@gru_step.kernel
def _gru_step_gradients(g: Array, z: Array, h: Array, w_hh: Array, gates: Array) -> tuple[Array, ...]:
    saved = Saved(z[None], None, gates)
    for_gx, for_w_hh, for_b_hh, (for_h,) = run_cell_backward(GRU, g[None], saved, w_hh, (h,))
    return for_gx[0], for_h, for_w_hh, for_b_hh


def gru_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Tensor:
    """One step of a GRU (see `gru_step`) from the input itself.

    Args:
        input: ``(B, I)``.
        hx: the state, ``(B, H)``.
        w_ih: ``(3H, I)``.
        w_hh: ``(3H, H)``.
        b_ih, b_hh: ``(3H,)``, or None.

    Returns:
        The next state, ``(B, H)``.

    Raises:
        ValueError: shapes other than these.
    """
    return gru_step(linear(input, w_ih, b_ih), hx, w_hh, b_hh)


@op(
    rf"z_t = (1 - u) \odot n + u \odot h, \quad h = z_{{t-1}}, \quad z_0 = h_0, \quad {_STEP}",
    samples=_samples,
    errors=[
        ErrorSample((_gx[:0], _h, _w_hh, None, None), {}, ValueError, r"at least one step.* \(0, 2, 9\)"),
        ErrorSample((_gx[0], _h, _w_hh, None, None), {}, ValueError, r"\(T, B, 3H\).* \(2, 9\)"),
        ErrorSample((_gx, _h[0], _w_hh, None, None), {}, ValueError, r"h0 must have shape \(B, H\), it has \(3,\)"),
        ErrorSample((_gx, _h, _w_hh[1:], None, None), {}, ValueError, r"w_hh must .* \(9, 3\).* it has \(8, 3\)"),
        ErrorSample((_gx, _h, _w_hh, None, np.ones((2, 4)) > 0), {}, ValueError, r"mask must .* \(4, 2\).* \(2, 4\)"),
        ErrorSample((_gx, _h, _w_hh, None, np.ones((4, 2))), {}, TypeError, "mask must be bool"),
    ],
    outputs=2,
    saves=("gates",),
)
def gru(
    gx: Array, h0: Array, w_hh: Array, b_hh: Array | None = None, mask: Array | None = None, /, *, reverse: bool = False
) -> tuple[Array, Array, Array]:
    """A GRU over a whole sequence: `gru_step` from each step's state to the next.

    Args:
        gx: ``(T, B, 3H)``, ``linear(x, w_ih, b_ih)``.
        h0: the first state, ``(B, H)``.
        w_hh: ``(3H, H)``.
        b_hh: ``(3H,)``, or None.
        mask: bool ``(T, B)``; a step where it is False, such as padding, does not change the state.
        reverse: go from the last step to the first.

    Returns:
        The state after each step, ``(T, B, H)``, at the index of the step, and the final state, ``(B, H)``: the state
        at the last index, or the first if ``reverse``.

    Raises:
        ValueError: shapes other than these, or no step.
        TypeError: a mask that is not bool.
    """
    check_shapes("gru", 3, step_count("gru", 3, gx), gx, w_hh, b_hh, mask, h0=h0)
    states, _, gates = run_cell(GRU, gx, w_hh, b_hh, (h0,), mask, reverse)
    return states, states[0 if reverse else -1].copy(), gates


@gru.loop_of(gru_step, "gx", "h0", "w_hh", "b_hh")
def _gru_loop(
    gx: Tensor, h0: Tensor, w_hh: Tensor, b_hh: Tensor | None, mask: Tensor | None, reverse: bool = False
) -> tuple[Tensor, ...]:
    check_shapes("gru", 3, step_count("gru", 3, gx), gx, w_hh, b_hh, mask, h0=h0)
    return loop(lambda x, h: (gru_step(x, h, w_hh, b_hh),), gx, (h0,), mask, reverse)


@gru.kernel
def _gru_gradients(
    g: tuple[Array | None, Array | None],
    z: tuple[Array, Array],
    h0: Array,
    w_hh: Array,
    mask: Array | None,
    gates: Array,
    reverse: bool,
) -> tuple[Array | None, ...]:
    for_states, for_last = g
    states, _ = z
    arrived = np.zeros_like(states) if for_states is None else for_states
    saved = Saved(states, None, gates)
    for_gx, for_w_hh, for_b_hh, (for_h0,) = run_cell_backward(
        GRU, arrived, saved, w_hh, (h0,), mask, reverse, (for_last,)
    )
    return for_gx, for_h0, for_w_hh, for_b_hh, None
