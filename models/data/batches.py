"""Batches: examples of similar length, padded to a rectangle, in an order that a seed and an epoch determine."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .corpus import DataError
from .ids import Example, Examples
from .vocabulary import END, PAD, START

__all__ = ["Batch", "Batches", "Example", "PairBatch", "collate", "pad"]

IntArray = np.ndarray[Any, np.dtype[np.int64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

# The number of examples that are sorted by length together. Larger: less padding; smaller: more varied batches.
_POOL = 8192
# The number of epochs whose batches are counted one by one.
_COUNTED = 1000


@dataclass(frozen=True)
class Batch:
    """B texts of at most T ids, teacher forced.

    A model that has read ``target_in[:, :t + 1]`` is to predict ``target_out[:, t]``.
    """

    target_in: IntArray
    """(B, T): what is read; of a sentence ``<s>``, then its ids."""
    target_out: IntArray
    """(B, T): what is to be said; of a sentence its ids, then ``</s>``."""
    target_mask: BoolArray
    """(B, T), True where ``target_in`` and ``target_out`` hold a token."""
    indices: IntArray
    """(B,): which examples these are."""
    target_tokens: int
    """The number of ids to predict, ``</s>`` included."""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def given(self) -> tuple[IntArray | BoolArray, ...]:
        """What the texts depend on: the arguments of a model before the text (see `models.interface`)."""
        return ()


@dataclass(frozen=True)
class PairBatch(Batch):
    """B pairs, the longest with S source ids and T - 1 target ids."""

    source: IntArray
    """(B, S), padded with ``PAD``."""
    source_mask: BoolArray
    """(B, S), True where ``source`` holds a token."""

    @property
    def given(self) -> tuple[IntArray | BoolArray, ...]:
        """The sources."""
        return self.source, self.source_mask


def collate(examples: Sequence[Example], indices: Sequence[int] | IntArray) -> PairBatch:
    """The batch of ``examples[i]`` for each i of ``indices``, in that order."""
    chosen = rows = np.asarray(indices, dtype=np.int64)
    if not isinstance(examples, Examples):
        examples, chosen = Examples.of([examples[i] for i in rows]), np.arange(len(rows))
    source, source_mask = examples.sources.padded(chosen)
    target, filled = examples.targets.padded(chosen)
    edge = np.full((len(rows), 1), PAD, dtype=np.int64)
    target_in, target_out = np.hstack([edge, target]), np.hstack([target, edge])
    target_in[:, 0] = START
    target_out[np.arange(len(rows)), filled.sum(axis=1)] = END
    target_mask = np.hstack([np.ones_like(edge, dtype=bool), filled])
    return PairBatch(
        source=source,
        source_mask=source_mask,
        target_in=target_in,
        target_out=target_out,
        target_mask=target_mask,
        indices=rows,
        target_tokens=int(target_mask.sum()),
    )


class Batches:
    """The batches of a list of examples: shuffled for every epoch, or in one sorted pass for evaluation.

    Each epoch holds every kept example exactly once. Its order is a function of ``seed`` and the epoch's number alone,
    so training that stopped before batch k continues with ``epoch(number, start=k)``.

    Args:
        examples: pairs (source ids, target ids), without control symbols.
        batch_size: how large a batch may be, in units of ``batch_type``.
        batch_type: ``"sentences"``, the number of examples; or ``"tokens"``: neither the padded (B, S) source nor the
            padded (B, T) target has more elements than ``batch_size``.
        max_length: leave out examples with more ids than this on either side; ``dropped`` counts them. None keeps all.
        seed: for the shuffling.

    Raises:
        DataError: no example is left, or one does not fit into ``batch_size`` tokens.
        ValueError: ``batch_type`` or ``batch_size`` is not one.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        batch_size: int,
        batch_type: str = "sentences",
        max_length: int | None = None,
        seed: int = 0,
    ) -> None:
        if batch_type not in ("sentences", "tokens"):
            raise ValueError(f"Batches: batch_type must be 'sentences' or 'tokens', got {batch_type!r}")
        if batch_size < 1:
            raise ValueError(f"Batches: batch_size must be at least 1, got {batch_size}")
        self.examples = Examples.of(examples)
        self.batch_size = batch_size
        self.batch_type = batch_type
        self.seed = seed
        lengths = self.examples.lengths
        fits = np.ones(len(lengths), dtype=bool) if max_length is None else lengths.max(axis=1) <= max_length
        self.dropped = int(np.count_nonzero(~fits))
        self._kept = np.flatnonzero(fits)
        # What each example costs in width: a padded source row, and a target row with its control symbol.
        self._widths = lengths + np.array([0, 1], dtype=lengths.dtype)
        self._check_kept(max_length)

    def _check_kept(self, max_length: int | None) -> None:
        if not len(self._kept):
            shortest = int(self.examples.lengths.max(axis=1).min()) if self.dropped else 0
            reason = (
                f"all {self.dropped} are longer than max_length={max_length}; raise it (data.max_length) to at "
                f"least {shortest}"
                if self.dropped
                else "none was given"
            )
            raise DataError(f"Batches: no examples: {reason}")
        widest = int(self._widths[self._kept].max())
        if self.batch_type == "tokens" and widest > self.batch_size:
            raise DataError(
                f"Batches: an example of {widest} tokens does not fit into batch_size={self.batch_size} tokens; "
                f"raise batch_size (training.batch_size) to at least {widest}"
                + (f", or set max_length to at most {self.batch_size - 1}" if self.batch_size > 1 else "")
            )

    def epoch(self, number: int, start: int = 0) -> Iterator[PairBatch]:
        """The batches of epoch ``number`` from the batch ``start`` on."""
        return self._collated(self._shuffled(number)[start:])

    def count(self, number: int) -> int:
        """How many batches epoch ``number`` has."""
        return len(self._shuffled(number))

    def count_all(self, epochs: int, group: int = 1) -> int:
        """How many groups of so many batches the first ``epochs`` epochs have; of thousands of epochs, about how many.

        An epoch's last group may be smaller.
        """
        # Shuffled or not, the lengths of a single pool are cut in the same places; so are numbers of sentences.
        if self.batch_type == "sentences" or len(self._kept) <= _POOL:
            return epochs * -(-self.count(0) // group)
        counted = sum(-(-self.count(epoch) // group) for epoch in range(min(epochs, _COUNTED)))
        return counted if epochs <= _COUNTED else counted * epochs // _COUNTED

    def largest(self) -> tuple[int, int]:
        """The numbers of symbols, with padding, of the sources and of the targets of a largest batch."""
        groups = self._cut(self._sorted(self._kept))
        sizes = (self._widths[group].max(axis=0).astype(np.int64) * len(group) for group in groups)
        sources, targets = max(sizes, key=sum)
        return int(sources), int(targets)

    def in_order(self) -> Iterator[PairBatch]:
        """The batches of one pass, the shortest examples first."""
        return self._collated(self._cut(self._sorted(self._kept)))

    def _collated(self, groups: list[IntArray]) -> Iterator[PairBatch]:
        return (collate(self.examples, group) for group in groups)

    def _shuffled(self, number: int) -> list[IntArray]:
        """The epoch's batches as indices: shuffle, sort within pools, cut, and shuffle the batches."""
        generator = np.random.default_rng([self.seed, number])
        order = generator.permutation(self._kept)
        pools = [order[first : first + _POOL] for first in range(0, len(order), _POOL)]
        groups = [group for pool in pools for group in self._cut(self._sorted(pool))]
        return [groups[i] for i in generator.permutation(len(groups))]

    def _sorted(self, indices: IntArray) -> IntArray:
        """Sorted (stably) by the length of the longer side, then by that of source and target."""
        source, target = self._widths[indices].T
        return indices[np.lexsort((target, source, np.maximum(source, target)))]

    def _cut(self, indices: IntArray) -> list[IntArray]:
        """Cut sorted indices into consecutive groups, each as large as ``batch_size`` allows."""
        if self.batch_type == "sentences":
            return [indices[first : first + self.batch_size] for first in range(0, len(indices), self.batch_size)]
        widths = self._widths[indices].max(axis=1).tolist()
        groups, first = [], 0
        while first < len(indices):
            # Widths ascend, so the size of a group that begins at `first` does, too, with its end.
            sizes = lambda last, first=first: widths[last] * (last + 1 - first)  # noqa: E731
            end = bisect.bisect_right(range(len(indices)), self.batch_size, lo=first, key=sizes)
            groups.append(indices[first:end])
            first = end
        return groups


def pad(rows: Sequence[Sequence[int]]) -> tuple[IntArray, BoolArray]:
    """Rows padded with ``PAD`` to the longest, (B, L) int64, and where they hold ids, (B, L) bool."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    padded = np.full(mask.shape, PAD, dtype=np.int64)
    padded[mask] = [number for row in rows for number in row]
    return padded, mask
