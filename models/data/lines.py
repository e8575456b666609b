"""Lines of UTF-8 text, from a file or from standard input."""

from __future__ import annotations

import codecs
import itertools
import queue
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from .corpus import DataError

__all__ = [
    "STANDARD_INPUT",
    "batched",
    "batched_as_they_come",
    "count_lines",
    "decoded",
    "decoded_line",
    "file_lines",
    "opened",
    "refuse_changed",
    "stamp_of",
    "standard_input_lines",
]

T = TypeVar("T")

STANDARD_INPUT = "standard input"
_BLOCK = 1 << 20  # bytes
_PAUSE = 0.02
# Seconds after which a wait is begun anew: on Windows, Ctrl-C does not interrupt it.
_LONGEST_WAIT = 0.5


def file_lines(path: Path) -> Iterator[str]:
    """The stripped lines of a file, one after the other.

    Raises:
        DataError: the file cannot be read, or a line is not UTF-8.
    """
    with opened(path) as file:
        yield from decoded(file, str(path))


def opened(path: Path) -> BinaryIO:
    """A file to be read.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def stamp_of(path: Path) -> tuple[int, int]:
    """The size of a file, and when it was last written to.

    Raises:
        DataError: it cannot be read.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return found.st_size, found.st_mtime_ns


def refuse_changed(path: Path, stamp: tuple[int, int]) -> None:
    """Raise if a file has been written to since ``stamp_of`` gave this.

    Raises:
        DataError: it has.
    """
    if stamp_of(path) != stamp:
        raise DataError(f"{path} was changed while it was in use; begin again")


def count_lines(path: Path) -> int:
    """The number of lines of a file, the last of which need not be ended.

    Raises:
        DataError: it cannot be read.
    """
    count, block = 0, b"\n"
    with opened(path) as file:
        while more := file.read(_BLOCK):
            block = more
            count += block.count(b"\n")
    return count + (not block.endswith(b"\n"))


def standard_input_lines() -> Iterator[str]:
    """The stripped lines of standard input, each as soon as it is there.

    Raises:
        DataError: a line is not UTF-8.
    """
    stream: BinaryIO
    try:
        # A second file on the same descriptor: a thread may still wait for it when the program ends, and Python closes
        # the first one then.
        stream = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115, open to the end
    except (OSError, ValueError):  # replaced by an object without a descriptor
        stream = sys.stdin.buffer
    return decoded(stream, STANDARD_INPUT)


def decoded(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """Lines as text, without white space at both ends and without a byte order mark.

    Args:
        lines: from a file.
        name: of the file, in messages.

    Raises:
        DataError: a line is not UTF-8.
    """
    for number, line in enumerate(lines, 1):
        yield decoded_line(line, name, number)


def decoded_line(line: bytes, name: str, number: int) -> str:
    """The line of this number; see `decoded`."""
    content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}, line {number}, byte {error.start + 1} of the line: 0x{content[error.start]:02x} is not UTF-8 "
            f"({error.reason}); convert the text, as in: iconv -f CP949 -t UTF-8"
        ) from error


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Consecutive items, such as lines, ``size`` at a time."""
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


def batched_as_they_come(lines: Iterable[str], size: int, pause: float = _PAUSE) -> Iterator[list[str]]:
    """Consecutive lines, at most ``size`` at a time; fewer if the next has not come after ``pause`` seconds.

    Whoever writes a line and waits for the answer gets it, and many lines at once are still worked on in batches.

    Raises:
        DataError: that of ``lines``, after the lines before it.
    """
    arrived: queue.Queue[str | Exception | None] = queue.Queue(maxsize=2 * size)

    def read() -> None:
        last: Exception | None = None
        try:
            for line in lines:
                arrived.put(line)
        except Exception as error:
            last = error
        arrived.put(last)

    threading.Thread(target=read, daemon=True).start()
    while True:
        found = _wait(arrived)
        batch: list[str] = []
        while isinstance(found, str):
            batch.append(found)
            if len(batch) == size:
                break
            try:
                found = arrived.get(timeout=pause)
            except queue.Empty:
                break
        if batch:
            yield batch
        if isinstance(found, Exception):
            raise found
        if found is None:
            return


def _wait(arrived: queue.Queue[str | Exception | None]) -> str | Exception | None:
    while True:
        try:
            return arrived.get(timeout=_LONGEST_WAIT)
        except queue.Empty:
            continue
