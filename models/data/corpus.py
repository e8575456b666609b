"""ParallelText and PlainText: pairs of sentences, or one long text, in three splits; every task gives one of them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, Self

from ..console.errors import UserError
from .lazy import Lazy

__all__ = ["SPLITS", "DataError", "Fingerprint", "LazyPairs", "LongText", "Pair", "ParallelText", "PlainText"]

Pair = tuple[str, str]
SPLITS = ("train", "valid", "test")


class DataError(UserError):
    """Data that cannot be used. The message says what is wrong, where, and how to fix it."""


@dataclass(frozen=True)
class Fingerprint:
    """What tells the pairs of a split from others, and from the same in another order; or its text from another."""

    pairs: int
    """How many pairs, or characters of a text, there are."""
    sha256: str

    def __post_init__(self) -> None:
        if type(self.pairs) is not int or type(self.sha256) is not str:
            raise ValueError("the fingerprint of its text is damaged")

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> Fingerprint:
        """The fingerprint of pairs."""
        return pairs.fingerprint if isinstance(pairs, LazyPairs) else cls.counted(pairs)

    @classmethod
    def counted(cls, pairs: Iterable[Pair]) -> Self:
        """The fingerprint of pairs, all of which are read."""
        digest, count = hashlib.sha256(), 0
        for source, target in pairs:
            digest.update(f"{source}\t{target}\n".encode(errors="surrogatepass"))
            count += 1
        return cls(count, digest.hexdigest())

    @classmethod
    def of_text(cls, text: str | LongText) -> Fingerprint:
        """The fingerprint of a text."""
        if isinstance(text, LongText):
            return text.fingerprint
        return cls(len(text), hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest())


class LazyPairs(Lazy[Pair]):
    """Pairs of strings that are not held as such."""

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Of the pairs."""
        return Fingerprint.counted(self)


class LongText(ABC):
    """A text that is not held as a string, but is had block by block."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of its characters."""

    @abstractmethod
    def __iter__(self) -> Iterator[str]:
        """Its blocks."""

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Of the text."""
        digest = hashlib.sha256()
        for block in self:
            digest.update(block.encode(errors="surrogatepass"))
        return Fingerprint(len(self), digest.hexdigest())


@dataclass(frozen=True)
class ParallelText:
    """Pairs (source, target) of strings, by split.

    ``skipped`` counts, by split, the pairs that were left out because a side was empty; ``lines`` has the numbers
    of the lines of the others, and ``directory`` is the folder of the files; both are empty for generated pairs.
    """

    name: str
    source_language: str
    target_language: str
    train: Sequence[Pair]
    valid: Sequence[Pair]
    test: Sequence[Pair]
    skipped: dict[str, int] = field(default_factory=dict)
    lines: dict[str, Sequence[int]] = field(default_factory=dict)
    directory: str = ""
    unit: ClassVar[str] = "pair"

    def where(self, split: str, side: Literal["source", "target"], number: int) -> str:
        """The name of a sentence in messages: its file and line, or its number (here from 0) in a generated split."""
        if not self.directory:
            return f"{side} {number + 1} of {split}"
        language = self.source_language if side == "source" else self.target_language
        return f"{Path(self.directory) / f'{split}.{language}'}, line {self.lines[split][number]},"

    def fingerprints(self) -> dict[str, Fingerprint]:
        """The fingerprint of each split."""
        return {split: Fingerprint.of(getattr(self, split)) for split in SPLITS}

    def summary(self) -> str:
        """One line of text: languages, and the number of pairs used and skipped in each split."""
        counts = []
        for split in SPLITS:
            skipped = self.skipped.get(split, 0)
            note = f" ({skipped:,} skipped: a side is empty)" if skipped else ""
            counts.append(f"{split} {len(getattr(self, split)):,}{note}")
        return f"{self.name}, {self.source_language} to {self.target_language}: {', '.join(counts)}"


@dataclass(frozen=True)
class PlainText:
    """One long text, cut into splits: what a language model is trained on, and what it has never seen.

    ``test`` is empty if none was set aside. ``file`` is where it was read from, empty for a generated text.
    """

    name: str
    train: str | LongText
    valid: str | LongText
    test: str | LongText = ""
    file: str = ""
    unit: ClassVar[str] = "character"

    def fingerprints(self) -> dict[str, Fingerprint]:
        """The fingerprint of each split."""
        return {split: Fingerprint.of_text(getattr(self, split)) for split in SPLITS}

    def summary(self) -> str:
        """One line of text: the number of characters in each split."""
        sizes = [f"{split} {len(getattr(self, split)):,}" for split in SPLITS if getattr(self, split)]
        return f"{self.name}: {', '.join(sizes)} characters"
