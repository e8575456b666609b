"""What attention attends to, projected once: how a decoder keeps the source and its own past from step to step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinygrad_attn.modes import is_grad_enabled, modes
from tinygrad_attn.ops.joining import cat, narrow
from tinygrad_attn.tensor import Tensor

__all__ = ["KVCache", "part"]

_FEWEST_PLACES = 16  # for which memory is taken at first


def part(x: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`narrow`, but for a few microseconds while no graph is recorded: as much as a small kernel takes."""
    if is_grad_enabled() or modes.observers:
        return narrow(x, dim, start, length)
    return Tensor(x.array[(slice(None),) * dim + (slice(start, start + length),)])


class KVCache(NamedTuple):
    """Projected keys and values of every head, side by side as one product gives them.

    Every tensor has B on axis 0, for a search to reorder its sequences.
    """

    joined: Tensor
    """(B, S, 2E): at each place the keys of all heads, and then the values; behind ``length`` is room for more."""
    length: int
    """How many of the S places have keys and values."""
    taken: Tensor | None = None
    """(B,), int64: how many places of ``joined`` were ever written. None: it is not to be written to."""

    def all(self) -> Tensor:
        """(B, length, 2E)."""
        if self.joined.shape[1] == self.length:
            return self.joined
        return part(self.joined, 1, 0, self.length)

    def extended(self, more: Tensor) -> KVCache:
        """These and then ``more``, (B, L, 2E).

        While the graph is recorded, the result is a new tensor. Otherwise ``more`` is written into the room behind,
        which doubles when it is full: a step costs the same however many there were before. Extended a second time,
        the same keys and values are copied first, so that neither result changes the other.
        """
        if is_grad_enabled():
            return KVCache(cat([self.all(), more], 1), self.length + more.shape[1])
        end = self.length + more.shape[1]
        joined, taken = self.joined, self.taken
        if taken is None or end > joined.shape[1] or (taken.array != self.length).any():
            batch, _, width = joined.shape
            places = max(2 * self.length, end, _FEWEST_PLACES)
            joined, taken = Tensor(np.empty((batch, places, width), joined.dtype)), Tensor(np.empty(batch, np.int64))
            joined.array[:, : self.length] = self.joined.array[:, : self.length]
        joined.array[:, self.length : end] = more.array
        taken.array[...] = end
        return KVCache(joined, end, taken)
