"""Advice: which setting to change next, from the figures of the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..evaluation.metrics import Figures
from ..runs.config import Config

__all__ = ["Advice", "advise"]

# From this exact match on, a task is learnt.
_GOOD = 0.98
# Nats per token by which the training loss is below the validation loss when a model learns by heart.
_BY_HEART = 0.7


class Advice(NamedTuple):
    """A next step."""

    reason: str
    setting: str
    """As typed after ``--set``."""


def advise(config: Config, figures: Figures, history: Sequence[Mapping[str, Any]], best: int) -> Advice:
    """The next step that is likely to help.

    Args:
        config: the run's.
        figures: of the best weights on the test set.
        history: the lines of ``log.csv``.
        best: the index of the best epoch in ``history``.
    """
    ended_by_steps = config.training.max_steps > 0 and len(history) < config.training.epochs
    longer = "training.max_steps=0" if ended_by_steps else f"training.epochs={2 * config.training.epochs}"
    if figures.exact_match > _GOOD and config.model.smaller():
        return Advice("The task is learnt; does a smaller model learn it, too?", config.model.smaller())
    if config.data.headline == "exact_match":
        return Advice("Longer training may find the rest:", longer)
    dropout = getattr(config.model, "dropout", None)
    gap = history[-1]["valid_loss"] - history[-1]["train_loss"] if history else 0.0
    if gap > _BY_HEART and dropout is not None and dropout < 0.5:
        more = min(0.5, round(dropout + 0.1, 2))
        return Advice(
            f"The training loss is {gap:.1f} below the validation loss: the model learns its text by heart. More text "
            "helps the most; more dropout may help, too:",
            f"model.dropout={more}",
        )
    if best >= len(history) - 1 - len(history) // 10:
        return Advice("Epoch after epoch was better, up to the last ones; train longer:", longer)
    return Advice(f"Epoch {best + 1} was the best; the mean of the last weights is often better:", "training.average=5")
