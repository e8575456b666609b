"""Charges the time of a training step to the ops, their pullbacks, backward's own work, and the optimiser.

While a step is watched, four functions of the engine are replaced by ones that look at the clock: the call of an op,
the pullback of a node, backward as a whole, and the optimiser's step. Backward is charged with the time within it less
that of the pullbacks, and the others with all that they call, so every moment is counted once. At other times the
engine is as it is, and nothing is spent on the possibility.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tinygrad_attn import autograd, optim
from tinygrad_attn.op import Op
from tinygrad_attn.ops.methods import bind_operators
from tinygrad_attn.tensor import Node, Tensor

from .flops import MATMULS

__all__ = ["BACKWARD", "FORWARD", "SUMS", "UPDATE", "Entry", "Key", "Stopwatch", "watched"]

FORWARD, BACKWARD = "forward", "backward"
SUMS = "order and sums of gradients"
UPDATE = "clip and Adam"


class Key(NamedTuple):
    """What time is charged to."""

    name: str
    """Of an op, or `SUMS`, or `UPDATE`."""
    phase: str = ""
    """Forward, backward, or neither."""
    shapes: str = ""
    """Of the operands, if the profile tells shapes apart."""


@dataclass
class Entry:
    """What a key was charged with."""

    calls: int = 0
    seconds: float = 0.0
    flops: int = 0
    """The operations of matmuls."""


@dataclass
class Stopwatch:
    """Charges time to keys while functions call each other."""

    by_shape: bool = False
    """Whether calls of an op on other shapes have keys of their own."""
    entries: dict[Key, Entry] = field(default_factory=dict)
    within: list[float] = field(default_factory=list)
    """For each charged function that is running, outermost first: the seconds that belong to those it has called."""
    busy: bool = False
    """Whether an op or its pullback is running: it is charged with all that it calls."""
    calls: dict[int, tuple[Key, list[Any], int]] = field(default_factory=dict)
    """By the number of a node: its key in the forward, the operands' shapes, and the operations of its matmuls."""

    def run(self, key: Key, flops: int, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        """Call a function and charge ``key`` with the time within it, less that of the charged functions it calls."""
        self.within.append(0.0)
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            passed = time.perf_counter() - start
            entry = self.entries.setdefault(key, Entry())
            entry.calls += 1
            entry.seconds += passed - self.within.pop()
            entry.flops += flops
            if self.within:
                self.within[-1] += passed

    def run_whole(self, key: Key, flops: int, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        """As `run`, and charge nothing within it to others."""
        self.busy = True
        try:
            return self.run(key, flops, function, *arguments, **options)
        finally:
            self.busy = False

    def call(self, original: Callable[..., Any], op: Op, /, *operands: Any, **options: Any) -> Any:
        """In place of ``Op.__call__``."""
        if self.busy:
            return original(op, *operands, **options)
        shapes = [getattr(operand, "shape", None) for operand in operands]
        matmuls = MATMULS.get(op.name)
        flops = matmuls.forward(shapes, options) if matmuls else 0
        key = Key(op.name, FORWARD, _describe_shapes(shapes) if self.by_shape else "")
        result = self.run_whole(key, flops, original, op, *operands, **options)
        first = result[0] if isinstance(result, tuple) else result
        node = first.node if isinstance(first, Tensor) else None
        if node is not None:
            self.calls[node.number] = key, shapes, flops
        return result

    def pull_back(self, original: Callable[..., Any], node: Node, gradient: Any, edges: Any, /, *others: Any) -> Any:
        """In place of ``autograd.pull_back``."""
        if self.busy:
            return original(node, gradient, edges, *others)
        key, shapes, flops = self.calls.pop(node.number, (Key(node.op.name), [None] * len(edges), 0))
        if flops:
            flops = MATMULS[key.name].backward(flops, shapes, [edge is not None for edge in edges])
        return self.run_whole(key._replace(phase=BACKWARD), flops, original, node, gradient, edges, *others)

    def backward(self, original: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        """In place of ``autograd.backward``."""
        if self.busy:
            return original(*arguments, **options)
        return self.run(Key(SUMS, BACKWARD), 0, original, *arguments, **options)

    def update(self, original: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        """In place of ``Optimizer.step``."""
        return self.run_whole(Key(UPDATE), 0, original, *arguments, **options)


def _describe_shapes(shapes: Sequence[Any]) -> str:
    return " · ".join("×".join(map(str, shape)) for shape in shapes if shape)


@contextlib.contextmanager
def watched(watch: Stopwatch) -> Iterator[None]:
    """Charge ``watch`` with what the engine does. For one thread at a time."""
    try:
        with (
            _replaced(Op, "__call__", watch.call),
            _replaced(autograd, "pull_back", watch.pull_back),
            _replaced(autograd, "backward", watch.backward),
            _replaced(optim.Optimizer, "step", watch.update),
        ):
            bind_operators()
            yield
    finally:
        bind_operators()


@contextlib.contextmanager
def _replaced(owner: Any, name: str, stand_in: Callable[..., Any]) -> Iterator[None]:
    """Have ``owner.name(*arguments)`` call ``stand_in(original, *arguments)``."""
    original = getattr(owner, name)
    # A function of its own, since a class makes methods of functions only.
    setattr(owner, name, lambda *arguments, **options: stand_in(original, *arguments, **options))
    try:
        yield
    finally:
        setattr(owner, name, original)
