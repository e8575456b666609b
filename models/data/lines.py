"""Lines of UTF-8 text, from a file or from standard input."""

from __future__ import annotations

import codecs
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from .corpus import DataError

__all__ = ["batched", "file_lines", "standard_input_lines"]


def file_lines(path: Path) -> Iterator[str]:
    """The stripped lines of a file, one after the other.

    Raises:
        DataError: the file cannot be read, or a line is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            yield from _decoded(file, str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def standard_input_lines() -> Iterator[str]:
    """The stripped lines of standard input, each as soon as it is there.

    Raises:
        DataError: a line is not UTF-8.
    """
    return _decoded(sys.stdin.buffer, "standard input")


def _decoded(file: BinaryIO, name: str) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        try:
            yield content.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}, line {number}, byte {error.start + 1} of the line: 0x{content[error.start]:02x} is not UTF-8 "
                f"({error.reason}); convert the text, as in: iconv -f CP949 -t UTF-8"
            ) from error


def batched(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    """Consecutive lines, ``size`` at a time."""
    remaining = iter(lines)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
