"""Windows: pieces of a long text, drawn by chance for training, one after the other for measuring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..console.counts import counted
from .batches import Batch, IntArray
from .corpus import DataError

__all__ = ["WINDOW", "Windows"]

WINDOW = 64
"""The length of windows for a model that reads any length."""


class Windows:
    """Batches of windows of ``length`` symbols, each of which is read while the next is to be said.

    The windows of an epoch begin anywhere, and are a function of ``seed`` and the epoch's number alone, so training
    that stopped before batch k continues with ``epoch(number, start=k)``.

    Args:
        ids: the text's symbols.
        length: T, of a window.
        batch_size: B, the windows of a batch.
        count: the windows of an epoch; 0 for as many as cover the text.
        seed: of the draw.
        name: of the text, in messages.

    Raises:
        DataError: the text has no window of this length.
    """

    dropped = 0

    def __init__(
        self, ids: Sequence[int] | IntArray, *, length: int, batch_size: int, count: int = 0, seed: int = 0,
        name: str = "the text",
    ) -> None:  # fmt: skip
        self.ids = np.asarray(ids)
        if len(self.ids) <= length:
            found = counted(len(self.ids), "symbol")
            fix = f", or set model.context to at most {len(self.ids) - 1}" if len(self.ids) > 1 else ""
            raise DataError(
                f"{name} has {found}, and a window is {length:,} and the one that follows; give more text{fix}"
            )
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self._batches = -(-(count or len(self.ids) // length) // batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from the batch ``start`` on."""
        generator = np.random.default_rng([self.seed, number])
        places = generator.integers(len(self.ids) - self.length, size=(self._batches, self.batch_size))
        return (self._at(row) for row in places[start:])

    def count(self, number: int) -> int:
        """How many batches epoch ``number`` has."""
        return self._batches

    def count_all(self, epochs: int, group: int = 1) -> int:
        """How many groups of so many batches the first ``epochs`` epochs have; an epoch's last may be smaller."""
        return epochs * -(-self._batches // group)

    def largest(self) -> tuple[int, int]:
        """The numbers of symbols that a batch has beside its text, and in it."""
        return 0, self.batch_size * self.length

    def in_order(self) -> Iterator[Batch]:
        """The whole text: windows one after the other, the last batch smaller; then the rest, shorter, by itself."""
        whole = (len(self.ids) - 1) // self.length
        starts = np.arange(whole) * self.length
        for first in range(0, whole, self.batch_size):
            yield self._at(starts[first : first + self.batch_size])
        rest = self.ids[whole * self.length :]
        if len(rest) > 1:
            yield _batch(rest[None], np.array([whole]))

    def _at(self, places: np.ndarray[Any, np.dtype[Any]]) -> Batch:
        return _batch(self.ids[places[:, None] + np.arange(self.length + 1)], places)


def _batch(symbols: IntArray, places: np.ndarray[Any, np.dtype[Any]]) -> Batch:
    """The batch that reads all but the last of each row's symbols, and is to say all but the first."""
    symbols = symbols.astype(np.int64)
    read = symbols[:, :-1]
    return Batch(
        target_in=np.ascontiguousarray(read),
        target_out=np.ascontiguousarray(symbols[:, 1:]),
        target_mask=np.ones(read.shape, dtype=bool),
        indices=places,
        target_tokens=read.size,
    )
