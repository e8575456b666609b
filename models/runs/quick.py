"""The settings of ``train --quick``: a short run of any config."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..data import BaseTask, GeneratedTask, ParallelText, TextTask
from ..data.windows import WINDOW
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
    quick = _quick(whole.data)
    settings = [f"{name}={value}" for name, value in quick.items()]
    config = load_config(path, [*settings, *overrides], imports)
    warmup = whole.training.warmup
    if not warmup or whole.training.schedule == "noam":
        return config
    share = config.training.epochs / whole.training.epochs
    if any(name.startswith("data.") for name in quick):
        examples = _examples(whole)
        share *= min(_examples(config), examples) / examples
    if share >= 1.0:
        return config
    return load_config(path, [*settings, f"training.warmup={max(1, int(warmup * share))}", *overrides], imports)


def _quick(data: BaseTask) -> dict[str, int]:
    """What of `QUICK` a task has; of a text fewer windows in place of fewer pairs."""
    training = {name: value for name, value in QUICK.items() if name.startswith("training.")}
    if isinstance(data, TextTask):
        return {"data.epoch_windows": QUICK_WINDOWS, **training}
    return QUICK if "train_size" in type(data).types() else training  # a task of the user's own need not have sizes


def _examples(config: Config) -> int:
    """How many pairs or windows an epoch has; of windows that cover a text about so many, as if of characters."""
    data = config.data
    if isinstance(data, GeneratedTask):
        return data.train_size
    if isinstance(data, TextTask) and data.epoch_windows:
        return data.epoch_windows
    text = data.load()
    if isinstance(text, ParallelText):
        return len(text.train)
    return -(-len(text.train) // (config.model.longest_target() or WINDOW))
