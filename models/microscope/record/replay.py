"""Runs the recorded forward pass again with some numbers changed, for central differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

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
        self._calls = traced.forward
        self._loss = traced.loss

    def loss(self, changes: Iterable[tuple[Output | Leaf, Array]]) -> float:
        """The loss with some arrays replaced.

        Args:
            changes: outputs of calls, parameters and inputs, each with its new array, which replaces all its uses.
        """
        changed = dict(changes)
        for _ in self._rerun(changed):
            pass
        return float(changed.get(Output(self._loss, 0), self._loss.values[0]))

    def arrays(self, changes: Iterable[tuple[Output | Leaf, Array]]) -> dict[Call, list[Any]]:
        """The operands' arrays of every op that runs again with some arrays replaced, as in `loss`."""
        return dict(self._rerun(dict(changes)))

    def _rerun(self, changed: dict[Output | Leaf, Array]) -> Iterator[tuple[Call, list[Any]]]:
        """Run what depends on ``changed`` and add the outputs to it; each call with its operands' arrays."""
        given = frozenset(changed)
        for call in self._calls:
            if not any(source in changed for source in call.inputs if source is not None):
                continue
            arrays = [
                changed.get(source, array) if source else array
                for source, array in zip(call.inputs, call.arrays, strict=True)
            ]
            results = call.op.forward(*arrays, **call.options)
            several = call.op.outputs != 1 or call.op.saves
            for index in range(len(call.values)):
                output = Output(call, index)
                if output not in given:
                    changed[output] = np.asarray(results[index] if several else results)
            yield call, arrays
