"""Output that may end while a long command goes on: a closed pipe, a full disk, a terminal that is gone."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from tinygrad_attn.contexts import context, undone_by

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["LastingOutput", "lasting_output"]


class LastingOutput:
    """Whether standard output and standard error can still be written."""

    def __init__(self) -> None:
        self.failed = False

    def lost(self, error: OSError) -> None:
        """Note, once, that standard output cannot be written."""
        if not self.failed:
            self.failed = True
            print(f"note: standard output cannot be written ({error.strerror}); going on without it", file=sys.stderr)

    def close(self, message: str) -> None:
        """Print the last words, to standard error if standard output has failed or fails now."""
        if not self.failed:
            print(message, flush=True)
        if self.failed:
            print(message, file=sys.stderr, flush=True)


@context
def lasting_output() -> Iterator[LastingOutput]:
    """While the block runs, what cannot be printed is lost, and no error is raised.

    After ``train | head`` the pipe is closed, after Ctrl-C the ``tee`` of ``train | tee log`` is gone before training
    is, and after SIGHUP the terminal. The first loss is noted on standard error.
    """
    output = LastingOutput()
    before = sys.stdout, sys.stderr

    def restore() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before

    with undone_by(restore):
        sys.stdout, sys.stderr = _lasting(sys.stdout, output.lost), _lasting(sys.stderr, lambda error: None)
        yield output


class _LastingFile(io.RawIOBase):
    """An open file to which every write succeeds; the errors are told to ``lost``.

    It is the stream's own file that is written: that of a console of Windows takes UTF-8, and its descriptor does not.
    """

    def __init__(self, file: io.RawIOBase, lost: Callable[[OSError], None]) -> None:
        self.file = file
        self.lost = lost

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.file.fileno()

    def isatty(self) -> bool:
        return self.file.isatty()

    def write(self, content: ReadableBuffer, /) -> int | None:
        try:
            return self.file.write(content)
        except OSError as error:
            self.lost(error)
            return memoryview(content).nbytes


def _lasting(stream: TextIO, lost: Callable[[OSError], None]) -> TextIO:
    """A stream to the same file as ``stream``; or ``stream`` itself if it has no file, as in a notebook."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return stream
    own = getattr(getattr(stream, "buffer", None), "raw", None)
    raw = own if isinstance(own, io.RawIOBase) else io.FileIO(descriptor, "w", closefd=False)
    file = io.BufferedWriter(_LastingFile(raw, lost))
    return io.TextIOWrapper(file, stream.encoding, stream.errors, line_buffering=bool(stream.line_buffering))
