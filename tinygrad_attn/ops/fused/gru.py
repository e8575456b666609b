"""The GRU: over a whole sequence as one op, and one step of it for decoders.

Time is the first axis. What the inputs contribute to the gates is computed beforehand, for all steps in one product:
``gx = linear(x, w_ih, b_ih)``. The ops do what must go step by step. Parameters have PyTorch's layout. All this holds
for `tinygrad_attn.ops.fused.lstm` too, which shares the checks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.kernels.recurrent.gru import GRU
from tinygrad_attn.kernels.recurrent.sequence import Saved, run_cell, run_cell_backward
from tinygrad_attn.modes import at_step
from tinygrad_attn.op import op
from tinygrad_attn.ops.fused.linear import linear
from tinygrad_attn.ops.joining import chunk, stack, unbind
from tinygrad_attn.ops.pointwise import add, mul, sigmoid, sub, tanh, where
from tinygrad_attn.ops.shape import unsqueeze
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["gru", "gru_cell", "gru_step"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    steps, batch, size = draw.integer(1, 3), draw.integer(0, 2), draw.integer(1, 2)
    bias = draw.floats((3 * size,)) if draw.boolean() else None
    mask = draw.mask((steps, batch)) if draw.boolean() else None
    gx, h0, w_hh = draw.floats((steps, batch, 3 * size)), draw.floats((batch, size)), draw.floats((3 * size, size))
    return Sample((gx, h0, w_hh, bias, mask), {"reverse": draw.boolean()})


def _step_samples(draw: Draw) -> Sample:
    (gx, h, w_hh, bias, _) = _samples(draw).operands
    return Sample((gx[0], h, w_hh, bias))


_gx, _h, _w_hh = np.ones((4, 2, 9)), np.ones((2, 3)), np.ones((9, 3))
_STEP = r"r = \sigma(x_r + a_r), \quad u = \sigma(x_u + a_u), \quad n = \tanh(x_n + r \odot a_n), \quad a = W h + b"
_DELTAS = (
    r"\delta_n = \bar h \odot (1 - u) \odot (1 - n^2), \quad \delta_u = \bar h \odot (h - n) \odot u \odot (1 - u), "
    r"\quad \delta_r = \delta_n \odot a_n \odot r \odot (1 - r)"
)


@op(
    rf"z = (1 - u) \odot n + u \odot h, \quad {_STEP}",
    samples=_step_samples,
    errors=[
        ErrorSample((_gx[0], np.ones((3, 3)), _w_hh, None), {}, ValueError, r"gx must .* \(3, 9\).* it has \(2, 9\)"),
        ErrorSample((_gx, _h, _w_hh, None), {}, ValueError, r"gx must .* \(2, 9\).* it has \(4, 2, 9\)"),
        ErrorSample((_gx[0], _h, _w_hh.T, None), {}, ValueError, r"w_hh must have shape \(9, 3\).* it has \(3, 9\)"),
        ErrorSample((_gx[0], _h, _w_hh, np.ones(3)), {}, ValueError, r"b_hh must have shape \(9,\).* it has \(3,\)"),
    ],
    saves=("gates",),
)
def gru_step(gx: Array, h: Array, w_hh: Array, b_hh: Array | None = None, /) -> tuple[Array, Array]:
    """One step of a GRU, from the contributions of the input to its gates.

    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014, in PyTorch's form. The gates lie in
    the order r (reset), u (update, PyTorch's z), n (new).

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


gru_step.vjp("gx", rf"(\delta_r, \delta_u, \delta_n), \quad \bar h = \bar z, \quad {_DELTAS}")
gru_step.vjp("h", r"u \odot \bar z + (\delta_r, \delta_u, r \odot \delta_n)\,W")
gru_step.vjp("w_hh", r"(\delta_r, \delta_u, r \odot \delta_n)^\top h")
gru_step.vjp("b_hh", r"\textstyle\sum_{\text{batch}} (\delta_r, \delta_u, r \odot \delta_n)")


@gru_step.composed_of
def _gru_step_reference(gx: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None) -> Tensor:
    check_shapes("gru_step", 3, (), gx, w_hh, b_hh, h=h)
    x_r, x_u, x_n = chunk(gx, 3, -1)
    a_r, a_u, a_n = chunk(linear(h, w_hh, b_hh), 3, -1)
    r = sigmoid(add(x_r, a_r))
    u = sigmoid(add(x_u, a_u))
    n = tanh(add(x_n, mul(r, a_n)))
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
        mask: bool ``(T, B)``; a step where it is False, such as padding, leaves the state as it was.
        reverse: go from the last step to the first.

    Returns:
        The state after each step, ``(T, B, H)``, at its step's place, and the final state, ``(B, H)``: the last of
        them, the first if ``reverse``, padded or not.

    Raises:
        ValueError: shapes other than these, or no step.
        TypeError: a mask that is not bool.
    """
    check_shapes("gru", 3, steps_of("gru", 3, gx), gx, w_hh, b_hh, mask, h0=h0)
    states, _, gates = run_cell(GRU, gx, w_hh, b_hh, (h0,), mask, reverse)
    return states, states[0 if reverse else -1].copy(), gates


_INTO_STATE = r"\bar h_{t-1} = \bar z_{t-1} + u \odot \bar h_t + (\delta_r, \delta_u, r \odot \delta_n)\,W"
gru.vjp("gx", rf"\bar x_t = (\delta_r, \delta_u, \delta_n), \quad {_DELTAS}, \quad {_INTO_STATE}")
gru.vjp("h0", rf"\bar h_0, \quad {_INTO_STATE}")
gru.vjp("w_hh", r"\textstyle\sum_t (\delta_r, \delta_u, r \odot \delta_n)_t^\top z_{t-1}")
gru.vjp("b_hh", r"\textstyle\sum_t \sum_{\text{batch}} (\delta_r, \delta_u, r \odot \delta_n)_t")


@gru.composed_of
def _gru_reference(
    gx: Tensor, h0: Tensor, w_hh: Tensor, b_hh: Tensor | None, mask: Tensor | None, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    check_shapes("gru", 3, steps_of("gru", 3, gx), gx, w_hh, b_hh, mask, h0=h0)
    steps = range(gx.shape[0])
    gates, masks = unbind(gx, 0), None if mask is None else unbind(unsqueeze(mask, -1), 0)
    states: dict[int, Tensor] = {}
    h = h0
    for t in reversed(steps) if reverse else steps:
        with at_step(t):
            after = gru_step(gates[t], h, w_hh, b_hh)
            h = states[t] = after if masks is None else where(masks[t], after, h)
    return stack([states[t] for t in steps], 0), h


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


# -- checks ------------------------------------------------------------------------------------------------------------


def check_shapes(
    name: str, gates: int, steps: tuple[int, ...], gx: Any, w_hh: Any, b_hh: Any, mask: Any = None, **initial: Any
) -> None:
    """Make sure that all shapes follow from the steps (none for a cell) and the initial state: its batch and width."""
    (first, state), *_ = initial.items()
    if state.ndim != 2:
        raise ValueError(f"{name}: {first} must have shape (B, H), it has {state.shape}")
    batch, size = state.shape
    expected = {
        "gx": (gx, (*steps, batch, gates * size)),
        "w_hh": (w_hh, (gates * size, size)),
        "b_hh": (b_hh, (gates * size,)),
        "mask": (mask, (*steps, batch)),
        **{which: (array, (batch, size)) for which, array in initial.items()},
    }
    for which, (array, shape) in expected.items():
        if array is not None and array.shape != shape:
            raise ValueError(f"{name}: {which} must have shape {shape} for {first} {state.shape}, it has {array.shape}")
    if mask is not None and mask.dtype != np.bool_:
        raise TypeError(f"{name}: mask must be bool (True = a step to take), it is {mask.dtype}")


def steps_of(name: str, gates: int, gx: Any) -> tuple[int, ...]:
    """The number of steps, at least one, of a sequence."""
    if gx.ndim != 3 or not gx.shape[0]:
        raise ValueError(f"{name}: gx must have shape (T, B, {gates}H) with at least one step, it has {gx.shape}")
    return gx.shape[:1]
