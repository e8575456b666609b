"""What ran, forward and backward: every op with its values, and the gradient along every edge before it is summed.

::

    with record() as tape:
        loss = model(x).mean()
        loss.backward()
    for call in tape.calls:
        print(call.op.name, call.module, call.step, call.line, call.gradient_state())

An edge leads from a call to what made one of its operands. A tensor that is used twice gets two contributions, and its
gradient is their sum: the contributions tell by which way how much of it came.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Literal, TypeAlias

import numpy as np

from tinygrad_attn.anomaly import module_path
from tinygrad_attn.modes import Observer, modes, observe
from tinygrad_attn.op import Op, registered_ops
from tinygrad_attn.ops.shape import alias
from tinygrad_attn.pullback import pull_back
from tinygrad_attn.tensor import Node, Tensor

__all__ = ["Call", "GradientState", "Leaf", "Mark", "Output", "Record", "gradient_state", "record"]

Array = np.ndarray[Any, Any]

GradientState: TypeAlias = Literal["value", "zero", "none", "nan"]
"""A gradient with values, one that is exactly zero throughout, one that never arrived, and one with a nan in it."""

_PACKAGE = Path(__file__).parent
# Files that call ops for others: the line that an op is charged to is further out.
_INSIDE = tuple(str(_PACKAGE / name) for name in ("ops", "modes.py", "op.py", "public.py", "record.py", "tensor.py"))


def gradient_state(gradient: Array | None) -> GradientState:
    """Which kind of gradient this is; None stands for one that never arrived."""
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
        gradient: the sum of what arrived along its edges, or None.
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
        options: defaults filled in.
        inputs: for each operand where it came from: an `Output` or a `Leaf`, None if it is no tensor.
        values: the outputs, as they were when the op had run.
        module: the path of the module that was running, "" outside.
        steps: the time steps of the recurrences that were running, outermost first.
        line: ``file:line`` that asked for it: the innermost of the reference of a composite op, a layer, a model or the
            user's code.
        during_backward: whether backward ran it, as part of a rule.
        gradients: of each output, complete, None if none arrived.
        contributions: by operand position what the call sent along that edge, before it was summed there.
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
        # A later write in place changes the tensors, not what ran.
        self.values: tuple[Array, ...] = tuple(output.array.copy() for output in outputs)
        self.module = module_path()
        self.steps = modes.steps
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
        """Of an output's gradient: see `gradient_state`."""
        return gradient_state(self.gradients[output])


@dataclass(frozen=True)
class Mark:
    """What a layer has announced with `tinygrad_attn.modes.mark`.

    Attributes:
        name: what it said the tensor is: see `tinygrad_attn.modes.MARKS`.
        tensor: an `alias` of it, that the layer went on with.
        source: the alias in the record: its value, and the gradient that arrived by this way alone. Its call's input is
            where the tensor came from.
        details: what else was said.
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
    """All that ran inside `record`.

    Attributes:
        calls: every op, in order.
        marks: what layers have announced, in order.
        leaves: every tensor that they used and none of them made, in order of first use.
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
        """Where a tensor came from, None if no recorded op used or made it."""
        if tensor.node is not None and tensor.node.number in self._nodes:
            return Output(self._nodes[tensor.node.number], tensor.output_index)
        return self._sources.get(id(tensor))

    def uses(self, source: Output | Leaf) -> list[tuple[Call, int]]:
        """The calls that used a tensor, with the operand's position, in order; backward's own left out."""
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
        self.marks.append(Mark(name, separate, source, details, module_path(), modes.steps))
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
    """The sum, as an array of its own: the engine adds to its arrays in place."""
    array = gradient.array if isinstance(gradient, Tensor) else gradient
    return array.copy() if before is None else before + array


def _caller(references: frozenset[CodeType]) -> tuple[str, bool]:
    """``file:line`` of who asked for the op, and whether backward did; ``references`` are those of composite ops."""
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


@contextlib.contextmanager
def record() -> Iterator[Record]:
    """Keep every op of this thread, forward and backward, inside this context.

    Values and gradients are copied, so this takes the memory of every intermediate result: a tool for looking, not for
    training. Inside `tinygrad_attn.unfused` every primitive is seen. Several backward passes add up, as in ``.grad``.
    Outside the context nothing is kept and nothing slows down.
    """
    recorded = Record()
    with observe(recorded):
        yield recorded
