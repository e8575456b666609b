"""Lazy: a sequence that is not held as Python objects, such as lines of a file and sentences in an array of ids."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, overload

__all__ = ["Lazy"]

T = TypeVar("T")


class Lazy(Sequence[T]):
    """A sequence that makes each item when it is asked for; equal to any sequence of the same items.

    Subclasses define ``__len__`` and `item`, and ``__iter__`` where one item after the other is cheaper.
    """

    @abstractmethod
    def item(self, index: int) -> T:
        """The item of an index from 0 on."""

    def items(self, indices: range) -> list[T]:
        """The items of some such indices."""
        return [self.item(i) for i in indices]

    def __iter__(self) -> Iterator[T]:
        return map(self.item, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return self.items(range(*index.indices(len(self))))
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"{type(self).__name__}: there is no item {number}; there are {len(self):,}")
        return self.item(number % len(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, (str, bytes)):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__: Any = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self):,}>"
