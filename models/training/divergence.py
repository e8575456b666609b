"""TrainingError, and what to say of a loss that is no longer a number: what helps depends on the settings."""

from __future__ import annotations

from tinygrad_attn import schedule

from ..console.errors import UserError
from ..runs.training import TrainingConfig

__all__ = ["TrainingError", "advise_against_divergence"]


class TrainingError(UserError):
    """Training cannot continue. The message says why and what to change."""


def advise_against_divergence(settings: TrainingConfig) -> str:
    """The settings that may keep the loss finite; what is set already is left out."""
    rate = "learning_rate" if "lr" in schedule.parameters(settings.schedule) else "noam_factor"
    changes = [f"training.{rate} below {getattr(settings, rate):g}"]
    if not settings.clip_norm:
        changes.append("training.clip_norm=1")
    if not settings.warmup:
        changes.append("some steps of training.warmup")
    return f"try {', or '.join(changes)}; tinygrad_attn.detect_anomaly() finds the op where it began"
