"""Times the steps of processes that go on together."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["timed_steps"]

_FEWEST = 5


def timed_steps(step: Callable[[], float], seconds: float, agree: Callable[[bool], bool]) -> dict[str, float]:
    """The median of the milliseconds of a step, and the first and the last loss.

    Args:
        step: takes one; the first three are not counted.
        seconds: how long to take steps, five at least.
        agree: what the first process says, on all: whether to go on.
    """
    losses, times, ending = [step() for _ in range(3)], [], time.perf_counter() + seconds
    while agree(len(times) < _FEWEST or time.perf_counter() < ending):
        began = time.perf_counter()
        losses.append(step())
        times.append(time.perf_counter() - began)
    return {"ms": 1e3 * statistics.median(times), "first": losses[0], "last": losses[-1]}
