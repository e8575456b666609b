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
    return schedule.scheduled(
        settings.schedule,
        lr=settings.learning_rate,
        steps=steps,
        warmup=settings.warmup,
        d_model=config.model.width(),
        factor=settings.noam_factor,
    )
