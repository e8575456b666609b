"""OverlappedSum: the sum of the gradients of all ranks, on its way while the backward pass goes on.

Parameters are put into buckets, the last ones first, since backward comes to them first. When the gradients of a bucket
are complete its sum is started, and goes on beside the rest of the pass; in MPI that happens whenever it is called, so
each further gradient looks after the sums. All ranks start the sums in the same order. (Li et al., "PyTorch
Distributed: Experiences on Accelerating Data Parallel Training", 2020, section 3.2.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_attn import Tensor

from .ranks import Ranks
from .slots import Slots, grouped

__all__ = ["BUCKET", "OverlappedSum"]

BUCKET = 4 * 2**20
"""Bytes of gradients that are summed together, at most, unless one parameter has more."""


class _Bucket(Slots):
    """Gradients that are summed together."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__(parameters)
        self.reset()

    def reset(self) -> None:
        """Expect all gradients again."""
        self.expected = set(range(len(self.parameters)))
        self.request: Any = None


class OverlappedSum:
    """Sums the gradients of a model's parameters over all ranks.

    Args:
        parameters: leaves.
        ranks: several.
    """

    def __init__(self, parameters: Sequence[Tensor], ranks: Ranks) -> None:
        self._ranks = ranks
        self._buckets = [_Bucket(group) for group in grouped(list(reversed(parameters)), BUCKET)]
        self._places = {
            id(parameter): (bucket, position)
            for bucket in self._buckets
            for position, parameter in enumerate(bucket.parameters)
        }
        self._last_pass = False
        self._started = 0
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._complete)

    def expect(self) -> None:
        """The pass that follows is the last of this step: its gradients, with those before, are complete."""
        self._last_pass = True

    def _complete(self, parameter: Tensor) -> None:
        if self._last_pass:
            bucket, position = self._places[id(parameter)]
            bucket.take(position)
            bucket.expected.discard(position)
            self._ranks.timed(self._proceed)

    def _proceed(self) -> None:
        """Start the sums of buckets that are complete, and look after those under way."""
        while self._started < len(self._buckets) and not self._buckets[self._started].expected:
            self._start(self._buckets[self._started])
        if self._started:
            self._buckets[self._started - 1].request.Test()

    def _start(self, bucket: _Bucket) -> None:
        from mpi4py import MPI

        bucket.request = self._ranks.communicator.Iallreduce(MPI.IN_PLACE, bucket.buffer)
        self._started += 1

    def finish(self) -> None:
        """Wait for the sums, and let the parameters have them as their gradients."""
        self._ranks.timed(self._finish)

    def _finish(self) -> None:
        for bucket in self._buckets:
            for position in bucket.expected:
                bucket.take(position)
            if bucket.request is None:
                self._start(bucket)
        for bucket in self._buckets:
            bucket.request.Wait()
            bucket.give()
            bucket.reset()
        self._last_pass, self._started = False, 0
