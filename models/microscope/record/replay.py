"""Runs the recorded forward pass again with some numbers changed, for central differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.record import Call, Leaf, Output

from .trace import Traced

__all__ = ["Replay"]

Array = np.ndarray[Any, Any]


class Replay:
    """Recomputes the loss of a traced pass. Only ops that depend on a change run again.

    Args:
        traced: the pass.
    """

    def __init__(self, traced: Traced) -> None:
        self._loss = Output(traced.loss, 0)
        self._calls = traced.forward
        self._given: frozenset[Output | Leaf] = frozenset()
        self._plan: list[_Rerun] = []

    def loss(self, changes: Iterable[tuple[Output | Leaf, Array]]) -> float:
        """The loss with some arrays replaced.

        Args:
            changes: outputs of calls, parameters and inputs, each with its new array, which replaces all its uses.
        """
        changed = dict(changes)
        for _ in self._rerun(changed):
            pass
        return float(changed.get(self._loss, self._loss.value))

    def arrays(self, changes: Iterable[tuple[Output | Leaf, Array]]) -> dict[Call, list[Any]]:
        """The operands' arrays of every op that runs again with some arrays replaced, as in `loss`."""
        return dict(self._rerun(dict(changes)))

    def _rerun(self, changed: dict[Output | Leaf, Array]) -> Iterator[tuple[Call, list[Any]]]:
        """Run what depends on ``changed`` and add the outputs to it; each call with its operands' arrays."""
        given = frozenset(changed)
        if given != self._given:  # the same arrays are changed several times in a row
            self._given, self._plan = given, self._dependent(given)
        for step in self._plan:
            arrays = step.arrays.copy()
            for position, source in step.moved:
                arrays[position] = changed[source]
            results = step.call.op.forward(*arrays, **step.call.options)
            for index, output in step.outputs:
                changed[output] = np.asarray(results if index is None else results[index])
            yield step.call, arrays

    def _dependent(self, given: frozenset[Output | Leaf]) -> list[_Rerun]:
        """What runs again where ``given`` change, in order."""
        moving, plan = set(given), []
        for call in self._calls:
            moved = [(position, source) for position, source in enumerate(call.inputs) if source in moving]
            if moved:
                several = call.op.outputs != 1 or call.op.saves
                outputs = [(index if several else None, Output(call, index)) for index in range(len(call.values))]
                outputs = [(index, output) for index, output in outputs if output not in given]
                plan.append(_Rerun(call, call.arrays, moved, outputs))
                moving.update(output for _, output in outputs)
        return plan


class _Rerun(NamedTuple):
    """An op that runs again."""

    call: Call
    arrays: list[Any]
    """Its operands' arrays as they were."""
    moved: list[tuple[int, Output | Leaf]]
    """The positions of those that change, and where they come from."""
    outputs: list[tuple[int | None, Output]]
    """Which of its results replace which outputs; None if the op gives one result."""
