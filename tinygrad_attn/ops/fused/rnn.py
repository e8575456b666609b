"""The plain RNN: rnn over a whole sequence, and rnn_step, one step, which has the derivatives.

Helpers that all recurrent ops use are in `tinygrad_attn.ops.fused.recurrence`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.kernels.recurrent.rnn import RELU, TANH
from tinygrad_attn.kernels.recurrent.sequence import Saved, run_cell, run_cell_backward
from tinygrad_attn.op import op
from tinygrad_attn.ops.activation import relu
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
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.pointwise import add, tanh, where
from tinygrad_attn.rule import once_per_node
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["NONLINEARITIES", "check_nonlinearity", "rnn", "rnn_cell", "rnn_step"]

Array = np.ndarray[Any, Any]

NONLINEARITIES = {"tanh": tanh, "relu": relu}
_CELLS = {"tanh": TANH, "relu": RELU}


_gx, _h, _w_hh = np.ones((4, 2, 3)), np.ones((2, 3)), np.ones((3, 3))


# -- one step ----------------------------------------------------------------------------------------------------------


def _step_samples(draw: Draw) -> Sample:
    return Sample(sample_step(draw, 1), {"nonlinearity": draw.choice(list(NONLINEARITIES))})


@op(
    r"z = \phi(a), \quad a = x + W h + b, \quad \phi \in \{\tanh, \operatorname{relu}\}",
    samples=_step_samples,
    errors=[
        ErrorSample((_gx[0], _h[:1], _w_hh, None), {}, ValueError, r"gx must .* \(1, 3\).* it has \(2, 3\)"),
        ErrorSample((_gx[0], _h, _w_hh, None), {"nonlinearity": "sin"}, ValueError, "'tanh' or 'relu', got 'sin'"),
    ],
    symbols={"W": "w_hh", "b": "b_hh", r"\phi": "nonlinearity"},
)
def rnn_step(gx: Array, h: Array, w_hh: Array, b_hh: Array | None = None, /, *, nonlinearity: str = "tanh") -> Array:
    """One step of a plain RNN, from the contribution of the input.

    Args:
        gx: ``(B, H)``, ``linear(x, w_ih, b_ih)``.
        h: the state, ``(B, H)``.
        w_hh: ``(H, H)``.
        b_hh: ``(H,)``, or None.
        nonlinearity: "tanh" or "relu".

    Returns:
        The next state, ``(B, H)``.

    Raises:
        ValueError: shapes other than these, or another nonlinearity.
    """
    check_nonlinearity("rnn_step", nonlinearity)
    check_shapes("rnn_step", 1, (), gx, w_hh, b_hh, h=h)
    return NONLINEARITIES[nonlinearity].forward(add.forward(gx, linear.forward(h, w_hh, b_hh)))


@once_per_node
def _before_gradient(g: Tensor, gx: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None, nonlinearity: str) -> Tensor:
    """δ, the gradient of the nonlinearity's input."""
    before = add(gx, linear(h, w_hh, b_hh))
    if nonlinearity == "relu":
        return where(before <= 0.0, 0.0, g)
    z = tanh(before)
    return g * (1.0 - z * z)


_DELTA = r"\quad \delta = \bar z \odot \phi'(a)"
rnn_step.vjp("gx", rf"\delta, {_DELTA}", _before_gradient)
rnn_step.vjp(
    "h",
    rf"\delta\,W, {_DELTA}",
    lambda g, gx, h, w_hh, b_hh, nonlinearity: matmul(_before_gradient(g, gx, h, w_hh, b_hh, nonlinearity), w_hh),
)
rnn_step.vjp(
    "w_hh",
    rf"\delta^\top h, {_DELTA}",
    lambda g, gx, h, w_hh, b_hh, nonlinearity: weight_gradient(_before_gradient(g, gx, h, w_hh, b_hh, nonlinearity), h),
)
rnn_step.vjp(
    "b_hh",
    rf"\textstyle\sum_{{\text{{batch}}}} \delta, {_DELTA}",
    lambda g, gx, h, w_hh, b_hh, nonlinearity: sum_over_batch(_before_gradient(g, gx, h, w_hh, b_hh, nonlinearity)),
)


@rnn_step.composed_of
def _rnn_step_reference(gx: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None, nonlinearity: str) -> Tensor:
    check_nonlinearity("rnn_step", nonlinearity)
    check_shapes("rnn_step", 1, (), gx, w_hh, b_hh, h=h)
    return NONLINEARITIES[nonlinearity](add(gx, linear(h, w_hh, b_hh)))


@rnn_step.kernel
def _rnn_step_gradients(
    g: Array, z: Array, h: Array, w_hh: Array, needs: tuple[bool, ...], nonlinearity: str
) -> tuple[Array | None, ...]:
    (rule,) = NONLINEARITIES[nonlinearity].rules.values()
    assert rule.kernel is not None and linear.joint_kernel is not None
    delta = rule.kernel(g, z)
    for_h, for_w_hh, for_b_hh = linear.joint_kernel(delta, h, w_hh, needs[1:4])
    return delta, for_h, for_w_hh, for_b_hh


# -- a sequence --------------------------------------------------------------------------------------------------------


def _samples(draw: Draw) -> Sample:
    return Sample(
        sample_sequence(draw, 1),
        {"reverse": draw.boolean(), "nonlinearity": draw.choice(list(NONLINEARITIES))},
    )


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
        mask: bool ``(T, B)``; a step where it is False, such as padding, does not change the state.
        reverse: go from the last step to the first.
        nonlinearity: "tanh" or "relu".

    Returns:
        The state after each step, ``(T, B, H)``, at the index of the step, and the final state, ``(B, H)``: the state
        at the last index, or the first if ``reverse``.

    Raises:
        ValueError: shapes other than these, no step, or another nonlinearity.
        TypeError: a mask that is not bool.
    """
    check_nonlinearity("rnn", nonlinearity)
    check_shapes("rnn", 1, step_count("rnn", 1, gx), gx, w_hh, b_hh, mask, h0=h0)
    states = run_cell(_CELLS[nonlinearity], gx, w_hh, b_hh, (h0,), mask, reverse).states
    return states, states[0 if reverse else -1].copy()


@rnn.loop_of(rnn_step, "gx", "h0", "w_hh", "b_hh")
def _rnn_loop(
    gx: Tensor,
    h0: Tensor,
    w_hh: Tensor,
    b_hh: Tensor | None,
    mask: Tensor | None,
    reverse: bool = False,
    nonlinearity: str = "tanh",
) -> tuple[Tensor, ...]:
    check_nonlinearity("rnn", nonlinearity)
    check_shapes("rnn", 1, step_count("rnn", 1, gx), gx, w_hh, b_hh, mask, h0=h0)
    return loop(lambda x, h: (rnn_step(x, h, w_hh, b_hh, nonlinearity=nonlinearity),), gx, (h0,), mask, reverse)


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
    """One step of a plain RNN (see `rnn_step`) from the input itself.

    That is tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of it.

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
    return rnn_step(gx, hx, w_hh, b_hh, nonlinearity=nonlinearity)


def check_nonlinearity(name: str, nonlinearity: str) -> None:
    """Raise a ValueError unless it is one of `NONLINEARITIES`."""
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(f"{name}: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
