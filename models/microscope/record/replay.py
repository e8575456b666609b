"""Run the recorded forward pass again with some numbers changed: what a central difference needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_attn.record import Call, Leaf, Output

from .sites import Part
from .trace import Traced

__all__ = ["Replay"]

Array = np.ndarray[Any, Any]


class Replay:
    """Recomputes the loss of a traced pass. Only what depends on a change runs again, forward alone.

    Args:
        traced: the pass.
    """

    def __init__(self, traced: Traced) -> None:
        self._calls = traced.calls
        self._loss = traced.loss

    def loss(self, parts: Iterable[tuple[Part, Array]] = (), leaves: Iterable[tuple[Leaf, Array]] = ()) -> float:
        """The loss with other numbers in place of those that ran.

        Args:
            parts: operands or outputs of calls, each with its array in the call's own layout. A changed operand is
                changed for that call alone.
            leaves: parameters and their arrays, changed wherever they are used.
        """
        operands: dict[Call, dict[int, Array]] = {}
        changed: dict[Output | Leaf, Array] = dict(leaves)
        outputs: dict[Output, Array] = {}
        for part, array in parts:
            if part.operand:
                operands.setdefault(part.call, {})[part.number] = array
            else:
                outputs[Output(part.call, part.number)] = array
        for call in self._calls:
            given = operands.get(call, {})
            if given or any(source in changed for source in call.inputs if source is not None):
                arrays = [
                    given[position] if position in given else changed.get(source, array) if source else array
                    for position, (source, array) in enumerate(zip(call.inputs, call.arrays, strict=True))
                ]
                results = call.op.forward(*arrays, **call.options)
                several = call.op.outputs != 1 or call.op.saves
                for index in range(len(call.values)):
                    changed[Output(call, index)] = np.asarray(results[index] if several else results)
            for index in range(len(call.values)):
                output = Output(call, index)
                if output in outputs:
                    changed[output] = outputs[output]
        return float(changed.get(Output(self._loss, 0), self._loss.values[0]))
