"""How long a training step takes on this machine: a few are taken, and those of other batches lie between them.

A captured step is slow the first three times that a shape comes: it runs eagerly, then it is written down as a program,
then the program is held to it on other values (see `tinygrad_attn.capture`). An epoch of ever new shapes has many such
steps, so each kind is timed by itself, and an epoch is the sum over its own batches.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_attn.capture import MOST_PROGRAMS

from ..data import Batch
from .counts import Size
from .subject import Subject, size_of

__all__ = ["COMPARED", "EAGER", "PROGRAM", "TRACED", "Pace", "kinds_of", "time_measuring", "time_steps"]

EAGER, TRACED, COMPARED, PROGRAM = range(4)
"""What a step is to its shape: the first, the second, the third, or a later one."""

_FEWEST, _MOST = 3, 40  # steps that are timed as a program
_SLOW = 0.5  # seconds of a step, or of measuring a batch, so long that one will do
_FEW = 10  # batches that are measured if that is quick
# Seconds of a step, and of how many sizes steps are taken if it takes at most so long.
_SIZES = ((0.1, 5), (0.4, 3), (math.inf, 2))


@dataclass(frozen=True)
class Pace:
    """Seconds of a step by its kind and by the operations of its batch."""

    operations: Sequence[int]
    """Of the batches that were timed, in order."""
    seconds: Sequence[Sequence[float]]
    """Of each kind, for each of these batches."""
    update: float
    """Seconds of clipping and Adam, which are part of every step."""

    def __call__(self, operations: float, kind: int = PROGRAM) -> float:
        """Seconds of a step on a batch with so many operations."""
        return float(np.interp(operations, self.operations, self.seconds[kind]))


def time_steps(
    subject: Subject, batches: Sequence[Batch], operations_of: Callable[[Size], int], seconds: float
) -> Pace:
    """Take steps on some of the batches, from the smallest to the largest.

    Args:
        subject: what is trained; its kernels are compiled.
        batches: those of an epoch, or a sample.
        operations_of: the operations of a batch's size.
        seconds: about how long to take steps for, if they are not slow.
    """
    by_size = {size_of(batch): batch for batch in batches}
    ordered = sorted((operations_of(size), number) for number, size in enumerate(by_size))
    known = list(by_size.values())
    middle = known[ordered[len(ordered) // 2][1]]
    once = _seconds(lambda: subject.step(middle))
    count = min(len(ordered), next(count for most, count in _SIZES if once <= most))
    chosen = [ordered[round(place)] for place in np.linspace(0, len(ordered) - 1, count)]
    timed = [time_step(subject, known[number], seconds / count) for _, number in chosen]
    return Pace(
        [operations for operations, _ in chosen],
        list(zip(*timed, strict=True)),
        min(_seconds(lambda: subject.optimizer.step(clip_norm=1.0)) for _ in range(_FEWEST)),
    )


def time_step(subject: Subject, batch: Batch, seconds: float) -> tuple[float, float, float, float]:
    """Seconds of a step on one batch, of each kind, from about so many seconds of steps."""
    subject.forget()
    other = _turned(batch)
    eager, traced = (_seconds(lambda: subject.step(batch)) for _ in range(2))
    compared = _seconds(lambda: subject.step(other))
    times: list[float] = []
    fewest = 1 if eager > _SLOW else _FEWEST
    while len(times) < fewest or (len(times) < _MOST and sum(times) < seconds):
        times.append(_seconds(lambda: subject.step(other)))
    subject.forget()
    program = statistics.median(times)
    return max(eager, program), max(traced, program), max(compared, program), program


def time_measuring(subject: Subject) -> float:
    """Seconds in which the model is measured after an epoch, from some of the examples."""
    for batches in (1, _FEW):  # several of like lengths are faster than one of all
        measure, share = subject.measuring(batches)
        measure()  # which compiles kernels
        seconds = _seconds(measure)
        if seconds > _SLOW:
            break
    return seconds / share


def _turned(batch: Batch) -> Batch:
    """The batch with its rows in another order: the same sizes, other values."""
    arrays: dict[str, Any] = {
        name: np.roll(value, 1, 0) for name, value in vars(batch).items() if isinstance(value, np.ndarray)
    }
    return dataclasses.replace(batch, **arrays)


def kinds_of(sizes: Sequence[Sequence[Size]], captured: bool) -> Iterator[list[int]]:
    """What each batch's step is, epoch after epoch, as `tinygrad_attn.capture` makes programs.

    Args:
        sizes: of the batches of each epoch.
        captured: whether steps are captured; if not, all are eager.
    """
    seen: Counter[Size] = Counter()
    for epoch in sizes:
        kinds = []
        for size in epoch:
            known = captured and (size in seen or len(seen) < MOST_PROGRAMS)
            kinds.append(min(seen[size], PROGRAM) if known else EAGER)
            if known:
                seen[size] += 1
        yield kinds


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
