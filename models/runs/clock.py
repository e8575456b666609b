"""How long training takes, over all its continuations.

Kept in ``clock.json`` and not in the checkpoint: two trainings from one seed give equal checkpoints, but never take
exactly the same time.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

from .jsons import read_json

__all__ = ["CLOCK", "Clock"]

CLOCK = "clock.json"


class Clock:
    """Seconds of training, without the time between a stop and its continuation.

    Attributes:
        batches: seconds spent on the batches of the current epoch.
        epochs: for each finished epoch, the columns of ``log.csv`` about time.
    """

    def __init__(self) -> None:
        self.batches = 0.0
        self.epochs: list[dict[str, float]] = []
        self._began = time.perf_counter()

    @property
    def total(self) -> float:
        """All seconds of training."""
        return time.perf_counter() - self._began

    def finish_epoch(self, tokens: int) -> None:
        """End an epoch that had this many target tokens."""
        pace = round(tokens / self.batches) if self.batches else 0
        self.epochs.append({"tokens_per_second": pace, "seconds": round(self.total, 1)})
        self.batches = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The clock's state, ready for JSON."""
        return {"total": self.total, "batches": self.batches, "epochs": self.epochs}

    def resume(self, path: Path, epochs: int) -> None:
        """Continue from the first ``epochs`` epochs of a run folder's ``clock.json``.

        The file is written just before the checkpoint, so it may have one epoch more. If it is missing or damaged, the
        clock starts from 0; a warning says that it is damaged.
        """
        try:
            stored = read_json(path)
            self._began = time.perf_counter() - float(stored["total"])
            self.batches = float(stored["batches"])
            self.epochs = [dict(times) for times in stored["epochs"]][:epochs]
        except FileNotFoundError:
            self.epochs = []
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            warnings.warn(f"{path} is damaged, so the time of training is counted from 0", stacklevel=2)
            self.epochs = []
        unknown = {"tokens_per_second": 0, "seconds": 0.0}
        self.epochs += [dict(unknown) for _ in range(epochs - len(self.epochs))]
