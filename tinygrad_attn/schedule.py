"""Schedules: the learning rate as a function of the number of steps taken.

    schedule = noam(d_model=512, warmup=4000)
    for batch in batches:
        optimizer.lr = schedule(optimizer.steps)
        ...
        optimizer.step()

A schedule has no state of its own, so training that continues at a step continues with its learning rate. All but
`noam` rise along a line to ``lr`` in the first ``warmup`` steps, the first of which has lr / warmup.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["Schedule", "constant", "cosine", "inverse_sqrt", "linear", "noam"]

Schedule = Callable[[int], float]
"""From the number of steps taken, 0 before the first, to the learning rate of the next."""


def constant(lr: float, warmup: int = 0) -> Schedule:
    """``lr``, again and again."""
    return _after_warmup(lr, warmup, lambda step: 1.0)


def linear(lr: float, steps: int, warmup: int = 0) -> Schedule:
    """Along a line from ``lr`` to 0, which is reached after ``steps``.

    Raises:
        ValueError: ``warmup`` leaves none of the ``steps``.
    """
    falling = _falling("linear", steps, warmup)
    return _after_warmup(lr, warmup, lambda step: max(0.0, 1.0 - step / falling))


def cosine(lr: float, steps: int, warmup: int = 0) -> Schedule:
    """Along half a cosine from ``lr`` to 0, which is reached after ``steps`` (Loshchilov and Hutter 2017).

    Raises:
        ValueError: ``warmup`` leaves none of the ``steps``.
    """
    falling = _falling("cosine", steps, warmup)
    return _after_warmup(lr, warmup, lambda step: 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / falling))))


def inverse_sqrt(lr: float, warmup: int) -> Schedule:
    """lr · √(warmup / n) for step number n: `noam` by its largest value.

    Raises:
        ValueError: ``warmup`` is less than 1.
    """
    _check_warmup("inverse_sqrt", warmup)
    return lambda step: lr * min((step + 1) / warmup, math.sqrt(warmup / (step + 1)))


def noam(d_model: int, warmup: int, factor: float = 1.0) -> Schedule:
    """factor · d_model^-0.5 · min(n^-0.5, n · warmup^-1.5) for step number n, from 1 on (Vaswani et al. 2017, eq. 3).

    Raises:
        ValueError: ``warmup`` is less than 1.
    """
    _check_warmup("noam", warmup)
    return lambda step: factor * d_model**-0.5 * min((step + 1) ** -0.5, (step + 1) * warmup**-1.5)


def _after_warmup(lr: float, warmup: int, share: Callable[[int], float]) -> Schedule:
    """The rise to ``lr``, then its ``share`` of the number of steps since."""
    return lambda step: lr * ((step + 1) / warmup if step < warmup else share(step - warmup))


def _falling(name: str, steps: int, warmup: int) -> int:
    """The number of steps in which the learning rate falls."""
    if not 0 <= warmup < steps:
        raise ValueError(f"{name}: warmup must be less than the number of steps, {steps}, got {warmup}")
    return steps - warmup


def _check_warmup(name: str, warmup: int) -> None:
    if warmup < 1:
        raise ValueError(f"{name}: warmup must be at least 1, got {warmup}")
