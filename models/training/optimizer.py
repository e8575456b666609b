"""Makes the optimiser and the learning rate schedule from the config's training section."""

from __future__ import annotations

import warnings

from tinygrad_attn import optim, schedule

from ..interface import Translator
from ..runs.config import Config, TrainingConfig

__all__ = ["make_optimizer", "make_schedule"]


def make_optimizer(settings: TrainingConfig, model: Translator) -> optim.Adam:
    """Adam for all parameters of a model, with the settings' betas and eps."""
    betas = (settings.beta1, settings.beta2)
    return optim.Adam(model.parameters(), lr=settings.learning_rate, betas=betas, eps=settings.eps)


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
