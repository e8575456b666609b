"""Shards of a batch: its rows dealt out, to be worked on by different ranks.

Row r goes to shard r mod K, so that shards of a batch that is sorted by length are alike. A shard keeps the width of
its batch. What is drawn by chance in it (dropout, and tokens in scheduled sampling) is a function of the seed, the step
and the shard, not of the rank that works on it.
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import numpy as np

from tinygrad_attn import random

from ..data import Batch

__all__ = ["owner", "seed_for", "shard_of"]

B = TypeVar("B", bound=Batch)


def shard_of(batch: B, number: int, shards: int) -> B:
    """One of the shards of a batch: every ``shards``-th row from row ``number`` on, maybe none."""
    if shards == 1:
        return batch
    rows = slice(number, None, shards)
    arrays = {
        field.name: np.ascontiguousarray(getattr(batch, field.name)[rows])
        for field in dataclasses.fields(batch)
        if field.name != "target_tokens"
    }
    return dataclasses.replace(batch, **arrays, target_tokens=int(arrays["target_mask"].sum()))


def owner(shard: int, shards: int, ranks: int) -> int:
    """The rank that works on a shard: neighbours go to the same or to neighbouring ranks."""
    return shard * ranks // shards


def seed_for(seed: int, step: int, shard: int) -> None:
    """Restart the package's generator for a shard of a step."""
    (drawn,) = np.random.SeedSequence([seed, step, shard]).generate_state(1, np.uint64)
    random.manual_seed(int(drawn))
