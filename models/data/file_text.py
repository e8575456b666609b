"""FileText: a text in a file, read a piece at a time and never held; and how any text is cut into pieces."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ..console.working import working
from .corpus import DataError, LongText
from .lines import opened, refuse_changed, stamp_of

__all__ = ["MANY_CHARACTERS", "FileText", "beginning", "blocks", "pieces"]

MANY_CHARACTERS = 10_000_000
"""From so many characters on a text in a file is not held, and its ids are kept on disk."""
_BLOCK = 1 << 20  # bytes
_PIECE = 1 << 21  # characters
_BEGINNING = 4096  # characters
_WORD = re.compile(r".*\w(?=[ \n])", re.DOTALL)  # up to the end of the last that is followed by white space


class FileText(LongText):
    """A part of a UTF-8 text file, from one character to another. It is read anew whenever it is asked for.

    Args:
        path: the file.
        first: where the part begins, in characters.
        last: where it ends.
    """

    def __init__(self, path: Path, first: int, last: int) -> None:
        self.path = path
        self.first, self.last = first, last
        self._stamp = stamp_of(path)

    @classmethod
    def whole(cls, path: Path) -> FileText:
        """All of a file.

        Raises:
            DataError: it cannot be read, or is not UTF-8.
        """
        size, (total, _) = 0, stamp_of(path)
        with working(f"reading {path}, byte", total) as advance:
            for block in blocks(path, advance):
                size += len(block)
        return cls(path, 0, size)

    def part(self, first: int, last: int) -> FileText:
        """A part of it."""
        return FileText(self.path, self.first + first, self.first + last)

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[str]:
        """Its content, block by block."""
        refuse_changed(self.path, self._stamp)
        end = 0
        for block in blocks(self.path):
            start, end = end, end + len(block)
            if end > self.first:
                yield block[max(0, self.first - start) : self.last - start]
            if end >= self.last:
                return


def blocks(path: Path, advance: Callable[[int], None] = lambda count: None) -> Iterator[str]:
    r"""The text of a UTF-8 file, block by block; a byte order mark is left out, and ``\r\n`` becomes ``\n``.

    Args:
        path: the file.
        advance: called with the number of bytes of each block.

    Raises:
        DataError: the file cannot be read, or is not UTF-8.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a text file")
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, held = 1, ""
    with opened(path) as file:
        first = file.read(len(codecs.BOM_UTF8))
        offset = len(first) if first == codecs.BOM_UTF8 else 0
        first = b"" if offset else first
        while True:
            block, first = first + file.read(_BLOCK), b""
            try:
                text = held + decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                read = error.object  # what the decoder kept of the block before, and this one
                byte = offset + len(block) - len(read) + error.start
                lines = line + read.count(b"\n", 0, error.start)
                raise DataError(
                    f"{path}, line {lines}, is not UTF-8 (byte {byte + 1} is "
                    f"0x{read[error.start]:02x}); save it as UTF-8"
                ) from error
            advance(len(block))
            offset, line = offset + len(block), line + block.count(b"\n")
            held = "\r" if block and text.endswith("\r") else ""  # the \n may be in the next block
            yield text.removesuffix(held).replace("\r\n", "\n")
            if not block:
                return


def pieces(text: str | LongText) -> Iterator[str]:
    """A text in pieces of about two million characters, each of which ends with a word: tokenizers, which cut there
    anyway, give the same symbols as of the whole. A shorter text is one piece."""
    rest = ""
    for block in _in_blocks(text) if isinstance(text, str) else text:
        rest += block
        if len(rest) > _PIECE and (found := _WORD.match(rest, len(rest) - len(block))):
            yield rest[: found.end()]
            rest = rest[found.end() :]
    yield rest


def beginning(text: str | LongText) -> str:
    """The first words of a text, which tokenizers cut as they do in the whole; empty if they would be too many."""
    found = _WORD.match(next(pieces(text))[:_BEGINNING])
    return found[0] if found else ""


def _in_blocks(text: str) -> Iterator[str]:
    for first in range(0, len(text), _BLOCK):
        yield text[first : first + _BLOCK]
