"""FixedOrderSum: the sum of the gradients of a batch's shards, in an order that no number of ranks changes.

Sums of floats depend on their order. Here shards are leaves of a binary tree: with four ``(0 + 1) + (2 + 3)``. A rank
that has both sides adds them; where two ranks have one each, the right sends its side to the left. Rank 0 has the whole
sum in the end, and sends it to all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tinygrad_attn import Tensor

from .ranks import Ranks
from .shares import owner
from .slots import Slots, grouped

__all__ = ["FixedOrderSum"]

_Gradients = list[Slots]  # of all parameters: one buffer for each dtype


class FixedOrderSum:
    """Sums the gradients of a model's parameters over the shards of a batch.

    Args:
        parameters: leaves.
        ranks: one or several.
        shards: how many; a rank may have several, or none.
    """

    def __init__(self, parameters: Sequence[Tensor], ranks: Ranks, shards: int) -> None:
        self._ranks = ranks
        self._shards = shards
        by_dtype = sorted(parameters, key=lambda parameter: parameter.array.dtype.char)
        self._groups = grouped(by_dtype, math.inf)
        self._free: list[_Gradients] = []

    def __call__(self, work: Callable[[int], None]) -> None:
        """Let the parameters have the sum as their gradients.

        Args:
            work: accumulates the gradients of the shard of a number. It is called for those of this rank.
        """
        total = self._sum(0, self._shards, work) or self._unused()
        self._ranks.timed(lambda: self._share(total))
        for slots in total:
            slots.give()
        self._free.append(total)

    def _sum(self, first: int, last: int, work: Callable[[int], None]) -> _Gradients | None:
        """The sum of the shards from ``first`` to before ``last``, on the rank of the first; None on others."""
        here = self._owner(first) == self._ranks.rank
        if last - first == 1:
            return self._of_shard(first, work) if here else None
        middle = first + 2 ** ((last - first - 1).bit_length() - 1)
        left, right = self._sum(first, middle, work), self._sum(middle, last, work)
        if self._owner(middle) != self._owner(first):
            right = self._ranks.timed(lambda: self._exchange(right, self._owner(first), self._owner(middle)))
        if left is not None and right is not None:
            for mine, other in zip(left, right, strict=True):
                np.add(mine.buffer, other.buffer, out=mine.buffer)
        if right is not None:
            self._free.append(right)
        return left

    def _owner(self, shard: int) -> int:
        return owner(shard, self._shards, self._ranks.size)

    def _of_shard(self, shard: int, work: Callable[[int], None]) -> _Gradients:
        work(shard)
        gradients = self._unused()
        for slots in gradients:
            slots.take_all()
        return gradients

    def _unused(self) -> _Gradients:
        return self._free.pop() if self._free else [Slots(group) for group in self._groups]

    def _exchange(self, gradients: _Gradients | None, to: int, origin: int) -> _Gradients | None:
        """Send gradients from one rank to another; what each of them has afterwards is to be added, or is no longer
        needed."""
        if self._ranks.rank == origin and gradients is not None:
            for slots in gradients:
                self._ranks.communicator.Send(slots.buffer, to)
        elif self._ranks.rank == to:
            gradients = self._unused()
            for slots in gradients:
                self._ranks.communicator.Recv(slots.buffer, origin)
        return gradients

    def _share(self, total: _Gradients) -> None:
        if self._ranks.size > 1:
            for slots in total:
                self._ranks.communicator.Bcast(slots.buffer)
