"""Charges the time of a training step to the ops, their pullbacks, backward's own work, and the optimiser.

A stopwatch is an observer of the engine (see `tinygrad_attn.modes.Observer`), which tells it when each of them begins
and ends. Backward is charged with the time within it less that of the pullbacks, and the others with all that they
call, so every moment is counted once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tinygrad_attn.modes import Observer, observe
from tinygrad_attn.op import Op
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


_SPANS = {"backward": Key(SUMS, BACKWARD), "optimizer step": Key(UPDATE)}


@dataclass
class Entry:
    """What a key was charged with."""

    calls: int = 0
    seconds: float = 0.0
    flops: int = 0
    """The operations of matmuls."""


class _Running(NamedTuple):
    """What has begun and not ended."""

    key: Key
    flops: int
    start: float


@dataclass
class Stopwatch(Observer):
    """Charges time to keys as the engine works."""

    by_shape: bool = False
    """Whether calls of an op on other shapes have keys of their own."""
    entries: dict[Key, Entry] = field(default_factory=dict)
    running: list[_Running] = field(default_factory=list)
    """What is charged now, outermost first."""
    within: list[float] = field(default_factory=list)
    """For each that is running: the seconds that belong to those it has called."""
    nested: int = 0
    """How many have begun within an op, a pullback or the optimiser, which is charged with all that it calls."""
    calls: dict[int, tuple[Key, list[Any], int]] = field(default_factory=dict)
    """By the number of a node: its key in the forward, the operands' shapes, and the operations of its matmuls."""

    def called(self, op: Op, operands: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        """An op begins."""
        if not self._within_another():
            self._begin(*self._key_of(op, operands, options))

    def forward(
        self, op: Op, operands: tuple[Any, ...], options: Mapping[str, Any], outputs: tuple[Tensor, ...]
    ) -> None:
        """An op ends."""
        if self._end() is not None and outputs[0].node is not None:
            key, flops = self._key_of(op, operands, options)
            self.calls[outputs[0].node.number] = key, _shapes(operands), flops

    def arrived(self, node: Node, gradient: Any) -> None:
        """A pullback begins."""
        if self._within_another():
            return
        key, shapes, flops = self.calls.pop(node.number, (Key(node.op.name), [None] * len(node.edges), 0))
        if flops:
            flops = MATMULS[key.name].backward(flops, shapes, [edge is not None for edge in node.edges])
        self._begin(key._replace(phase=BACKWARD), flops)

    def pulled_back(self, node: Node) -> None:
        """A pullback ends."""
        self._end()

    def entered(self, span: str) -> None:
        """Backward as a whole begins, or a step of the optimiser."""
        if not self._within_another():
            self._begin(_SPANS[span], 0)

    def left(self, span: str) -> None:
        """Backward as a whole has ended, or a step of the optimiser."""
        self._end()

    def stop(self) -> None:
        """End what is running, as after an error."""
        self.nested = 0
        while self.running:
            self._end()

    def _key_of(self, op: Op, operands: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[Key, int]:
        shapes = _shapes(operands)
        matmuls = MATMULS.get(op.name)
        key = Key(op.name, FORWARD, _describe_shapes(shapes) if self.by_shape else "")
        return key, matmuls.forward(shapes, options) if matmuls else 0

    def _within_another(self) -> bool:
        """Whether what begins now is part of what is running; only backward as a whole gives its parts away."""
        if self.running and self.running[-1].key.name != SUMS:
            self.nested += 1
            return True
        return False

    def _begin(self, key: Key, flops: int) -> None:
        self.within.append(0.0)
        self.running.append(_Running(key, flops, time.perf_counter()))

    def _end(self) -> Entry | None:
        """Charge what began last with the time since, less that of its parts; None if it was part of another."""
        if self.nested:
            self.nested -= 1
            return None
        key, flops, start = self.running.pop()
        passed = time.perf_counter() - start
        entry = self.entries.setdefault(key, Entry())
        entry.calls += 1
        entry.seconds += passed - self.within.pop()
        entry.flops += flops
        if self.within:
            self.within[-1] += passed
        return entry


def _shapes(operands: Sequence[Any]) -> list[Any]:
    return [getattr(operand, "shape", None) for operand in operands]


def _describe_shapes(shapes: Sequence[Any]) -> str:
    return " · ".join("×".join(map(str, shape)) for shape in shapes if shape)


@contextlib.contextmanager
def watched(watch: Stopwatch) -> Iterator[None]:
    """Charge ``watch`` with what the engine does in this thread."""
    try:
        with observe(watch):
            yield
    finally:
        watch.stop()
