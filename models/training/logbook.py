"""``train.log``: what training prints, kept in the run folder whatever happens to the output."""

from __future__ import annotations

import contextlib
import datetime
import sys

from ..console.program import command_line
from ..console.progress import Progress
from ..runs.folder import PRINTED, Run, RunError

__all__ = ["Logbook"]


class Logbook:
    """A `Progress` that also appends what it prints to a file, after a line with time and command.

    A file that cannot be written is no reason to end training.

    Args:
        progress: shows the progress.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.run: Run | None = None
        self._before: list[str] = []  # what is printed while there is no folder yet
        self.note(f"{datetime.datetime.now().astimezone().isoformat(' ', 'seconds')}  {command_line(*sys.argv[1:])}")
        self.start, self.advance, self.stop = progress.start, progress.advance, progress.stop

    def write_to(self, run: Run) -> None:
        """From now on the run's folder has the file."""
        self.run = run
        self.note("\n".join(self._before))

    def note(self, text: str) -> None:
        """Append lines to the file alone."""
        if self.run is None:
            self._before.append(text)
            return
        if not self.run.writes:
            return
        with contextlib.suppress(OSError, RunError):
            path = self.run.to_write(PRINTED)
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{text}\n")

    def print(self, text: str) -> None:
        """See `Progress`."""
        self.note(text)
        self.progress.print(text)
