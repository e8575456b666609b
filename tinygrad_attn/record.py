"""record: keeps every op that runs, with its values, and the gradient along every edge.

::

    with record() as tape:
        loss = model(x).mean()
        loss.backward()
    for call in tape.calls:
        print(call.op.name, call.module, call.step, call.line, call.gradient_state())

An edge leads from a call to the call or leaf that made one of its operands. A tensor that is used twice gets two
contributions, and its gradient is their sum: the contributions tell how much of it came through which use.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Literal, TypeAlias

import numpy as np

from tinygrad_attn.anomaly import module_path
from tinygrad_attn.modes import BareMode, Observer, current_modes
from tinygrad_attn.op import Op, registered_ops
from tinygrad_attn.ops.shape import alias
from tinygrad_attn.pullback import pull_back
from tinygrad_attn.tensor import Node, Tensor

__all__ = ["Call", "GradientState", "Leaf", "Mark", "Output", "Record", "gradient_state", "record"]

Array = np.ndarray[Any, Any]

GradientState: TypeAlias = Literal["value", "zero", "none", "nan"]
"""A gradient with values, one that is exactly zero throughout, one that never arrived, and one with a nan in it."""

_PACKAGE = Path(__file__).parent
# Files that call ops on behalf of others: the source line reported for an op is that of their caller.
_INSIDE = tuple(str(_PACKAGE / name) for name in ("ops", "modes.py", "op.py", "public.py", "record.py", "tensor.py"))


def gradient_state(gradient: Array | None) -> GradientState:
    """The state of a gradient; None stands for one that never arrived."""
    if gradient is None:
        return "none"
    if np.isnan(gradient).any():
        return "nan"
    return "value" if gradient.any() else "zero"


class Leaf:
    """A tensor that no recorded op made: a parameter, an input, a constant, or the result of an earlier op.

    Attributes:
        tensor: the tensor itself.
        value: its array as it was when first used.
        gradient: the sum of the gradients along its edges, or None.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.value: Array = tensor.array.copy()
        self.gradient: Array | None = None

    def gradient_state(self) -> GradientState:
        """See `gradient_state`."""
        return gradient_state(self.gradient)


class Output:
    """One output of a call: where the operand of a later call comes from.

    Attributes:
        call: the call.
        index: which of its outputs.
    """

    __slots__ = ("call", "index")

    def __init__(self, call: Call, index: int) -> None:
        self.call = call
        self.index = index

    @property
    def value(self) -> Array:
        """The output."""
        return self.call.values[self.index]

    @property
    def gradient(self) -> Array | None:
        """The complete gradient, None if none arrived."""
        return self.call.gradients[self.index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Output) and other.call is self.call and other.index == self.index

    def __hash__(self) -> int:
        return hash((id(self.call), self.index))

    def __repr__(self) -> str:
        return f"<output {self.index} of {self.call!r}>"


class Call:
    """One op that ran.

    Attributes:
        index: its number among all calls.
        op: the op, with its name, its formula, and the formulas of its rules.
        operands: as they were given.
        options: all options, defaults filled in.
        inputs: for each operand its source: an `Output` or a `Leaf`, None if it is no tensor.
        values: the outputs, as they were when the op had run.
        module: the path of the module that was running, "" outside.
        steps: the time steps of the recurrences that were running, outermost first.
        line: ``file:line`` of the caller: the innermost line of a composite op's reference, a layer, a model or the
            user's code.
        during_backward: whether backward ran it, as part of a rule.
        gradients: the complete gradient of each output, None if none arrived.
        contributions: for each operand position the gradient that the call sent along that edge, before summation.
    """

    def __init__(
        self,
        index: int,
        op: Op,
        operands: tuple[Any, ...],
        options: Mapping[str, Any],
        inputs: tuple[Output | Leaf | None, ...],
        outputs: tuple[Tensor, ...],
        line: str,
        during_backward: bool,
    ) -> None:
        self.index = index
        self.op = op
        self.operands = operands
        self.options = dict(options)
        self.inputs = inputs
        # Copies: a later write in place must not change the record.
        self.values: tuple[Array, ...] = tuple(output.array.copy() for output in outputs)
        self.module = module_path()
        self.steps = current_modes().steps
        self.line = line
        self.during_backward = during_backward
        self.gradients: list[Array | None] = [None] * len(outputs)
        self.contributions: dict[int, Array] = {}

    def __repr__(self) -> str:
        return f"<call {self.index}: {self.op.name}>"

    @property
    def step(self) -> int | None:
        """The time step of the outermost recurrence, None outside any."""
        return self.steps[0] if self.steps else None

    @property
    def arrays(self) -> list[Any]:
        """The operands' values as the op saw them: arrays, numbers, None."""
        return [
            operand if source is None else source.value
            for operand, source in zip(self.operands, self.inputs, strict=True)
        ]

    def gradient_state(self, output: int = 0) -> GradientState:
        """The state of an output's gradient: see `gradient_state`."""
        return gradient_state(self.gradients[output])


@dataclass(frozen=True)
class Mark:
    """A tensor that a layer has announced with `tinygrad_attn.modes.mark`.

    Attributes:
        name: the name it was announced under: see `tinygrad_attn.modes.MARKS`.
        tensor: an `alias` of the tensor, which the layer used from there on.
        source: the alias in the record: its value, and the gradient that came through the alias alone. Its call's input
            is the announced tensor.
        details: the details of the announcement.
        module: the path of the module that was running, "" outside.
        steps: the time steps of the recurrences that were running, outermost first.
    """

    name: str
    tensor: Tensor
    source: Output
    details: Mapping[str, Any]
    module: str
    steps: tuple[int, ...]


class Record(Observer):
    """The result of `record`.

    Attributes:
        calls: every call of an op, in order.
        marks: the tensors that layers have announced, in order.
        leaves: every tensor that a call used and no call made, in order of first use.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.marks: list[Mark] = []
        self.leaves: list[Leaf] = []
        self._nodes: dict[int, Call] = {}
        # By the tensor's id; the calls and leaves keep the tensors alive, so that no id is given twice.
        self._sources: dict[int, Output | Leaf] = {}
        self._alive: list[tuple[Tensor, ...]] = []
        made_of = [op.reference for op in registered_ops().values() if op.reference is not None]
        self._references = frozenset(reference.__code__ for reference in made_of)

    def source_of(self, tensor: Tensor) -> Output | Leaf | None:
        """The output or leaf that a tensor is, None if no recorded op used or made it."""
        if tensor.node is not None and tensor.node.number in self._nodes:
            return Output(self._nodes[tensor.node.number], tensor.output_index)
        return self._sources.get(id(tensor))

    def tensor_of(self, output: Output) -> Tensor:
        """The tensor that an output of a call is."""
        return self._alive[output.call.index][output.index]

    def uses(self, source: Output | Leaf) -> list[tuple[Call, int]]:
        """The calls that used a tensor, with the operand's position, in order; without those made by backward."""
        return [
            (call, position)
            for call in self.calls
            if not call.during_backward
            for position, found in enumerate(call.inputs)
            if found == source
        ]

    def forward(
        self, op: Op, operands: tuple[Any, ...], options: Mapping[str, Any], outputs: tuple[Tensor, ...]
    ) -> None:
        """See `tinygrad_attn.modes.Observer`."""
        inputs = tuple(self._input(operand) for operand in operands)
        line, during_backward = _caller(self._references)
        call = Call(len(self.calls), op, operands, options, inputs, outputs, line, during_backward)
        self.calls.append(call)
        self._alive.append(outputs)
        for index, output in enumerate(outputs):
            self._sources[id(output)] = Output(call, index)
            if output.node is not None:
                self._nodes[output.node.number] = call

    def marked(self, name: str, tensor: Tensor, details: Mapping[str, Any]) -> Tensor:
        """See `tinygrad_attn.modes.Observer`."""
        separate = alias(tensor)
        source = self.source_of(separate)
        assert isinstance(source, Output)
        self.marks.append(Mark(name, separate, source, details, module_path(), current_modes().steps))
        return separate

    def arrived(self, node: Node, gradient: Any) -> None:
        """See `tinygrad_attn.modes.Observer`."""
        call = self._nodes.get(node.number)
        if call is not None:
            for index, part in enumerate(gradient if isinstance(gradient, tuple) else (gradient,)):
                if part is not None:
                    call.gradients[index] = _sum(call.gradients[index], part)

    def backward(self, node: Node, position: int, gradient: Any) -> None:
        """See `tinygrad_attn.modes.Observer`."""
        call = self._nodes.get(node.number)
        if call is None:
            return
        call.contributions[position] = _sum(call.contributions.get(position), gradient)
        source = call.inputs[position]
        if isinstance(source, Leaf):
            source.gradient = _sum(source.gradient, gradient)

    def _input(self, operand: Any) -> Output | Leaf | None:
        if not isinstance(operand, Tensor):
            return None
        source = self.source_of(operand)
        if source is None:
            source = self._sources[id(operand)] = Leaf(operand)
            self.leaves.append(source)
        return source


def _sum(before: Array | None, gradient: Any) -> Array:
    """The sum, as a new array: the engine adds to its arrays in place."""
    array = gradient.array if isinstance(gradient, Tensor) else gradient
    return array.copy() if before is None else before + array


def _caller(references: frozenset[CodeType]) -> tuple[str, bool]:
    """``file:line`` of the op's caller, and whether backward called it; ``references``: those of composite ops."""
    line = ""
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if not line and (code in references or not code.co_filename.startswith(_INSIDE)):
            line = f"{code.co_filename}:{frame.f_lineno}"
        if code is pull_back.__code__:
            return line, True
        frame = frame.f_back  # type: ignore[assignment]
    return line, False


class record(BareMode):
    """Record every op of this thread, forward and backward, inside this context, which gives a `Record`.

    Values and gradients are copied, so this takes the memory of every intermediate result: a tool for inspection, not
    for training. Inside `tinygrad_attn.unfused` every primitive is recorded. Several backward passes add up, as in
    ``.grad``. Outside the context nothing is recorded and nothing is slower.
    """

    def __init__(self) -> None:
        super().__init__("observers", lambda outside: (*outside, Record()))

    def enter(self, entry: Any) -> Record:
        super().enter(entry)
        return current_modes().observers[-1]  # type: ignore[return-value]
