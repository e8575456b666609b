"""How long training takes, over all its continuations.

Kept in ``clock.json``, beside the checkpoint and not in it: training twice from one seed makes two equal checkpoints,
though never in the same time.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

__all__ = ["CLOCK", "Clock"]

CLOCK = "clock.json"


class Clock:
    """Seconds since the start, without those between a stop and its continuation.

    Attributes:
        batches: seconds spent on the batches of the current epoch.
        epochs: for each finished epoch, what ``log.csv`` has of time.
    """

    def __init__(self) -> None:
        self.batches = 0.0
        self.epochs: list[dict[str, float]] = []
        self._began = time.perf_counter()

    @property
    def total(self) -> float:
        """Seconds spent on everything."""
        return time.perf_counter() - self._began

    def finish_epoch(self, tokens: int) -> None:
        """An epoch of so many target tokens is over."""
        pace = round(tokens / self.batches) if self.batches else 0
        self.epochs.append({"tokens_per_second": pace, "seconds": round(self.total, 1)})
        self.batches = 0.0

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {"total": self.total, "batches": self.batches, "epochs": self.epochs}

    def resume(self, path: Path, epochs: int) -> None:
        """Continue from what a run folder's ``clock.json`` tells of its first ``epochs`` epochs.

        It is written just before the checkpoint, so that it may know of one epoch more. If it is missing or damaged,
        the clock begins anew.
        """
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            self._began = time.perf_counter() - float(stored["total"])
            self.batches = float(stored["batches"])
            self.epochs = [dict(times) for times in stored["epochs"]][:epochs]
        except (OSError, ValueError, KeyError, TypeError):
            self.epochs = []
        unknown = {"tokens_per_second": 0, "seconds": 0.0}
        self.epochs += [dict(unknown) for _ in range(epochs - len(self.epochs))]
