"""The progress of translating sentences, on stderr, since stdout has the results."""

from __future__ import annotations

import sys
import time
from typing import Any, Self

from tinygrad_attn.contexts import EntryRef, undone_by

from .counts import clock
from .rich_console import make_console
from .working import DELAYS, is_quiet

__all__ = ["SentenceProgress"]


class SentenceProgress(undone_by):
    """A bar while stderr is a terminal, else a line every few seconds; used in a ``with`` statement. Nothing within
    `quietly`.

    Args:
        total: the number of sentences; None if it is not known yet.
    """

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.done = 0
        self._began = self._shown = time.perf_counter()
        self._bar = _make_bar(total) if sys.stderr.isatty() and not is_quiet() else None
        super().__init__(lambda: None if self._bar is None else self._bar.stop())

    def enter(self, entry: EntryRef) -> Self:
        """The bar appears."""
        super().enter(entry)
        if self._bar is not None:
            self._bar.start()
        return self

    def advance(self, sentences: int) -> None:
        """Count this many more translated sentences."""
        self.done += sentences
        now = time.perf_counter()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=sentences)
        elif now - self._shown >= DELAYS.lines and not is_quiet():
            self._shown = now
            print(self._describe(now - self._began), file=sys.stderr, flush=True)

    def _describe(self, seconds: float) -> str:
        if self.total is None:
            return f"translated {self.done:,}"
        left = seconds / self.done * (self.total - self.done)
        return f"translated {self.done:,} of {self.total:,}, {clock(left)} left"


def _make_bar(total: int | None) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("translated"),
        MofNCompleteColumn(),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=make_console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # lines scroll by above the bar; those for a file stay away from it
    )
    bar.add_task("", total=total)
    return bar
