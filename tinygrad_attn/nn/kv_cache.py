"""KVCache: projected keys and values of the source or of earlier positions, for decoder steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinygrad_attn.modes import current_modes
from tinygrad_attn.ops.joining import cat, narrow
from tinygrad_attn.tensor import Tensor

__all__ = ["KVCache", "part"]

_FIRST_CAPACITY = 16


def part(x: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`narrow`, without its overhead of some microseconds (the time of a small kernel) if no graph is recorded."""
    state = current_modes()
    if state.grad or state.observers:
        return narrow(x, dim, start, length)
    return Tensor(x.array[(slice(None),) * dim + (slice(start, start + length),)])


class KVCache(NamedTuple):
    """The projected keys and values of every head, concatenated as one matrix product computes them.

    Every tensor has B on axis 0, so that beam search can reorder its sequences.
    """

    joined: Tensor
    """(B, S, 2E): at each position the keys of all heads, then the values; positions from ``length`` on are free."""
    length: int
    """The number of positions that have keys and values, at most S."""
    taken: Tensor | None = None
    """(B,), int64: how many positions of ``joined`` have been written; None if it must not be written to."""

    def all(self) -> Tensor:
        """(B, length, 2E)."""
        if self.joined.shape[1] == self.length:
            return self.joined
        return part(self.joined, 1, 0, self.length)

    def extended(self, more: Tensor) -> KVCache:
        """The cache with ``more``, (B, L, 2E), appended.

        With gradients enabled the result is a new tensor. Otherwise ``more`` is written to the free positions of the
        same memory, which is doubled when it is full, so that the cost of a step does not grow with the length. A cache
        that is extended twice is copied the second time, so that neither result changes the other.
        """
        if current_modes().grad:
            return KVCache(cat([self.all(), more], 1), self.length + more.shape[1])
        end = self.length + more.shape[1]
        joined, taken = self.joined, self.taken
        if taken is None or end > joined.shape[1] or (taken.array != self.length).any():
            batch, _, width = joined.shape
            capacity = max(2 * self.length, end, _FIRST_CAPACITY)
            joined, taken = Tensor(np.empty((batch, capacity, width), joined.dtype)), Tensor(np.empty(batch, np.int64))
            joined.array[:, : self.length] = self.joined.array[:, : self.length]
        joined.array[:, self.length : end] = more.array
        taken.array[...] = end
        return KVCache(joined, end, taken)
