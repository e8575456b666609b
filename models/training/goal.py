"""Goal: what a run trains for: its batches, how an epoch is measured and shown, and the last words.

Training itself is the same for all models. Translating pairs (`models.training.translation`) and continuing a text
(`models.training.continuation`) are goals.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..console.counts import clock
from ..console.working import is_quiet
from ..data import Batch
from ..runs.folder import Run

__all__ = ["Ending", "EpochBatches", "Goal", "Row", "Validation", "closing"]

Row = Mapping[str, Any]
"""A line of ``log.csv``."""


class EpochBatches(Protocol):
    """The batches of training: `models.data.Batches` or `models.data.Windows`."""

    @property
    def dropped(self) -> int:
        """How many examples were left out."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the batch ``start`` on, a function of the seed alone."""

    def count(self, number: int) -> int:
        """How many batches an epoch has."""

    def count_all(self, epochs: int, group: int = 1) -> int:
        """How many groups of so many batches the first ``epochs`` epochs have; an epoch's last may be smaller."""

    def largest(self) -> tuple[int, int]:
        """The numbers of symbols of the sources and of the targets of a largest batch."""


class Validation(ABC):
    """Measures a model after an epoch, and compares epochs by a metric.

    Attributes:
        metric: "loss", or what of a row ``valid_METRIC`` tells the best epoch.
    """

    metric: str

    @abstractmethod
    def row(self, model: Any) -> dict[str, Any]:
        """The columns of ``log.csv`` that are measured here, ``valid_loss`` among them."""

    @abstractmethod
    def part(self, most: int) -> tuple[Validation, float]:
        """One that measures at most so many examples, and which share of all these are: to tell how long all take.

        A model that has learned nothing does not know where to end; here it writes no more than one that has.
        """

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


@dataclass(frozen=True)
class Ending:
    """What is said of the best weights when training is over."""

    results: dict[str, Any]
    """The final figures, for ``run.json``."""
    message: str
    """The last words."""
    notice: str = ""
    """What to say before; of characters that no font has."""


def closing(results: Sequence[str], next_steps: Sequence[str]) -> str:
    """The closing message of training: its results, and what to try next, which is left out within `quietly`."""
    return "\n".join(results if is_quiet() else [*results, "Try next:", *next_steps])


class Goal(ABC):
    """What a run trains for.

    Attributes:
        batches: for training.
        validation: of an epoch.
    """

    batches: EpochBatches
    validation: Validation

    def __init__(self, run: Run) -> None:
        self.run = run

    @abstractmethod
    def check(self, model: Any) -> None:
        """Raise `UserError` if the model lacks what the settings ask for."""

    @abstractmethod
    def symbols(self) -> str:
        """The sizes of the vocabularies, in words."""

    @abstractmethod
    def headline(self, row: Row) -> str:
        """How good the model is, in a few words."""

    def describe_epoch(self, row: Row) -> str:
        """A line of ``log.csv`` as a sentence, with the figure that counts in words."""
        return (
            f"epoch {row['epoch']}/{self.run.config.training.epochs}, {clock(row['seconds'])}: "
            f"training loss {row['train_loss']:.4f}, validation loss {row['valid_loss']:.4f}, "
            f"token accuracy {100 * row['valid_accuracy']:.2f} %, {self.headline(row)}, "
            f"{row['tokens_per_second']:,} tokens/s"
        )

    @abstractmethod
    def show(self, model: Any) -> str:
        """What the model can do after an epoch, in some lines."""

    @abstractmethod
    def finish(self, model: Any, history: Sequence[Row], seconds: float) -> Ending:
        """Measure the best model, draw the pictures, and say what to try next."""

    def best_epoch(self, history: Sequence[Row]) -> int:
        """The index of the best epoch."""
        return len(history) - 1 - self.validation.epochs_since_best(history)
