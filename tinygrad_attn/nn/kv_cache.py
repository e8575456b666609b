"""A cache of projected keys and values: what a decoder keeps of the source and of its own past between steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinygrad_attn.modes import is_grad_enabled, modes
from tinygrad_attn.ops.joining import cat, narrow
from tinygrad_attn.tensor import Tensor

__all__ = ["KVCache", "part"]

_FIRST_CAPACITY = 16


def part(x: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`narrow`, without its overhead where nobody records: a few microseconds, as much as a small kernel takes."""
    if is_grad_enabled() or modes.observers:
        return narrow(x, dim, start, length)
    return Tensor(x.array[(slice(None),) * dim + (slice(start, start + length),)])


class KVCache(NamedTuple):
    """Projected keys and values of every head, side by side as one product gives them.

    Every tensor has B on axis 0, for a search to reorder its sequences.
    """

    joined: Tensor
    """(B, S, 2E): at each position the keys of all heads, then the values; room for more from ``length`` on."""
    length: int
    """How many of the S positions have keys and values."""
    taken: Tensor | None = None
    """(B,), int64: how many positions of ``joined`` were ever written; None if it must not be written to."""

    def all(self) -> Tensor:
        """(B, length, 2E)."""
        if self.joined.shape[1] == self.length:
            return self.joined
        return part(self.joined, 1, 0, self.length)

    def extended(self, more: Tensor) -> KVCache:
        """The cache with ``more``, (B, L, 2E), appended.

        With gradients enabled the result is a new tensor. Otherwise ``more`` is written into the memory behind, whose
        size doubles when it is full, so that a step costs the same whatever the length. A cache that is extended twice
        is copied the second time, so that neither result changes the other.
        """
        if is_grad_enabled():
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
