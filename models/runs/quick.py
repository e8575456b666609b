"""The settings of ``train --quick``: a short run of any config."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..data import GeneratedTask, Task
from .config import Config, load_config

__all__ = ["QUICK", "QUICK_SYMBOLS", "load_quick_config"]

QUICK = {
    "data.train_size": 2_000,
    "data.valid_size": 100,
    "data.test_size": 200,
    "training.epochs": 3,
}
"""Enough to see everything work, not enough to learn much."""

QUICK_SYMBOLS = 200_000
"""About as many symbols as the small models read in a minute."""


def load_quick_config(
    path: str | os.PathLike[str] | None, overrides: Sequence[str], imports: Sequence[str] = ()
) -> Config:
    """As `load_config`, with `QUICK` applied after the file's settings and before ``overrides``.

    Warmup is shortened in proportion to the number of steps, so that steps remain after it. That of noam stays: a
    shorter one would mean a larger learning rate.
    """
    whole = load_config(path, overrides, imports)
    sized = "train_size" in type(whole.data).types()  # a task of the user's own need not be
    quick = [f"{name}={value}" for name, value in QUICK.items() if sized or not name.startswith("data.")]
    config = load_config(path, [*quick, *overrides], imports)
    share = config.training.epochs / whole.training.epochs
    if sized and whole.training.warmup:
        pairs = _pairs(whole.data)
        share *= min(_pairs(config.data), pairs) / pairs
    warmup = whole.training.warmup
    if not warmup or share >= 1.0 or whole.training.schedule == "noam":
        return config
    return load_config(path, [*quick, f"training.warmup={max(1, int(warmup * share))}", *overrides], imports)


def _pairs(data: Task) -> int:
    """How many training pairs there are."""
    return data.train_size if isinstance(data, GeneratedTask) else len(data.load().train)
