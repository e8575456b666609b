"""How long a training step takes on several machines: one share of the batch each, and the sum of all gradients.

Data-parallel training: each of N ranks, a machine of its own, computes the gradients of its share of the batch, and
the ranks sum them. The model, in which nothing is fitted to measurements of several machines:

-   A rank needs for its share what this machine was measured to need for as many rows.
-   Gradients are summed by a ring: 2 (N - 1) messages one after the other, each of a N-th of the gradients' bytes, in
    float32 and in both directions at once (Patarasuk and Yuan 2009). A message takes its bytes through the bandwidth
    that each machine has, and a latency.
-   Gradients are ready bucket by bucket, evenly over the backward pass, and each bucket's sum begins when it is ready
    and the sum before it has ended. So what overlaps with the backward pass costs nothing; the last bucket's sum, and
    what is left of the others, is waited for, since clipping and Adam need all of it.
-   The network is as fast for all ranks at once, and the machines are equally fast.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..parallel.overlapped import BUCKET

__all__ = ["LATENCY", "Estimate", "Network", "Share", "on_ranks"]

LATENCY = 50e-6
"""Seconds of a message without its bytes, as on Ethernet."""


@dataclass(frozen=True)
class Network:
    """What connects the machines."""

    gigabits: float
    """10⁹ bits a second that each machine sends and receives."""
    latency: float = LATENCY
    """Seconds of each message."""

    def allreduce(self, size: float, ranks: int) -> float:
        """Seconds in which a ring of ranks sums ``size`` bytes of each."""
        messages = 2 * (ranks - 1)
        return messages * (self.latency + 8 * size / ranks / (self.gigabits * 1e9))


@dataclass(frozen=True)
class Share:
    """What a rank does in a step."""

    seconds: float
    """Of its share of the batch: forward, backward, clipping and Adam."""
    backward: float
    """The part of it that is the backward pass."""
    gradients: int
    """Bytes of all gradients."""


@dataclass(frozen=True)
class Estimate:
    """A step of several ranks."""

    seconds: float
    communication: float
    """The part of it that waits for the sums of gradients."""


def on_ranks(share: Share, ranks: int, network: Network, bucket: int = BUCKET) -> Estimate:
    """The step of so many ranks, each with a share of this size."""
    if ranks == 1:
        return Estimate(share.seconds, 0.0)
    buckets = max(1, -(-share.gradients // bucket))
    each = network.allreduce(share.gradients / buckets, ranks)
    # The first sum begins at backward / buckets; the last one does not before the end of the backward pass.
    waiting = max(each, buckets * each - share.backward * (1.0 - 1.0 / buckets))
    return Estimate(share.seconds + waiting, waiting)
