"""Sentences and pairs as ids, in one flat array however many there are: no Python object for each of them."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from .lazy import Lazy
from .lines import batched
from .vocabulary import PAD

__all__ = ["Example", "Examples", "IdWriter", "Sentences", "id_type"]

Example = tuple[Sequence[int], Sequence[int]]
IntArray = np.ndarray[Any, np.dtype[Any]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

CHUNK = 4096
"""The number of pairs that are Python lists at a time."""
_BLOCK = 1 << 16  # sentences that are counted together


class Sentences(Lazy[list[int]]):
    """Sentences as ids. Each is a list when it is asked for.

    Args:
        ids: of all sentences, in memory or in a file that is mapped into it.
        starts: (N,), where in ``ids`` each sentence begins.
        lengths: (N,), the number of its ids.
    """

    def __init__(self, ids: IntArray, starts: IntArray, lengths: IntArray) -> None:
        self.ids = ids
        self.starts = starts
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.starts)

    def item(self, index: int) -> list[int]:
        """See `Lazy.item`."""
        start = self.starts[index]
        found: list[int] = self.ids[start : start + self.lengths[index]].tolist()
        return found

    def occurrences(self, symbol: int) -> int:
        """How often an id occurs in all sentences."""
        found = 0
        for first in range(0, len(self), _BLOCK):
            starts = self.starts[first : first + _BLOCK]
            ends = starts + self.lengths[first : first + _BLOCK]
            # Between these sentences there may be others.
            places = starts[0] + np.flatnonzero(self.ids[starts[0] : ends[-1]] == symbol)
            found += int(np.count_nonzero(places < ends[np.searchsorted(starts, places, side="right") - 1]))
        return found

    def padded(self, rows: IntArray) -> tuple[IntArray, BoolArray]:
        """The sentences of these numbers, padded with ``PAD`` to the longest, (B, L) int64, and where they hold ids,
        (B, L) bool."""
        lengths = self.lengths[rows]
        columns = np.arange(lengths.max(initial=0))
        mask = columns < lengths[:, None]
        padded = np.full(mask.shape, PAD, dtype=np.int64)
        padded[mask] = self.ids[(self.starts[rows][:, None] + columns)[mask]]
        return padded, mask


class Examples(Lazy[Example]):
    """Pairs of a source and a target as ids, without control symbols. Each is two lists when it is asked for.

    Args:
        ids: of all pairs: the source's of the first, its target's, the source's of the second, and so on.
        lengths: (N, 2), the numbers of ids of each pair's source and target.
    """

    def __init__(self, ids: IntArray, lengths: IntArray) -> None:
        self.ids = ids
        self.lengths = lengths
        ends = np.cumsum(lengths.reshape(-1), dtype=np.int64).reshape(-1, 2)
        starts = ends - lengths
        self.sources = Sentences(ids, starts[:, 0], lengths[:, 0])
        self.targets = Sentences(ids, starts[:, 1], lengths[:, 1])

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Examples:
        """The same examples; those that are lists become arrays."""
        if isinstance(examples, Examples):
            return examples
        writer = IdWriter(io.BytesIO(), np.dtype(np.int64))
        for chunk in batched(examples, CHUNK):
            writer.add(list(itertools.chain.from_iterable(chunk)))
        return cls(writer.ids(), writer.lengths().reshape(-1, 2))

    def __len__(self) -> int:
        return len(self.lengths)

    def item(self, index: int) -> Example:
        """See `Lazy.item`."""
        return self.sources.item(index), self.targets.item(index)


class IdWriter:
    """Writes sentences of ids one after the other.

    Args:
        file: where the ids go.
        dtype: of an id there.
    """

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any]) -> None:
        self.file = file
        self.dtype = dtype
        self.size = 0
        """The number of ids written."""
        self._lengths: list[IntArray] = []

    def add(self, sentences: Sequence[Sequence[int]]) -> None:
        """Write some sentences more."""
        lengths = np.fromiter(map(len, sentences), np.int32, len(sentences))
        size = int(lengths.sum(dtype=np.int64))
        ids = np.fromiter(itertools.chain.from_iterable(sentences), np.int64, size)
        self.file.write(ids.astype(self.dtype).tobytes())
        self.size += size
        self._lengths.append(lengths)

    def lengths(self) -> IntArray:
        """The number of ids of each sentence."""
        return np.concatenate([np.zeros(0, np.int32), *self._lengths])

    def ids(self) -> IntArray:
        """All ids, of a writer to memory."""
        assert isinstance(self.file, io.BytesIO)
        return np.frombuffer(self.file.getbuffer(), self.dtype)


def id_type(symbols: int) -> np.dtype[Any]:
    """The smallest dtype for the ids of so many symbols."""
    return np.dtype(np.uint16 if symbols <= 1 << 16 else np.uint32)
