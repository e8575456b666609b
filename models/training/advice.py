"""Advice: which setting to change next, from the figures of the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..data import UNKNOWN, Examples, Parallel
from ..data.vocabulary import CONTROL_SYMBOLS
from ..evaluation.metrics import Figures
from ..runs.config import Config
from ..runs.folder import Run

__all__ = ["Advice", "advise", "longer_or_average", "more_dropout", "note_of_unknown", "overfitting"]

# The share of symbols that are unknown from which on a note says so.
_MANY_UNKNOWN = 0.2

# From this exact match on, a task is learnt.
_GOOD = 0.98
# Nats per token by which the training loss is below the validation loss when a model learns by heart.
_BY_HEART = 0.7
# A vocabulary of byte pair encoding that is not made smaller: little more than letters and frequent syllables.
_SMALLEST = 400


class Advice(NamedTuple):
    """A next step."""

    reason: str
    setting: str
    """As typed after ``--set``, with the run's config; settings, if they are several, with a blank between."""
    options: tuple[str, ...] = ()
    """Of ``train``, in place of the run's config and a setting."""


def advise(config: Config, figures: Figures, history: Sequence[Mapping[str, Any]], best: int) -> Advice:
    """The next step that is likely to help.

    Args:
        config: the run's.
        figures: of the best weights on the test set.
        history: the lines of ``log.csv``.
        best: the index of the best epoch in ``history``.
    """
    if isinstance(config.data, Parallel) and config.data.train_size:
        return Advice(
            f"This was a sample of at most {config.data.train_size:,} pairs; the whole text helps the most:",
            "",
            _whole_text(config, config.data),
        )
    if figures.exact_match > _GOOD and config.model.smaller():
        return Advice("The task is learnt; does a smaller model learn it, too?", config.model.smaller())
    if config.pairs.headline == "exact_match":
        return Advice("Longer training may find the rest:", _longer(config, history))
    gap = overfitting(history)
    if gap > _BY_HEART and (remedy := _against_learning_by_heart(config)):
        return Advice(
            f"The training loss is {gap:.1f} below the validation loss: the model learns its text by heart. More text "
            f"helps the most; {remedy.reason}:",
            remedy.setting,
        )
    return longer_or_average(config, history, best)


def longer_or_average(config: Config, history: Sequence[Mapping[str, Any]], best: int) -> Advice:
    """Longer training if the best epoch is one of the last, else the mean of the last epochs' weights."""
    if best >= len(history) - 1 - len(history) // 10:
        return Advice("Epoch after epoch was better, up to the last ones; train longer:", _longer(config, history))
    return Advice(f"Epoch {best + 1} was the best; the mean of the last weights is often better:", "training.average=5")


def overfitting(history: Sequence[Mapping[str, Any]]) -> float:
    """By how many nats per token the training loss of the last epoch is below its validation loss."""
    return float(history[-1]["valid_loss"] - history[-1]["train_loss"]) if history else 0.0


def more_dropout(config: Config) -> str:
    """The setting with 0.1 more dropout, up to 0.3; empty if there is as much, or the model has none."""
    dropout = getattr(config.model, "dropout", None)
    return "" if dropout is None or dropout >= 0.3 else f"model.dropout={min(0.3, round(dropout + 0.1, 2))}"


def _longer(config: Config, history: Sequence[Mapping[str, Any]]) -> str:
    """Without a limit of steps if that has ended training; else for more epochs, which no limit then ends either."""
    epochs, limit = config.training.epochs, config.training.max_steps
    if limit and len(history) < epochs:
        return "training.max_steps=0"
    return f"training.epochs={2 * epochs}" + (" training.max_steps=0" if limit else "")


def note_of_unknown(run: Run, examples: Examples) -> str:
    """A note if many symbols of the training text are ``<unk>``, which a model learns to write; else empty.

    Empty vocabularies have a note of their own.
    """
    notes = []
    sides = ("source", run.source, examples.sources), ("target", run.target, examples.targets)
    for name, tokenizer, sentences in sides:
        symbols, unknown = int(sentences.lengths.sum(dtype=np.int64)), sentences.occurrences(UNKNOWN)
        if unknown > _MANY_UNKNOWN * symbols and len(tokenizer) > len(CONTROL_SYMBOLS):
            notes.append(f"{100 * unknown / symbols:.0f} % of the {name}'s")
    if not notes:
        return ""
    data = run.config.data
    fixes = ["raise data.vocabulary_size"] if data.vocabulary_size else []
    fixes += ["lower data.min_frequency"] if data.min_frequency > 1 else []
    fixes += ["choose data.tokenizer=bpe with data.vocabulary_size=8000"] if data.tokenizer != "bpe" else []
    return (
        f"{' and '.join(notes)} symbols are unknown to its vocabulary (<unk>), and the model learns no more of them; "
        f"{' or '.join(fixes) or 'is the text of the vocabulary in another language?'}"
    )


def _against_learning_by_heart(config: Config) -> Advice | None:
    """A smaller vocabulary, whose symbols each come more often; then more dropout, up to 0.3. None beyond these.

    Sennrich and Zhang, "Revisiting Low-Resource Neural Machine Translation: A Case Study", 2019.
    """
    size = config.data.vocabulary_size
    if config.data.tokenizer == "bpe" and size >= 2 * _SMALLEST:
        return Advice(
            "smaller pieces of words help, too, since each comes more often", f"data.vocabulary_size={size // 2}"
        )
    changed = more_dropout(config)
    return Advice("more dropout may help, too", changed) if changed else None


def _whole_text(config: Config, data: Parallel) -> tuple[str, ...]:
    """The options of ``train`` that read all of a text, and choose the settings for it."""
    files = ("--data", data.directory, "--source", data.source, "--target", data.target)
    return (*files, "--set", f"model.name={config.model.name}")
