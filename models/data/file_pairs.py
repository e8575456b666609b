"""FilePairs: the pairs of two files of lines, read from disk whenever they are asked for, and never held."""

from __future__ import annotations

import copy
import hashlib
import itertools
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..console.counts import counted
from ..console.working import working
from .corpus import DataError, Fingerprint, LazyPairs, Pair
from .lazy import Lazy
from .lines import count_lines, decoded, decoded_line, opened, refuse_changed, stamp_of

__all__ = ["FilePairs"]

Rows = np.ndarray[Any, np.dtype[np.int64]]

_MARKED = 64  # lines from one remembered offset to the next
_TOLD = 1024  # pairs from one notice of progress to the next
_ROWS = 1 << 16  # rows that are Python numbers at a time


class FilePairs(LazyPairs):
    """The pairs of two files, line n of one translating line n of the other, where both have text.

    Both files are read once, from beginning to end, to find that they are whole. What stays in memory is a number for
    each pair, and an offset for every 64 lines. Later they are read where that is needed.

    Args:
        source, target: the files.

    Raises:
        DataError: a file cannot be read or is not UTF-8, they differ in their number of lines, or no pair has text on
            both sides.
    """

    def __init__(self, source: Path, target: Path) -> None:
        self.paths = source, target
        self._stamps = [stamp_of(path) for path in self.paths]
        self._marks = array("q"), array("q")
        lines = self._scan()
        self.skipped = lines - len(self.rows)
        """How many pairs are not among these, since a side is empty."""

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Pair]:
        return self._at(
            row for first in range(0, len(self), _ROWS) for row in self.rows[first : first + _ROWS].tolist()
        )

    def item(self, index: int) -> Pair:
        """See `Lazy.item`."""
        return next(self._at([int(self.rows[index])]))

    def items(self, indices: range) -> list[Pair]:
        """See `Lazy.items`."""
        return list(self._at(int(self.rows[i]) for i in indices))

    @property
    def lines(self) -> Lazy[int]:
        """The number of the lines of each pair, from 1."""
        return _Lines(self.rows)

    def spread(self, size: int) -> FilePairs:
        """So many pairs, or all if ``size`` is 0 or more than there are: files are often sorted, so not just the
        first."""
        if not 0 < size < len(self):
            return self
        chosen = copy.copy(self)
        chosen.rows = self.rows[np.arange(size) * len(self) // size]
        chosen.__dict__.pop("fingerprint", None)
        return chosen

    def _scan(self) -> int:
        """Read everything; returns the number of lines."""
        source_path, target_path = self.paths
        kept, digest = array("q"), hashlib.sha256()
        counts = [count_lines(path) for path in self.paths]
        what = f"reading pairs from {source_path} and {target_path.name}"
        with ExitStack() as files, working(what, max(counts)) as advance:
            sides = [
                decoded(_marking(files.enter_context(opened(path)), marks), str(path))
                for path, marks in zip(self.paths, self._marks, strict=True)
            ]
            for number, (source, target) in enumerate(itertools.zip_longest(*sides)):
                if source and target:
                    kept.append(number)
                    digest.update(f"{source}\t{target}\n".encode())
                if number % _TOLD == _TOLD - 1:
                    advance(_TOLD)
        if counts[0] != counts[1]:
            raise DataError(
                f"{source_path} has {counted(counts[0], 'line')} and {target_path} has {counted(counts[1], 'line')}; "
                f"line n of one must translate line n of the other"
            )
        if not kept:
            lines = counted(counts[0], "line")
            found = f"have no pair with text on both sides in {lines}" if counts[0] else "are empty"
            raise DataError(f"{source_path} and {target_path} {found}; at least one pair is needed")
        self.rows: Rows = np.frombuffer(kept, np.int64)
        """The lines of each pair, from 0."""
        self.fingerprint = Fingerprint(len(kept), digest.hexdigest())
        return counts[0]

    def _at(self, rows: Iterable[int]) -> Iterator[Pair]:
        """The pairs of some lines, in any order; cheapest in that of the files."""
        for path, stamp in zip(self.paths, self._stamps, strict=True):
            refuse_changed(path, stamp)
        with ExitStack() as files:
            source, target = (files.enter_context(opened(path)) for path in self.paths)
            source_name, target_name = map(str, self.paths)
            line = 0
            for row in rows:
                if not line <= row < line + 2 * _MARKED:
                    mark = row // _MARKED
                    line = mark * _MARKED
                    source.seek(self._marks[0][mark])
                    target.seek(self._marks[1][mark])
                for _ in range(row - line):
                    source.readline()
                    target.readline()
                line = row + 1
                yield (
                    decoded_line(source.readline(), source_name, line),
                    decoded_line(target.readline(), target_name, line),
                )


class _Lines(Lazy[int]):
    """Numbers of lines."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, index: int) -> int:
        """See `Lazy.item`."""
        return int(self.rows[index]) + 1


def _marking(file: BinaryIO, marks: array[int]) -> Iterator[bytes]:
    """The lines of a file, and the offsets of every 64th."""
    offset = 0
    for number, line in enumerate(file):
        if number % _MARKED == 0:
            marks.append(offset)
        offset += len(line)
        yield line
