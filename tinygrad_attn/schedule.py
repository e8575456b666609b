"""Schedules: the learning rate as a function of the number of steps taken.

    schedule = noam(d_model=512, warmup=4000)
    for batch in batches:
        optimizer.lr = schedule(optimizer.steps)
        ...
        optimizer.step()

A schedule has no state of its own, so training that is resumed at a step has the learning rate of that step. All but
`noam` rise linearly to ``lr`` in the first ``warmup`` steps, the first of which has lr / warmup.

A function registered in `SCHEDULES` is a choice of the setting training.schedule. It takes what it names among ``lr``,
``steps`` (in all), ``warmup``, ``min_lr`` (to which it decays), ``d_model`` (the model's width) and ``factor``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping

from tinygrad_attn.registry import Registry

__all__ = [
    "SCHEDULES", "Schedule", "constant", "cosine", "inverse_sqrt", "linear", "needs_warmup", "noam", "parameters",
    "scheduled",
]  # fmt: skip

Schedule = Callable[[int], float]
"""From the number of steps taken, 0 before the first, to the learning rate of the next."""

SCHEDULES: Registry[Callable[..., Schedule]] = Registry("learning rate schedule")


@SCHEDULES.register("constant")
def constant(lr: float, warmup: int = 0) -> Schedule:
    """Constant ``lr`` after warmup."""
    return _after_warmup(lr, warmup, lambda step: 1.0)


@SCHEDULES.register("linear")
def linear(lr: float, steps: int, warmup: int = 0, min_lr: float = 0.0) -> Schedule:
    """Linear decay from ``lr`` to ``min_lr``, which is reached after ``steps``.

    Raises:
        ValueError: ``warmup`` leaves none of the ``steps``, or ``min_lr`` is negative or above ``lr``.
    """
    decay = _decay_steps("linear", steps, warmup)
    _check_min_lr("linear", lr, min_lr)
    return _after_warmup(lr, warmup, lambda step: max(0.0, 1.0 - step / decay), min_lr)


@SCHEDULES.register("cosine")
def cosine(lr: float, steps: int, warmup: int = 0, min_lr: float = 0.0) -> Schedule:
    """Cosine decay from ``lr`` to ``min_lr``, which is reached after ``steps``.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, eq. 5 without restarts.

    Raises:
        ValueError: ``warmup`` leaves none of the ``steps``, or ``min_lr`` is negative or above ``lr``.
    """
    decay = _decay_steps("cosine", steps, warmup)
    _check_min_lr("cosine", lr, min_lr)
    return _after_warmup(lr, warmup, lambda step: 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / decay))), min_lr)


@SCHEDULES.register("inverse_sqrt")
def inverse_sqrt(lr: float, warmup: int) -> Schedule:
    """lr · √(warmup / n) for step number n after warmup: `noam` with its largest value given.

    Raises:
        ValueError: ``warmup`` is less than 1.
    """
    _check_warmup("inverse_sqrt", warmup)
    return lambda step: lr * min((step + 1) / warmup, math.sqrt(warmup / (step + 1)))


@SCHEDULES.register("noam")
def noam(d_model: int, warmup: int, factor: float = 1.0) -> Schedule:
    """factor · d_model^-0.5 · min(n^-0.5, n · warmup^-1.5) for step number n, from 1 on.

    Vaswani et al., "Attention Is All You Need", 2017, eq. 3.

    Raises:
        ValueError: ``warmup`` is less than 1.
    """
    _check_warmup("noam", warmup)
    return lambda step: factor * d_model**-0.5 * min((step + 1) ** -0.5, (step + 1) * warmup**-1.5)


def scheduled(name: str, **known: float) -> Schedule:
    """The schedule of that name, made with those of the ``known`` values that it takes; the others have its defaults.

    Raises:
        KeyError: no schedule has this name, or it has no default for what is not known.
        ValueError: the warmup or the least rate does not suit it.
    """
    taken = [key for key, value in parameters(name).items() if key in known or value.default is inspect.Parameter.empty]
    return SCHEDULES[name](**{key: known[key] for key in taken})


def parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """What the schedule of that name takes, by name."""
    return inspect.signature(SCHEDULES[name]).parameters


def needs_warmup(name: str) -> bool:
    """Whether the schedule of that name cannot do without warmup steps: it has no default for them."""
    warmup = parameters(name).get("warmup")
    return warmup is not None and warmup.default is inspect.Parameter.empty


def _after_warmup(lr: float, warmup: int, factor: Callable[[int], float], min_lr: float = 0.0) -> Schedule:
    """Linear warmup to ``lr``, then as far from ``min_lr`` to ``lr`` as ``factor`` of the number of steps since."""

    def rate(step: int) -> float:
        if step < warmup:
            return lr * ((step + 1) / warmup)
        return min_lr + (lr - min_lr) * factor(step - warmup)

    return rate


def _decay_steps(name: str, steps: int, warmup: int) -> int:
    """The number of steps after warmup."""
    if not 0 <= warmup < steps:
        raise ValueError(f"{name}: warmup must be less than the number of steps, {steps}, got {warmup}")
    return steps - warmup


def _check_min_lr(name: str, lr: float, min_lr: float) -> None:
    if not 0 <= min_lr <= lr:
        raise ValueError(f"{name}: min_lr must be from 0 to lr, {lr}, got {min_lr}")


def _check_warmup(name: str, warmup: int) -> None:
    if warmup < 1:
        raise ValueError(f"{name}: warmup must be at least 1, got {warmup}")
