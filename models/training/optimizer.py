"""Makes the optimiser and the learning rate schedule from the config's training section."""

from __future__ import annotations

from tinygrad_attn import optim, schedule

from ..interface import Translator
from ..runs.config import Config, TrainingConfig

__all__ = ["make_optimizer", "make_schedule"]


def make_optimizer(settings: TrainingConfig, model: Translator) -> optim.Adam:
    """Adam for all parameters of a model, with the settings' betas and eps."""
    betas = (settings.beta1, settings.beta2)
    return optim.Adam(model.parameters(), lr=settings.learning_rate, betas=betas, eps=settings.eps)


def make_schedule(config: Config, steps: int) -> schedule.Schedule:
    """The learning rate schedule of the config, for ``steps`` steps in all.

    Raises:
        ValueError: the warmup is not shorter than training.
    """
    settings = config.training
    rate, warmup = settings.learning_rate, settings.warmup
    if settings.schedule == "noam":
        return schedule.noam(config.model.width(), warmup, settings.noam_factor)
    if settings.schedule == "inverse_sqrt":
        return schedule.inverse_sqrt(rate, warmup)
    if settings.schedule == "constant":
        return schedule.constant(rate, warmup)
    falling = {"linear": schedule.linear, "cosine": schedule.cosine}[settings.schedule]
    return falling(rate, steps, warmup)
