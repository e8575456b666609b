"""Makes the optimiser and the learning rate schedule from the config's training section."""

from __future__ import annotations

import warnings
from typing import Any

from tinygrad_attn import optim, schedule

from ..console.counts import counted
from ..interface import LanguageModel
from ..parallel.moments import DividedAdam
from ..parallel.ranks import Ranks
from ..runs.config import Config
from ..runs.training import TrainingConfig

__all__ = ["describe_schedule", "make_optimizer", "make_schedule"]


def make_optimizer(settings: TrainingConfig, model: LanguageModel, ranks: Ranks | None = None) -> optim.Adam:
    """Adam for all parameters of a model; with a weight decay AdamW, which decays matrices alone.

    Biases and the weights of norms are few, and to pull them to zero is no simpler model; so only parameters of two or
    more axes are decayed, embeddings among them. ``training.divided_moments`` divides its moments among ranks, if there
    are several.
    """
    parameters = list(model.parameters())
    options: dict[str, Any] = {
        "lr": settings.learning_rate, "betas": (settings.beta1, settings.beta2), "eps": settings.eps
    }  # fmt: skip
    shared = ranks if ranks is not None and ranks.size > 1 and settings.divided_moments else None
    if not settings.weight_decay:
        return DividedAdam(parameters, shared, **options) if shared else optim.Adam(parameters, **options)
    decayed = {
        True: [parameter for parameter in parameters if parameter.ndim > 1],
        False: [parameter for parameter in parameters if parameter.ndim < 2],
    }
    groups = [
        {"params": some, "weight_decay": settings.weight_decay if matrices else 0.0}
        for matrices, some in decayed.items()
        if some
    ]
    return DividedAdam(groups, shared, **options) if shared else optim.AdamW(groups, **options)


def make_schedule(config: Config, steps: int) -> schedule.Schedule:
    """The learning rate schedule of the config, for ``steps`` steps in all; warns if all of them are warmup.

    Raises:
        ValueError: the warmup is not shorter than training.
    """
    settings = config.training
    known = {
        "lr": settings.learning_rate,
        "steps": steps,
        "warmup": settings.warmup,
        "min_lr": settings.min_learning_rate,
        "factor": settings.noam_factor,
    }
    if "d_model" in schedule.parameters(settings.schedule):  # not every model of a user's own says its width
        known["d_model"] = config.model.width()
    made = schedule.scheduled(settings.schedule, **known)
    if settings.warmup >= steps:
        warnings.warn(
            f"training.warmup is {settings.warmup:,}, but training has {steps:,} steps: the learning rate only rises; "
            "lower it, or raise training.epochs",
            stacklevel=3,
        )
    return made


def describe_schedule(name: str, rate: schedule.Schedule, done: int, steps: int) -> str:
    """The learning rate of the step that follows ``done`` steps, and of the last of all ``steps``."""
    return (
        f"learning rate, schedule {name} over {counted(steps, 'step')}: {rate(done):.3g} in step {done + 1:,}, "
        f"{rate(steps - 1):.3g} in the last"
    )
