"""PackedPairs: pairs of strings in memory as the bytes of one text, which take little more than their characters."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Self

import numpy as np

from .corpus import LazyPairs, Pair

__all__ = ["PackedPairs"]


class PackedPairs(LazyPairs):
    """Pairs of strings, as UTF-8 one after the other.

    Args:
        content: of all pairs.
        lengths: the bytes of the first source, those of its target, and so on.
    """

    def __init__(self, content: bytes, lengths: array[int]) -> None:
        self.content = content
        self._ends = np.cumsum(np.frombuffer(lengths, np.int32), dtype=np.int64)

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> Self:
        """The same pairs, packed."""
        content, lengths = bytearray(), array("i")
        for pair in pairs:
            for text in pair:
                encoded = text.encode(errors="surrogatepass")
                content += encoded
                lengths.append(len(encoded))
        return cls(bytes(content), lengths)

    def __len__(self) -> int:
        return len(self._ends) // 2

    def item(self, index: int) -> Pair:
        """See `Lazy.item`."""
        start = self._ends[2 * index - 1] if index else 0
        middle, end = self._ends[2 * index : 2 * index + 2]
        source, target = self.content[start:middle], self.content[middle:end]
        return source.decode(errors="surrogatepass"), target.decode(errors="surrogatepass")
