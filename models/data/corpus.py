"""ParallelText: pairs of sentences in three splits, the result of every task and corpus."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..console.errors import UserError

__all__ = ["SPLITS", "DataError", "Pair", "ParallelText"]

Pair = tuple[str, str]
SPLITS = ("train", "valid", "test")


class DataError(UserError):
    """Data that cannot be used. The message says what is wrong, where, and how to fix it."""


@dataclass(frozen=True)
class ParallelText:
    """Pairs (source, target) of strings, by split.

    ``skipped`` counts, by split, the pairs that were left out because a side was empty.
    """

    name: str
    source_language: str
    target_language: str
    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]
    skipped: dict[str, int] = field(default_factory=dict)

    def summary(self) -> str:
        """One line of text: languages, and the number of pairs used and skipped in each split."""
        counts = []
        for split in SPLITS:
            skipped = self.skipped.get(split, 0)
            note = f" ({skipped:,} skipped: a side is empty)" if skipped else ""
            counts.append(f"{split} {len(getattr(self, split)):,}{note}")
        return f"{self.name}, {self.source_language} to {self.target_language}: {', '.join(counts)}"
