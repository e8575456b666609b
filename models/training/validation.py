"""Validation: the figures of an epoch on the validation set, and which epoch is the best."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..data import ParallelText, encode_pairs
from ..evaluation.bleu import BleuSettings, References
from ..evaluation.metrics import Figures, measure
from ..interface import Translator
from ..runs.folder import Run

__all__ = ["Validation"]

Row = Mapping[str, Any]


class Validation:
    """Measures a model on pairs, and compares epochs by ``training.early_stopping_metric``.

    Args:
        run: its tokenizers and settings.
        text: the pairs.
        split: which of them, ``"valid"`` or ``"test"``.

    Raises:
        DataError: a pair is too long for the model.
    """

    def __init__(self, run: Run, text: ParallelText, split: str) -> None:
        pairs = getattr(text, split)
        self.examples = encode_pairs(pairs, run.source, run.target)
        sources, targets = zip(*self.examples, strict=True)
        run.refuse_too_long(sources, targets, functools.partial(text.where, split))
        self.references = References.of(pairs, run.source, run.target, BleuSettings.fitting(run.config))
        self.decoding = run.config.decoding
        self.metric = run.config.training.early_stopping_metric

    def measure(self, model: Translator) -> Figures:
        """The figures of ``model``, which decodes as the run's settings say."""
        return measure(model, self.examples, self.decoding, self.references)

    def row(self, model: Translator) -> dict[str, Any]:
        """The columns of ``log.csv`` that are measured here. Decoding is greedy, whatever the beam: this is often."""
        figures = measure(model, self.examples, dataclasses.replace(self.decoding, beam=1), self.references)
        return {
            "valid_loss": figures.teacher_forced.loss,
            "valid_perplexity_teacher_forced": figures.teacher_forced.perplexity,
            "valid_accuracy": figures.teacher_forced.accuracy,
            "valid_exact_match": figures.exact_match,
            "valid_bleu": figures.bleu,
        }

    def merit(self, row: Row) -> tuple[float, float]:
        """How good an epoch is; larger is better. Of epochs with equal metrics that with the smaller loss is better."""
        return (0.0 if self.metric == "loss" else float(row[f"valid_{self.metric}"])), -float(row["valid_loss"])

    def best(self, history: Sequence[Row]) -> tuple[float, float]:
        """The largest merit of the epochs; below all if there are none."""
        return max(map(self.merit, history), default=(-math.inf, -math.inf))

    def epochs_since_best(self, history: Sequence[Row]) -> int:
        """How many epochs have followed the (first) best one."""
        merits = [self.merit(row) for row in history]
        return len(merits) - 1 - merits.index(max(merits)) if merits else 0

    def is_perfect(self, history: Sequence[Row]) -> bool:
        """Whether no epoch can have a better metric than one of these has; of the loss that is never known."""
        most = {"bleu": 100.0, "exact_match": 1.0}.get(self.metric, math.inf)
        return self.best(history)[0] > most - 1e-6
