"""What a training step does and keeps: the operations of its matrix products, and what is kept for backward.

Both are read off one step that runs, so every model has them, a user's own as well. The operations depend on the
batch's shape alone, and as a polynomial: so a few small steps tell those of every batch (`Operations`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, Self

import numpy as np

from tinygrad_attn.op import node_of
from tinygrad_attn.tensor import Node, Tensor

from .stopwatch import BACKWARD, FORWARD, Stopwatch, watched

__all__ = ["Counts", "Operations", "Size", "count_step"]


class Size(NamedTuple):
    """The shape of a batch."""

    rows: int
    """B."""
    source: int
    """S, 0 for a text."""
    target: int
    """T."""

    def __str__(self) -> str:
        return f"{self.rows} x {self.source} to {self.target}" if self.source else f"{self.rows} x {self.target}"


@dataclass(frozen=True)
class Counts:
    """What a step has done and kept."""

    forward: int
    """Operations of matrix products in the forward pass, two for each multiply-add."""
    backward: int
    """Those of the backward pass, with what checkpoints compute again."""
    kept: int
    """Bytes that the graph holds when the backward pass begins, without parameters."""


def count_step(step: Callable[[], object]) -> Counts:
    """Take a step, which runs eagerly, and count."""
    counter = _Counter()
    with watched(counter):
        step()
    by_phase = {FORWARD: 0, BACKWARD: counter.again, "": 0}
    for key, entry in counter.entries.items():
        by_phase[key.phase] += entry.flops
    return Counts(by_phase[FORWARD], by_phase[BACKWARD], counter.kept)


@dataclass
class _Counter(Stopwatch):
    """A stopwatch that looks at the graph before each backward pass."""

    kept: int = 0
    again: int = 0
    """Operations of the forward pass that checkpoints do again."""
    newest: Node | None = field(default=None, repr=False)

    def forward(self, op: Any, operands: Any, options: Any, outputs: tuple[Tensor, ...]) -> None:
        super().forward(op, operands, options, outputs)
        self.newest = node_of(outputs) or self.newest

    def checkpointed(self) -> bool:
        return False

    def entered(self, span: str) -> None:
        if span == "backward" and self.newest is not None and not self.running:
            nodes = list(_nodes(self.newest))
            self.kept = max(self.kept, _bytes_kept(nodes))
            again = [node.number for node in nodes if type(node.freed) is tuple and node.number in self.calls]
            self.again += sum(self.calls[number][2] for number in again)
            self.newest = None
        super().entered(span)


def _nodes(newest: Node) -> Iterator[Node]:
    """The nodes that a node's gradient may reach."""
    seen, stack = {newest}, [newest]
    while stack:
        node = stack.pop()
        yield node
        for edge in node.edges:
            origin = edge[0] if type(edge) is tuple else edge
            if type(origin) is Node and origin not in seen:
                seen.add(origin)
                stack.append(origin)


def _bytes_kept(nodes: Sequence[Node]) -> int:
    """The memory that nodes hold for their rules, each piece of it once; none that belongs to a leaf."""
    held: dict[int, int] = {}
    leaves: set[int] = set()
    for node in nodes:
        leaves.update(id(_owner(edge.array)) for edge in node.edges if isinstance(edge, Tensor))
        for array in _arrays((node.operands, node.saved)):
            owner = _owner(array)
            held[id(owner)] = owner.nbytes
    return sum(size for owner, size in held.items() if owner not in leaves)


def _arrays(value: Any) -> Iterator[np.ndarray[Any, Any]]:
    """The arrays within a value."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Tensor):
        yield value.array
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(map(_arrays, value.values()))
    elif isinstance(value, (tuple, list)):
        yield from itertools.chain.from_iterable(map(_arrays, value))


def _owner(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


# -- of every batch ----------------------------------------------------------------------------------------------------

Powers = tuple[int, int, int]  # of rows, source and target

# A batch's rows do not meet; a position meets those of its own side and of the other at most once.
_OF_PAIRS: dict[Powers, Size] = {
    (0, 0, 0): Size(1, 1, 1),
    (1, 0, 0): Size(2, 1, 1),
    (1, 1, 0): Size(1, 2, 1),
    (1, 0, 1): Size(1, 1, 2),
    (1, 2, 0): Size(1, 3, 1),
    (1, 1, 1): Size(1, 2, 2),
    (1, 0, 2): Size(1, 1, 3),
}
"""The terms of the polynomial, and a size for each, so that no two sizes tell the same."""


@dataclass(frozen=True)
class Operations:
    """The operations of a step, forward and backward, as polynomials in the batch's rows and lengths."""

    forward: dict[Powers, Fraction]
    backward: dict[Powers, Fraction]

    @classmethod
    def of(cls, count: Callable[[Size], Counts], source: int, target: int) -> Self:
        """The polynomials through the counts of small steps.

        Args:
            count: counts a step on a batch of some size.
            source: a length that sources have, 0 for texts: these all have one length, and differ in rows alone.
            target: a length that targets have.
        """
        sizes = _OF_PAIRS if source else {(0, 0, 0): Size(1, 0, target), (1, 0, 0): Size(2, 0, target)}
        counts = list(map(count, sizes.values()))
        matrix = [[_power(size, powers) for powers in sizes] for size in sizes.values()]
        forward = _solved(matrix, [each.forward for each in counts])
        backward = _solved(matrix, [each.backward for each in counts])
        return cls(dict(zip(sizes, forward, strict=True)), dict(zip(sizes, backward, strict=True)))

    def __call__(self, size: Size) -> tuple[int, int]:
        """The operations of the forward and of the backward pass of a step on one batch."""
        return _value(self.forward, size), _value(self.backward, size)


def _power(size: Size, powers: Powers) -> int:
    rows, source, target = powers
    return int(size.rows**rows * size.source**source * size.target**target)


def _value(polynomial: dict[Powers, Fraction], size: Size) -> int:
    return int(sum(factor * _power(size, powers) for powers, factor in polynomial.items()))


def _solved(matrix: Sequence[Sequence[int]], right: Sequence[int]) -> list[Fraction]:
    """The solution of linear equations, exactly, by elimination."""
    rows = [[*map(Fraction, row), Fraction(value)] for row, value in zip(matrix, right, strict=True)]
    for column in range(len(rows)):
        pivot = next(row for row in range(column, len(rows)) if rows[row][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for other in range(len(rows)):
            if other != column and (factor := rows[other][column]):
                rows[other] = [a - factor * b for a, b in zip(rows[other], rows[column], strict=True)]
    return [row[-1] for row in rows]
