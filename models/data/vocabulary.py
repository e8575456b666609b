"""Vocabulary: the mapping between symbols and ids, with the four control symbols."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Self

__all__ = ["CONTROL_SYMBOLS", "END", "PAD", "START", "UNKNOWN", "Vocabulary"]

PAD, START, END, UNKNOWN = range(4)
CONTROL_SYMBOLS = ("<pad>", "<s>", "</s>", "<unk>")


class Vocabulary:
    """Symbols by id: the four control symbols first, then those of the text.

    The control symbols are never looked up by their spelling, so a ``<s>`` in a text is an ordinary symbol or unknown,
    and cannot start a sentence.

    Args:
        symbols: the symbols of the text, without the control symbols, in the order of their ids.

    Raises:
        ValueError: a symbol is given twice.
    """

    def __init__(self, symbols: Iterable[str]) -> None:
        self.symbols: tuple[str, ...] = (*CONTROL_SYMBOLS, *symbols)
        self._ids = {symbol: number for number, symbol in enumerate(self.symbols) if number >= len(CONTROL_SYMBOLS)}
        if len(self._ids) + len(CONTROL_SYMBOLS) != len(self.symbols):
            twice = [symbol for symbol, count in Counter(self.symbols[len(CONTROL_SYMBOLS) :]).items() if count > 1]
            raise ValueError(f"Vocabulary: these symbols come more than once: {twice[:10]}")

    @classmethod
    def count(cls, sequences: Iterable[Iterable[str]], min_frequency: int = 1, size: int = 0) -> Self:
        """The symbols that occur at least ``min_frequency`` times: the most frequent first, ties by code point.

        With the control symbols they are at most ``size``; 0 sets no limit.
        """
        frequency = Counter(symbol for sequence in sequences for symbol in sequence)
        kept = [symbol for symbol, count in frequency.items() if count >= min_frequency]
        kept.sort(key=lambda symbol: (-frequency[symbol], symbol))
        return cls(kept[: max(size - len(CONTROL_SYMBOLS), 0)] if size else kept)

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._ids

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} symbols)"

    def ids(self, symbols: Iterable[str]) -> list[int]:
        """The id of each symbol; ``UNKNOWN`` for one that is not in the vocabulary."""
        return [self._ids.get(symbol, UNKNOWN) for symbol in symbols]

    def to_dict(self) -> dict[str, Any]:
        """The text's symbols, ready for JSON."""
        return {"symbols": list(self.symbols[len(CONTROL_SYMBOLS) :])}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """The vocabulary that ``to_dict`` described."""
        return cls(stored["symbols"])
