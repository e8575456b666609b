"""The progress of training: a live bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import time
from typing import Protocol

from .compilation import watch_compilation
from .counts import clock
from .rich_console import make_console
from .working import DELAYS, is_quiet

__all__ = ["LiveProgress", "NoProgress", "PlainProgress", "Progress", "make_progress"]

_FIRST_STEP = "the first step compiles the kernels, once on each machine"


_SHARE, _LONGEST = 0.05, 60.0
"""Between two lines passes this share of the time so far, at most so many seconds."""
_NARROW = 60
"""Columns of a terminal, below which figures take the place of the bar."""


class Progress(Protocol):
    """A display of the progress of training."""

    def start(self, done: int, total: int) -> None:
        """Training begins or continues after ``done`` of ``total`` steps."""

    def advance(self, step: int, loss: float, accuracy: float, tokens: int) -> None:
        """Step number ``step`` is done; loss and accuracy are of the epoch so far, tokens those of the step."""

    def print(self, text: str) -> None:
        """Print lines that stay on the screen."""

    def stop(self) -> None:
        """Training has ended; restore the terminal."""


class _Pace:
    """Tokens per second and time left, measured from the end of the first step, which may have compiled the kernels."""

    def __init__(self, done: int, total: int) -> None:
        self.first = done + 1
        self.total = total
        self.tokens = 0
        self.since = time.perf_counter()

    def describe(self, step: int, tokens: int) -> str:
        """The pace as text, after step number ``step``, which had this many tokens."""
        seconds = time.perf_counter() - self.since
        if step == self.first:
            self.since = time.perf_counter()
            return f"first step took {seconds:.1f} s"
        self.tokens += tokens
        left = seconds / (step - self.first) * (self.total - step)
        return f"{self.tokens / seconds:,.0f} tokens/s  {clock(left)} left"


class PlainProgress:
    """A line at the start, then one every few seconds, also while the first step compiles kernels; the longer training
    takes, the rarer."""

    def __init__(self) -> None:
        self.pace = _Pace(0, 0)
        self.began = self.shown = -math.inf
        self.work = contextlib.ExitStack()

    def start(self, done: int, total: int) -> None:
        """See `Progress`."""
        self.pace = _Pace(done, total)
        self.print(f"step {done}/{total}  {_FIRST_STEP}")
        self.began = self.shown = time.perf_counter()
        self.work.enter_context(watch_compilation(self._show_work))

    def _show_work(self, text: str) -> None:
        if text and self._is_time():
            self.print(f"step {self.pace.first - 1}/{self.pace.total}  {text}")

    def advance(self, step: int, loss: float, accuracy: float, tokens: int) -> None:
        """See `Progress`."""
        if step == self.pace.first:
            self.work.close()
            self.shown = -math.inf
        pace = self.pace.describe(step, tokens)
        if self._is_time() or step == self.pace.total:
            self.print(f"step {step}/{self.pace.total}  loss {loss:.3f}  token accuracy {100 * accuracy:.1f} %  {pace}")

    def _is_time(self) -> bool:
        """Whether a line is due, which is noted then."""
        now = time.perf_counter()
        wait = max(DELAYS.lines, min((now - self.began) * _SHARE, _LONGEST))
        if due := now - self.shown >= wait:
            self.shown = now
        return due

    def print(self, text: str) -> None:
        """See `Progress`."""
        print(text, flush=True)

    def stop(self) -> None:
        """See `Progress`."""
        self.work.close()


class LiveProgress:
    """A bar at the bottom of the terminal, drawn by rich; lines that are printed scroll by above it."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        console = make_console()
        narrow = (TextColumn("{task.completed}/{task.total} {task.description}"),)
        wide = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
        self.bar = Bar(*(narrow if console.width < _NARROW else wide), console=console)
        self.work = contextlib.ExitStack()
        self.pace = _Pace(0, 0)
        self.task = self.bar.add_task("", total=None)

    def start(self, done: int, total: int) -> None:
        """See `Progress`."""
        self.pace = _Pace(done, total)
        self.bar.update(self.task, completed=done, total=total, description=_FIRST_STEP)
        self.bar.start()
        show = functools.partial(self.bar.update, self.task)
        self.work.enter_context(watch_compilation(lambda text: show(description=text)))

    def advance(self, step: int, loss: float, accuracy: float, tokens: int) -> None:
        """See `Progress`."""
        figures = f"loss {loss:.3f}  accuracy {100 * accuracy:.1f} %  {self.pace.describe(step, tokens)}"
        self.bar.update(self.task, completed=step, description=figures)

    def print(self, text: str) -> None:
        """See `Progress`."""
        self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """See `Progress`."""
        self.work.close()
        self.bar.stop()


class NoProgress:
    """Shows nothing."""

    def start(self, done: int, total: int) -> None:
        """See `Progress`."""

    def advance(self, step: int, loss: float, accuracy: float, tokens: int) -> None:
        """See `Progress`."""

    def print(self, text: str) -> None:
        """See `Progress`."""

    def stop(self) -> None:
        """See `Progress`."""


def make_progress() -> Progress:
    """The bar if standard output is a terminal, else lines; nothing within `quietly`."""
    if is_quiet():
        return NoProgress()
    return LiveProgress() if sys.stdout.isatty() else PlainProgress()
