"""Tasks whose answer a program knows: sequences of symbols to copy, or to write backwards.

Nothing has to be understood, so what a model gets wrong it has forgotten or misplaced. Every symbol is drawn with the
same chance and independently of the others: a model cannot guess one from its neighbours.
"""

from __future__ import annotations

import string
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .parallel import SPLITS, DataError, Pair, ParallelText

__all__ = ["TASKS", "Task", "generate_task"]

# Of ten sequences, one is for validation and one for testing.
_SHARES = 10


@dataclass(frozen=True)
class Task:
    """What the sequences are made of, how they are written, and what is asked of the model."""

    name: str
    symbols: tuple[str, ...]
    separator: str
    answer: Callable[[Sequence[str]], Sequence[str]]

    def write(self, symbols: Sequence[str]) -> Pair:
        """The pair of a sequence and its answer."""
        return self.separator.join(symbols), self.separator.join(self.answer(symbols))


TASKS = {
    task.name: task
    for task in (
        Task("copy", tuple(string.ascii_lowercase), "", lambda symbols: symbols),
        Task("reverse", tuple(str(number) for number in range(50)), " ", lambda symbols: symbols[::-1]),
    )
}
"""``copy`` of strings of the letters a to z, and ``reverse`` of lists of the integers 0 to 49."""


def generate_task(
    name: str,
    seed: int = 0,
    *,
    train: int = 50_000,
    valid: int = 1_000,
    test: int = 1_000,
    shortest: int,
    longest: int,
    longest_test: int,
) -> ParallelText:
    """Pairs of a sequence and its answer; each length has the same chance.

    The splits are disjoint: chance, by seed, gives every possible sequence to one of them. Within a split a short
    sequence may come again, since there are few of them. For one seed, a split does not depend on the size of another,
    and a smaller one is a beginning of a larger one.

    Args:
        name: of one of `TASKS`.
        seed: of the sequences.
        train, valid, test: numbers of pairs.
        shortest: the least symbols of a sequence.
        longest: the most symbols of a sequence for training and validation.
        longest_test: the most symbols of a sequence for testing.

    Raises:
        DataError: no such task, a size below 1, or lengths that leave no sequence to draw.
    """
    if name not in TASKS:
        raise DataError(f"there is no task {name!r}; there are {', '.join(TASKS)}")
    if shortest < 1 or min(longest, longest_test) < max(2, shortest):
        raise DataError(
            f"{name}: sequences of {shortest} to {longest} symbols, to {longest_test} in test: the shortest must have "
            "at least 1, the longest at least 2 and no fewer than the shortest"
        )
    sizes = {"train": train, "valid": valid, "test": test}
    pairs = {}
    for split, size in sizes.items():
        if size < 1:
            raise DataError(f"{name}: the number of {split} pairs must be at least 1, got {size}")
        longest_of_split = longest_test if split == "test" else longest
        pairs[split] = _draw(TASKS[name], seed, split, size, shortest, longest_of_split)
    return ParallelText(
        name=name,
        source_language="sequence",
        target_language=name,
        train=pairs["train"],
        valid=pairs["valid"],
        test=pairs["test"],
    )


def _draw(task: Task, seed: int, split: str, size: int, shortest: int, longest: int) -> list[Pair]:
    """``size`` pairs of the sequences that belong to the split."""
    generator = np.random.default_rng([seed, SPLITS.index(split)])
    pairs: list[Pair] = []
    while len(pairs) < size:
        length = int(generator.integers(shortest, longest + 1))
        numbers = generator.integers(len(task.symbols), size=length).tolist()
        source, target = task.write([task.symbols[number] for number in numbers])
        if _split_of(source, seed) == split:
            pairs.append((source, target))
    return pairs


def _split_of(source: str, seed: int) -> str:
    """The split that a sequence belongs to, whoever draws it."""
    share = zlib.crc32(f"{seed}:{source}".encode()) % _SHARES
    return {0: "valid", 1: "test"}.get(share, "train")
