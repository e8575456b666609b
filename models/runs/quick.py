"""The settings of ``train --quick``: a short run of any config."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..data import BaseTask, GeneratedTask, ParallelText, TextTask
from .config import Config, load_config

__all__ = ["QUICK", "QUICK_SYMBOLS", "load_quick_config"]

QUICK = {
    "data.train_size": 2_000,
    "data.valid_size": 100,
    "data.test_size": 200,
    "training.epochs": 3,
}
"""Enough to see everything work, not enough to learn much."""

QUICK_WINDOWS = 600
"""Of a text, in each of the epochs."""

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
    if isinstance(whole.data, TextTask):
        return _quick_text(path, overrides, imports)
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


def _quick_text(path: str | os.PathLike[str] | None, overrides: Sequence[str], imports: Sequence[str]) -> Config:
    quick = [f"data.epoch_windows={QUICK_WINDOWS}", f"training.epochs={QUICK['training.epochs']}"]
    config = load_config(path, [*quick, *overrides], imports)
    steps = config.training.epochs * QUICK_WINDOWS // config.training.batch_size
    warmup = min(config.training.warmup, max(1, steps // 10))
    return load_config(path, [*quick, f"training.warmup={warmup}", *overrides], imports)


def _pairs(data: BaseTask) -> int:
    """How many training pairs there are."""
    if isinstance(data, GeneratedTask):
        return data.train_size
    text = data.load()
    assert isinstance(text, ParallelText)
    return len(text.train)
