"""The line about work at the end of a terminal: gone before anything else is written there, and never within a line."""

from __future__ import annotations

import os
import sys
import threading
import unicodedata
from typing import Any, TextIO

__all__ = ["Beside", "Line"]


class Line:
    """One line, written over each time.

    Args:
        stream: to the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.lock = threading.RLock()  # lines about work come from threads of their own
        self.is_shown = False
        self.is_within = False
        """Whether something else has been written whose line is not ended, as of a text that comes piece by piece."""

    def show(self, text: str) -> None:
        """Write it, as much as fits; nothing within another line."""
        with self.lock:
            if not self.is_within:
                self._write(_cut(text, self._columns() - 1))
                self.is_shown = bool(text)

    def clear(self) -> None:
        """Empty the line, if there is one."""
        with self.lock:
            if self.is_shown:
                self._write("")
                self.is_shown = False

    def _write(self, text: str) -> None:
        # Not every terminal of Windows knows the escape.
        empty = f"\r{' ' * (self._columns() - 1)}\r" if sys.platform == "win32" else "\r\x1b[2K"
        print(empty + text, end="", file=self.stream, flush=True)

    def _columns(self) -> int:
        """The width of the terminal."""
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or 80
        except (OSError, ValueError, AttributeError):  # no terminal that tells
            return 80


class Beside:
    """A stream to the terminal of a line about work, which makes room for what is written; else as the stream."""

    def __init__(self, stream: TextIO, line: Line) -> None:
        self._stream = stream
        self._line = line

    def write(self, text: str) -> int:
        """See the stream's."""
        with self._line.lock:
            self._line.clear()
            written = self._stream.write(text)
            if text:
                self._line.is_within = not text.endswith("\n")
            return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _cut(text: str, columns: int) -> str:
    """As much of a text as fits into a line: of a line that wraps only a part could be emptied."""
    width = 0
    for place, character in enumerate(text):
        width += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width > columns:
            return text[:place]
    return text
