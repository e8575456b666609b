"""Shared by the RNN, GRU and LSTM ops: checks of shapes, samples, and the loop over time steps.

Time is the first axis. The inputs' contributions to the gates are computed beforehand, for all steps in one product:
``gx = linear(x, w_ih, b_ih)``. The ops compute the part that must go step by step. Parameters have PyTorch's layout.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_attn.modes import at_step, mark
from tinygrad_attn.ops.joining import stack, unbind
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.pointwise import where
from tinygrad_attn.ops.reduction import sum
from tinygrad_attn.ops.shape import transpose, unsqueeze
from tinygrad_attn.samples import Draw
from tinygrad_attn.tensor import Tensor

__all__ = ["check_shapes", "loop", "sample_sequence", "sample_step", "step_count", "sum_over_batch", "weight_gradient"]


def check_shapes(
    name: str, gates: int, steps: tuple[int, ...], gx: Any, w_hh: Any, b_hh: Any, mask: Any = None, **initial: Any
) -> None:
    """Raise unless all shapes agree with the number of steps (none for a cell) and the initial state (B, H).

    Args:
        name: the op, for messages.
        gates: the number of gates: ``gx`` has ``gates`` · H columns.
        steps: ``(T,)`` for a sequence, ``()`` for one step.
        gx, w_hh, b_hh, mask: operands; ``b_hh`` and ``mask`` may be None.
        initial: the initial states, by name.

    Raises:
        ValueError: a shape that does not agree.
        TypeError: a mask that is not bool, or other operands than floats.
    """
    if gx.dtype.kind != "f":
        raise TypeError(f"{name}: its operands must be float32 or float64, gx is {gx.dtype}")
    shapes = [None if operand is None else operand.shape for operand in (gx, w_hh, b_hh, mask)]
    _check(name, gates, steps, (*shapes, *[state.shape for state in initial.values()]), tuple(initial))
    if mask is not None and mask.dtype != np.bool_:
        raise TypeError(f"{name}: mask must be bool (True = a step to take), it is {mask.dtype}")


@functools.lru_cache(maxsize=1024)  # of the shapes that were right last: they recur in every step of training
def _check(
    name: str, gates: int, steps: tuple[int, ...], shapes: tuple[tuple[int, ...] | None, ...], states: tuple[str, ...]
) -> None:
    gx, w_hh, b_hh, mask, *initial = shapes
    first = initial[0]
    assert first is not None
    if len(first) != 2:
        raise ValueError(f"{name}: {states[0]} must have shape (B, H), it has {first}")
    batch, size = first
    expected = [
        ("gx", gx, (*steps, batch, gates * size)),
        ("w_hh", w_hh, (gates * size, size)),
        ("b_hh", b_hh, (gates * size,)),
        ("mask", mask, (*steps, batch)),
        *[(which, shape, (batch, size)) for which, shape in zip(states, initial, strict=True)],
    ]
    for which, shape, right in expected:
        if shape is not None and shape != right:
            raise ValueError(f"{name}: {which} must have shape {right} for {states[0]} {first}, it has {shape}")


def step_count(name: str, gates: int, gx: Any) -> tuple[int, ...]:
    """``(T,)`` of a sequence.

    Raises:
        ValueError: ``gx`` does not have three axes, or there is no step.
    """
    if gx.ndim != 3 or not gx.shape[0]:
        raise ValueError(f"{name}: gx must have shape (T, B, {gates}H) with at least one step, it has {gx.shape}")
    return gx.shape[:1]


def sample_sequence(draw: Draw, gates: int, states: int = 1) -> tuple[Any, ...]:
    """gx, the initial states, w_hh, b_hh and mask of a small sequence; the last two may be None."""
    steps, batch, size = draw.integer(1, 3), draw.integer(0, 2), draw.integer(1, 2)
    bias = draw.floats((gates * size,)) if draw.boolean() else None
    mask = draw.mask((steps, batch)) if draw.boolean() else None
    initial = [draw.floats((batch, size)) for _ in range(states)]
    return (draw.floats((steps, batch, gates * size)), *initial, draw.floats((gates * size, size)), bias, mask)


def sample_step(draw: Draw, gates: int, states: int = 1) -> tuple[Any, ...]:
    """`sample_sequence` for one step: without its axis and the mask."""
    gx, *others, _ = sample_sequence(draw, gates, states)
    return (gx[0], *others)


def loop(
    step: Callable[..., tuple[Tensor, ...]], gx: Tensor, initial: tuple[Tensor, ...], mask: Tensor | None, reverse: bool
) -> tuple[Tensor, ...]:
    """Apply ``step`` at each time step, from the states before it to the states after it.

    Args:
        step: a function of the input of a step and the states before it, which returns the states after it.
        gx: the inputs, ``(T, ...)``.
        initial: the states before the first step, ``(B, H)`` each.
        mask: bool ``(T, B)``; a step where it is False does not change the states.
        reverse: go from the last step to the first.

    Returns:
        The first of the states after each step, ``(T, B, H)``, and all states after the last.
    """
    steps = range(gx.shape[0])
    inputs, masks = unbind(gx, 0), None if mask is None else unbind(unsqueeze(mask, -1), 0)
    outputs: dict[int, Tensor] = {}
    states = initial
    for t in reversed(steps) if reverse else steps:
        with at_step(t):
            after = step(inputs[t], *states)
            if masks is not None:
                after = tuple(where(masks[t], new, old) for new, old in zip(after, states, strict=True))
            states = (mark("state", after[0]), *after[1:])
            outputs[t] = states[0]
    return stack([outputs[t] for t in steps], 0), *states


# -- gradients that the rules of all steps use -------------------------------------------------------------------------


def weight_gradient(delta: Tensor, state: Tensor) -> Tensor:
    """The gradient of W in W h, from the gradient of the product, ``(B, ...)``, and h, ``(B, H)``."""
    return matmul(transpose(delta, 0, 1), state)


def sum_over_batch(delta: Tensor) -> Tensor:
    """The gradient of a bias, from the gradient of the sum that it is added to."""
    return sum(delta, 0)
