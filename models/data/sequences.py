"""SequenceTask: base of tasks on random sequences of symbols, such as copy and reverse.

There is no meaning to learn, so an error shows that a symbol was forgotten or put in the wrong position. Symbols are
drawn uniformly and independently: a model cannot guess one from its neighbours.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..console.working import worked_off
from ..setting import ConfigError, setting
from .corpus import SPLITS, Pair, ParallelText
from .packed_pairs import PackedPairs
from .task import GeneratedTask

__all__ = ["SequenceTask"]

# Of ten sequences, one is for validation and one for testing.
_SHARES = 10


@dataclass(frozen=True)
class SequenceTask(GeneratedTask):
    """Pairs of a sequence and its answer; lengths are drawn uniformly.

    The splits are disjoint: a hash of sequence and seed assigns every possible sequence to one of them. Within a split
    a short sequence may repeat, since there are few of them. For one seed, a split does not depend on the size of
    another, and a smaller one is a prefix of a larger one.

    Attributes:
        symbols: the symbols of the sequences.
        separator: the string between two symbols.
    """

    symbols: ClassVar[tuple[str, ...]]
    separator: ClassVar[str] = ""

    shortest: int = setting(6, "the fewest symbols of a sequence", minimum=1)
    longest: int = setting(15, "the most symbols of a sequence in training and validation", minimum=2)
    longest_test: int = setting(15, "the most symbols of a sequence in the test set", minimum=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shortest > min(self.longest, self.longest_test):
            raise ConfigError(
                f"data.shortest is {self.shortest}, more than data.longest {self.longest} "
                f"or data.longest_test {self.longest_test}"
            )

    def answer(self, symbols: Sequence[str]) -> Sequence[str]:
        """The target of a sequence."""
        raise NotImplementedError

    def load(self) -> ParallelText:
        """See `Task.load`."""
        self.refuse_too_many((self.shortest + max(self.longest, self.longest_test)) / 2)
        return ParallelText(
            name=self.kind,
            source_language="sequence",
            target_language=self.kind,
            train=self._draw("train", self.train_size, self.longest),
            valid=self._draw("valid", self.valid_size, self.longest),
            test=self._draw("test", self.test_size, self.longest_test),
        )

    def lengths(self) -> dict[str, int]:
        """See `Task.lengths`."""
        return {**super().lengths(), "data.longest": self.longest, "data.longest_test": self.longest_test}

    def _draw(self, split: str, size: int, longest: int) -> PackedPairs:
        """``size`` pairs of the sequences that belong to the split."""
        own = itertools.islice(self._drawn(split, longest), size)
        return PackedPairs.of(worked_off(own, f"generating {split} pairs", size))

    def _drawn(self, split: str, longest: int) -> Iterator[Pair]:
        """Pairs of the split, for ever."""
        generator = np.random.default_rng([self.seed, SPLITS.index(split)])
        while True:
            length = int(generator.integers(self.shortest, longest + 1))
            numbers = generator.integers(len(self.symbols), size=length).tolist()
            symbols = [self.symbols[number] for number in numbers]
            source, target = self.separator.join(symbols), self.separator.join(self.answer(symbols))
            if _split_of(source, self.seed) == split:
                yield source, target


def _split_of(source: str, seed: int) -> str:
    """The split of a sequence, the same in every task that draws it."""
    share = zlib.crc32(f"{seed}:{source}".encode()) % _SHARES
    return {0: "valid", 1: "test"}.get(share, "train")
