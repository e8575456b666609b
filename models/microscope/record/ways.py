"""The ways by which the gradient of the loss enters the encoder, one at a time.

The decoder takes from the encoder's states by a few tensors: the values that it sums, the keys that it scores, the
state that it starts with. Backward from one of these ways alone, with the gradient that arrived there, gives the part
of the gradient that came by it, through all of the encoder's own time steps and layers. Backward is linear, so the
parts add up to the gradient of the states.

Layers and models announce all of this (`tinygrad_attn.modes.MARKS`): "encoded", "state", "value", "key", "start".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_attn.autograd import grad
from tinygrad_attn.record import Call, Mark, Output, Record
from tinygrad_attn.tensor import Tensor

__all__ = ["WAYS", "Ways", "find_ways"]

Array = np.ndarray[Any, Any]

WAYS = ("value", "key", "start")
"""The names of the announcements that are ways."""


@dataclass(frozen=True)
class Ways:
    """The gradient of the encoder's states, (S, D), a row for each symbol of the source."""

    total: Array
    parts: dict[str, Array]
    """What came by each way; those that the model does not have are left out."""


def find_ways(recorded: Record) -> Ways | None:
    """The gradients by way; None if no encoder states are announced.

    Call it while the graph of the recorded pass is still there, and outside `record`.
    """
    encoded = [mark for mark in recorded.marks if mark.name == "encoded"]
    if not encoded:
        return None
    states = _states(recorded, encoded) or encoded
    inside = {mark.source.call for mark in [*states, *encoded]}
    behind = encoded[-1].source.call.index
    ways = [mark for mark in recorded.marks if mark.name in WAYS and mark.source.call.index > behind]
    gates = {mark.source.call for mark in ways}
    parts = {}
    for name in WAYS:
        entries = [
            mark for mark in ways
            if mark.name == name and mark.source.gradient is not None and _leads_to(mark.source.call, inside, gates)
        ]  # fmt: skip
        if entries:
            parts[name] = _rows(states, _backward(entries, states))
    return Ways(_rows(states, [mark.source.gradient for mark in states]), parts)


def _states(recorded: Record, encoded: Sequence[Mark]) -> list[Mark]:
    """The announced states of time steps that the encoder's output is made of: of its last layer, all directions."""
    announced = {mark.source.call: mark for mark in recorded.marks if mark.name == "state" and mark.steps}
    found: dict[Call, Mark] = {}
    for call in _upstream([mark.source.call for mark in encoded], stop=announced.keys()):
        if call in announced:
            found[call] = announced[call]
    return sorted(found.values(), key=lambda mark: mark.source.call.index)


def _leads_to(call: Call, inside: Iterable[Call], gates: Iterable[Call]) -> bool:
    """Whether a call takes from the encoder by itself, and not by another way."""
    wanted = frozenset(inside)
    return any(found in wanted for found in _upstream([call], stop=wanted.union(gates) - {call}))


def _upstream(calls: Sequence[Call], stop: Iterable[Call]) -> Iterable[Call]:
    """The calls behind these, back to those of ``stop``, which are given too."""
    ends = frozenset(stop)
    waiting, seen = list(calls), set(calls)
    while waiting:
        call = waiting.pop()
        yield call
        if call in ends:
            continue
        for source in call.inputs:
            if isinstance(source, Output) and source.call not in seen:
                seen.add(source.call)
                waiting.append(source.call)


def _backward(entries: Sequence[Mark], states: Sequence[Mark]) -> list[Array | None]:
    """The gradients of the states from those that arrived at some announced tensors alone."""
    seeds = [Tensor(mark.source.gradient) for mark in entries if mark.source.gradient is not None]
    found = grad(
        [mark.tensor for mark in entries], [mark.tensor for mark in states], seeds, retain_graph=True, allow_unused=True
    )
    return [None if gradient is None else gradient.array for gradient in found]


def _rows(states: Sequence[Mark], gradients: Sequence[Array | None]) -> Array:
    """The gradients as rows by symbol; the states of several layers or directions side by side."""
    columns: dict[int, list[Array]] = {}
    for mark, gradient in zip(states, gradients, strict=True):
        array = np.zeros_like(mark.source.value) if gradient is None else gradient
        if mark.name == "encoded":
            return array.reshape(-1, array.shape[-1])
        columns.setdefault(mark.steps[0], []).append(array.reshape(-1))
    return np.array([np.concatenate(columns[step]) for step in sorted(columns)])
