"""Schedulers by PyTorch's names: StepLR, CosineAnnealingLR, … set the learning rates of an optimiser's groups.

::

    scheduler = CosineAnnealingLR(optimizer, T_max=len(batches))
    for batch in batches:
        ...
        optimizer.step()
        scheduler.step()

Each is a function of the number of its steps, as those of `tinygrad_attn.schedule` are, which need no object: a
scheduler counts the steps and keeps the rates from which the groups began. PyTorch computes a rate from the one before;
here it is computed from the first, so that rates that were assigned in between are not kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np

from tinygrad_attn.checked import Count, Number, Positive, Probability, Real, Several, Whole, checked, shown
from tinygrad_attn.optim.optimizer import Optimizer
from tinygrad_attn.values import real_number

__all__ = [
    "ConstantLR", "CosineAnnealingLR", "ExponentialLR", "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR",
    "PolynomialLR", "ReduceLROnPlateau", "SequentialLR", "StepLR",
]  # fmt: skip

Size = Annotated[int, Whole(0)]
_Factor = Annotated[float, Number(lambda x: 0.0 < x <= 1.0, "be above 0 and at most 1")]
_Milestones = Annotated[Sequence[int], Several(Whole(0), "steps, as in [30, 80]")]


class LRScheduler:
    """Base of the schedulers: counts steps, and sets ``lr`` of every group.

    A subclass defines ``_rate``.

    Attributes:
        base_lrs: for each group the rate that it began with.
        last_epoch: how often ``step`` was called.

    Raises:
        TypeError: not an optimiser.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: optimizer must be an optimiser, got {shown(optimizer)}")
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = 0
        self._set()

    def _rate(self, base: float, step: int, group: int) -> float:
        """The learning rate of a group that began with ``base``, after ``step`` steps."""
        raise NotImplementedError(f"{type(self).__name__} has no _rate")

    def _set(self) -> None:
        for number, (group, base) in enumerate(zip(self.optimizer.param_groups, self.base_lrs, strict=True)):
            group["lr"] = float(self._rate(base, self.last_epoch, number))

    def step(self) -> None:
        """Set the learning rates of the next step or epoch, after the optimiser's own step."""
        self.last_epoch += 1
        self._set()

    def get_last_lr(self) -> list[float]:
        """The present learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The numbers that a scheduler continues from; functions are not part of it."""
        return {name: value for name, value in vars(self).items() if isinstance(value, (int, float, list))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` returned.

        Raises:
            ValueError: names missing or unknown.
        """
        own = self.state_dict()
        if not isinstance(state, Mapping) or state.keys() != own.keys():
            raise ValueError(f"{type(self).__name__}: a state has {', '.join(own)}, got {shown(state)}")
        vars(self).update(state)
        self._set()


class LambdaLR(LRScheduler):
    """The first rate times a function of the number of steps, or one function for each group.

    A function of `tinygrad_attn.schedule` with ``lr=1.0`` serves: ``LambdaLR(optimizer, schedule.noam(512, 4000))``
    where the optimiser's rate is 1.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]):
        groups = len(getattr(optimizer, "param_groups", ()))
        self.lr_lambdas: tuple[Any, ...] = (
            tuple(lr_lambda) if isinstance(lr_lambda, (list, tuple)) else (lr_lambda,) * groups
        )
        if len(self.lr_lambdas) != groups or not all(map(callable, self.lr_lambdas)):
            raise ValueError(f"LambdaLR: lr_lambda must be a function, or one for each of the {groups} groups")
        super().__init__(optimizer)

    def _rate(self, base: float, step: int, group: int) -> float:
        return base * real_number("LambdaLR", "what lr_lambda returns", self.lr_lambdas[group](step))


class StepLR(LRScheduler):
    """The first rate times ``gamma`` after every ``step_size`` steps."""

    @checked
    def __init__(self, optimizer: Any, step_size: Count, gamma: Positive = 0.1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def _rate(self, base: float, step: int, group: int) -> float:
        return base * self.gamma ** (step // self.step_size)


class MultiStepLR(LRScheduler):
    """The first rate times ``gamma`` at each of the ``milestones``."""

    @checked
    def __init__(self, optimizer: Any, milestones: _Milestones, gamma: Positive = 0.1) -> None:
        self.milestones, self.gamma = list(milestones), gamma
        super().__init__(optimizer)

    def _rate(self, base: float, step: int, group: int) -> float:
        return base * self.gamma ** sum(milestone <= step for milestone in self.milestones)


class ConstantLR(LRScheduler):
    """The first rate times ``factor`` for ``total_iters`` steps, then the first rate."""

    @checked
    def __init__(self, optimizer: Any, factor: Probability = 1.0 / 3.0, total_iters: Size = 5) -> None:
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer)

    def _rate(self, base: float, step: int, group: int) -> float:
        return base * (self.factor if step < self.total_iters else 1.0)


class LinearLR(LRScheduler):
    """The first rate times a factor that goes from ``start_factor`` to ``end_factor`` in ``total_iters`` steps."""

    @checked
    def __init__(
        self,
        optimizer: Any,
        start_factor: _Factor = 1.0 / 3.0,
        end_factor: Probability = 1.0,
        total_iters: Count = 5,
    ) -> None:
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer)

    def _rate(self, base: float, step: int, group: int) -> float:
        done = min(step / self.total_iters, 1.0)
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class ExponentialLR(LRScheduler):
    """The first rate times ``gamma`` to the power of the number of steps."""

    @checked
    def __init__(self, optimizer: Any, gamma: Positive) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def _rate(self, base: float, step: int, group: int) -> float:
        return base * self.gamma**step


class PolynomialLR(LRScheduler):
    """The first rate times (1 − n / total_iters)^power in step n, and 0 from ``total_iters`` on."""

    @checked
    def __init__(self, optimizer: Any, total_iters: Count = 5, power: Positive = 1.0) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer)

    def _rate(self, base: float, step: int, group: int) -> float:
        return base * (1.0 - min(step / self.total_iters, 1.0)) ** self.power


class CosineAnnealingLR(LRScheduler):
    """A cosine from the first rate to ``eta_min`` in ``T_max`` steps, and back in as many.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, eq. 5 without restarts.
    """

    @checked
    def __init__(self, optimizer: Any, T_max: Count, eta_min: Real = 0.0) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def _rate(self, base: float, step: int, group: int) -> float:
        return self.eta_min + (base - self.eta_min) * 0.5 * (1.0 + math.cos(math.pi * step / self.T_max))


class SequentialLR(LRScheduler):
    """One scheduler after another, each from its own step 0 on; number i ends at ``milestones[i]``."""

    @checked
    def __init__(self, optimizer: Any, schedulers: Any, milestones: _Milestones) -> None:
        self.schedulers = tuple(schedulers) if isinstance(schedulers, (list, tuple)) else ()
        if not self.schedulers or not all(isinstance(each, LRScheduler) for each in self.schedulers):
            raise TypeError(f"SequentialLR: schedulers must be a list of schedulers, got {shown(schedulers)}")
        if len(milestones) != len(self.schedulers) - 1 or list(milestones) != sorted(set(milestones)):
            raise ValueError(
                f"SequentialLR: milestones must rise, one between each two of the {len(self.schedulers)} schedulers, "
                f"got {shown(tuple(milestones))}"
            )
        self.milestones = list(milestones)
        super().__init__(optimizer)

    def _rate(self, base: float, step: int, group: int) -> float:
        past = sum(milestone <= step for milestone in self.milestones)
        began = self.milestones[past - 1] if past else 0
        return self.schedulers[past]._rate(base, step - began, group)


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the rates by ``factor`` when a metric has not improved for more than ``patience`` steps.

    Args:
        optimizer: whose rates it sets.
        mode: "min" if a smaller metric is better, else "max".
        factor: in [0, 1).
        patience: how many steps without improvement are passed over.
        threshold: what counts as an improvement: better by this share of the best metric, or with ``threshold_mode``
            "abs" by this much.
        threshold_mode: "rel" or "abs".
        cooldown: how many steps after a reduction are not counted.
        min_lr: the least rate.
        eps: reductions by no more than this are left out.
    """

    @checked
    def __init__(
        self,
        optimizer: Any,
        mode: Literal["min", "max"] = "min",
        factor: Annotated[float, Number(lambda x: 0.0 <= x < 1.0, "be in [0, 1)")] = 0.1,
        patience: Size = 10,
        threshold: Real = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: Size = 0,
        min_lr: Real = 0.0,
        eps: Real = 1e-8,
    ) -> None:
        self.sign = 1.0 if mode == "min" else -1.0
        self.relative = threshold_mode == "rel"
        self.factor, self.patience, self.threshold, self.cooldown = factor, patience, threshold, cooldown
        self.min_lr, self.eps = min_lr, eps
        self.best, self.num_bad_epochs, self.cooldown_counter = self.sign * math.inf, 0, 0
        super().__init__(optimizer)

    def _set(self) -> None:
        """Rates change only in `step`."""

    def step(self, metrics: Any = None) -> None:  # type: ignore[override]
        """Take note of a metric, a number, and reduce the rates if it is time.

        Raises:
            TypeError: no number.
        """
        try:
            metric = float(metrics)
        except (TypeError, ValueError):
            raise TypeError(f"ReduceLROnPlateau: step takes the metric, a number, got {shown(metrics)}") from None
        self.last_epoch += 1
        margin = self.threshold * (abs(self.best) if self.relative and np.isfinite(self.best) else 1.0)
        if self.sign * metric < self.sign * self.best - margin:
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown_counter - 1, 0
        if self.num_bad_epochs > self.patience:
            for group in self.optimizer.param_groups:
                lower = max(group["lr"] * self.factor, self.min_lr)
                group["lr"] = lower if group["lr"] - lower > self.eps else group["lr"]
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
