"""Lines: the code of a program while it is written, and how long each array in it lives.

An array that is not read after a line is forgotten there, or gives its memory to that line's result
(`tinygrad_attn.overwriting`).
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Lines", "owner_of"]

Array = np.ndarray[Any, Any]

_NAMES = re.compile(r"\b[vsgk]\d+\b")  # of what a program makes


def owner_of(array: Array) -> Array:
    """What owns an array's memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


class Overwriting(NamedTuple):
    """Another expression for a line, if what it writes over is not read after it."""

    expression: str
    name: str


class _Line(NamedTuple):
    writes: list[str]
    targets: str  # the left side
    expression: str
    reads: list[str]  # expressions
    over: Overwriting | None


class Lines:
    """The lines of a program, in order."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._owners: dict[str, int] = {}  # by name the number of what owns the memory of its array
        self._numbers: dict[int, tuple[weakref.ref[Array], int]] = {}  # by the ids of owners, which others have later
        self._count = 0
        self._lent: set[int] = set()

    def add(
        self,
        writes: list[str],
        expression: str,
        reads: Sequence[str],
        several: bool = False,
        over: tuple[str, str] | None = None,
    ) -> None:
        """A line that gives names to the value of an expression, or, if it is ``several``, to its parts.

        ``over`` is another expression with the same value, which writes over what has this name.
        """
        targets = f"{', '.join(writes)}{',' * (several and len(writes) == 1)} = " if writes else ""
        given = None if over is None else Overwriting(*over)
        self._lines.append(_Line(writes, targets, expression, list(reads), given))

    def name(self, name: str, array: Any) -> None:
        """Note what a name stands for; anything but an array has no memory of its own."""
        if isinstance(array, np.ndarray):
            self._owners[name] = self._number(array)

    def lend(self, array: Array) -> None:
        """Note memory that is not the program's own: an argument's, a parameter's."""
        self._lent.add(self._number(array))

    def _number(self, array: Array) -> int:
        owner = owner_of(array)
        known = self._numbers.get(id(owner))
        if known is None or known[0]() is not owner:
            self._count += 1
            known = self._numbers[id(owner)] = weakref.ref(owner), self._count
        return known[1]

    def code(self, results: Iterable[str], calls: Sequence[tuple[str, str]]) -> list[str]:
        """All lines as code.

        Args:
            results: the names that are read after the last line.
            calls: names, each with a call that takes its array away, after the last line about it.
        """
        last: dict[str, int] = {}
        for number, line in enumerate(self._lines):
            last.update(dict.fromkeys([*line.writes, *_read(line)], number))
        after: dict[int, list[str]] = {}
        for name, call in calls:
            after.setdefault(last.get(name, len(self._lines) - 1), []).append(call)
        for name in results:
            last[name] = len(self._lines)
        ends = self._ends(last, [*results, *[name for name, _ in calls]])
        ending: dict[int, list[str]] = {}
        for name, number in last.items():
            ending.setdefault(number, []).append(name)
        code = []
        for number, line in enumerate(self._lines):
            over = line.over is not None and self._may_write_over(line, number, ends)
            code.append(line.targets + (line.over.expression if over and line.over else line.expression))
            code += after.get(number, ())
            if number in ending:
                code.append(f"del {', '.join(ending[number])}")
        return code

    def _ends(self, last: dict[str, int], kept: Iterable[str]) -> dict[int, int]:
        """By its owner the number of the last line about memory; one more than there are, of what lasts."""
        never = len(self._lines)
        ends = dict.fromkeys(self._lent, never)
        for name in kept:
            if name in self._owners:
                ends[self._owners[name]] = never
        for name, number in last.items():
            if name in self._owners:
                ends[self._owners[name]] = max(ends.get(self._owners[name], 0), number)
        return ends

    def _may_write_over(self, line: _Line, number: int, ends: dict[int, int]) -> bool:
        """Whether nothing but one argument of a line has the memory, and nothing later reads it."""
        assert line.over is not None
        owner = self._owners.get(line.over.name)
        read = _read(line)
        return (
            owner is not None
            and all(name in self._owners for name in read if name[0] != "k")
            and [self._owners.get(name) for name in read].count(owner) == 1
            and ends[owner] == number
        )


def _read(line: _Line) -> list[str]:
    return _NAMES.findall(" ".join(line.reads))
