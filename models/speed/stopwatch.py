"""Stopwatch: measures the time of ops, their pullbacks, backward's own work, and the optimiser.

A stopwatch is an observer of the engine (see `tinygrad_attn.modes.Observer`), which calls it when each of them begins
and ends. Backward's own time excludes its pullbacks; the time of all others includes everything that they call. So
every moment is counted once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tinygrad_attn.contexts import context, undone_by
from tinygrad_attn.modes import Observer, observe
from tinygrad_attn.op import Op, node_of
from tinygrad_attn.tensor import Node, Tensor

from .flops import MATMULS

__all__ = ["BACKWARD", "FORWARD", "SUMS", "UPDATE", "Entry", "Key", "Stopwatch", "watched"]

FORWARD, BACKWARD = "forward", "backward"
SUMS = "order and sums of gradients"
UPDATE = "clip and Adam"


class Key(NamedTuple):
    """A row of the profile, to which time is added."""

    name: str
    """The name of an op, or `SUMS`, or `UPDATE`."""
    phase: str = ""
    """Forward, backward, or neither."""
    shapes: str = ""
    """The shapes of the operands, if the profile distinguishes them."""


_SPANS = {"backward": Key(SUMS, BACKWARD), "optimizer step": Key(UPDATE)}


@dataclass
class Entry:
    """The calls, time and operations of a key."""

    calls: int = 0
    seconds: float = 0.0
    flops: int = 0
    """The operations of matmuls."""


class _Running(NamedTuple):
    """A measurement that has begun and not ended."""

    key: Key
    flops: int
    start: float


@dataclass
class Stopwatch(Observer):
    """Adds the time of each piece of the engine's work to its key."""

    by_shape: bool = False
    """Whether each combination of operand shapes of an op has its own key."""
    entries: dict[Key, Entry] = field(default_factory=dict)
    running: list[_Running] = field(default_factory=list)
    """The running measurements, outermost first."""
    within: list[float] = field(default_factory=list)
    """For each running measurement the seconds of those inside it."""
    nested: int = 0
    """How many calls are open inside an op, a pullback or the optimiser, whose time includes them."""
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
        ended, node = self._end(), node_of(outputs)
        if ended is not None and node is not None:
            key, flops = self._key_of(op, operands, options)
            self.calls[node.number] = key, _shapes(operands), flops

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
        """End all running measurements, as after an error."""
        self.nested = 0
        while self.running:
            self._end()

    def _key_of(self, op: Op, operands: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[Key, int]:
        shapes = _shapes(operands)
        matmuls = MATMULS.get(op.name)
        key = Key(op.name, FORWARD, _describe_shapes(shapes) if self.by_shape else "")
        return key, matmuls.forward(shapes, options) if matmuls else 0

    def _within_another(self) -> bool:
        """Whether a new call counts as part of the running measurement; parts of backward are measured separately."""
        if self.running and self.running[-1].key.name != SUMS:
            self.nested += 1
            return True
        return False

    def _begin(self, key: Key, flops: int) -> None:
        self.within.append(0.0)
        self.running.append(_Running(key, flops, time.perf_counter()))

    def _end(self) -> Entry | None:
        """End the innermost measurement: add its time without its parts; None if it was part of another."""
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


@context
def watched(watch: Stopwatch) -> Iterator[None]:
    """A context that measures the engine's work in this thread with ``watch``."""
    with undone_by(watch.stop), observe(watch):
        yield
