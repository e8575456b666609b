"""What a command is busy with, told once that takes seconds, so that no screen stands still; ``-q`` turns it off.

Who displays something says where such lines go, by `reporting_to`; without one, as in a notebook, they go nowhere.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tinygrad_attn.contexts import context, undone_by

from .counts import clock
from .line import Beside, Line

__all__ = ["DELAYS", "is_quiet", "quietly", "reporting_to", "status_on_stderr", "tell", "worked_off", "working"]


@dataclass
class Delays:
    """How many seconds pass before a line is shown, so that what a machine does at once is not told of.

    Attributes:
        work: of work that needs no notice.
        compilation: of compilation that needs no notice.
        lines: between two lines where there is no terminal, at first.
    """

    work: float = 2.0
    compilation: float = 1.0
    lines: float = 2.0


DELAYS = Delays()
"""Those in force."""

T = TypeVar("T")

_reports: list[Callable[[str], None]] = []  # from the outermost block to the innermost
_under_way: list[threading.Event] = []  # work, each within the one before
_quiet = False


@context
def quietly() -> Iterator[None]:
    """Inside, no progress is shown."""
    global _quiet

    before = _quiet

    def restore() -> None:
        global _quiet
        _quiet = before

    with undone_by(restore):
        _quiet = True
        yield


def is_quiet() -> bool:
    """Whether this is within `quietly`."""
    return _quiet


@context
def reporting_to(report: Callable[[str], None]) -> Iterator[None]:
    """Inside, lines about work go to ``report``. Within another such block, this one takes its place."""

    def remove() -> None:
        if report in _reports:
            _reports.remove(report)

    with undone_by(remove):
        _reports.append(report)
        yield


def tell(text: str, reporter: Callable[[str], None] | None = None) -> None:
    """Report one line, unless this is for another ``reporter`` than the innermost."""
    if _reports and reporter in (None, _reports[-1]):
        _reports[-1](text)


@context
def working(what: str, total: int = 0) -> Iterator[Callable[[int], None]]:
    """While the block runs, a line every second says what is done, how much of it, for how long, and if ``total`` is
    known, about how long it will still take; within another such block, in its place.

    What it gives is called with how many more of ``total`` are done. Lines come from a thread of their own: also while
    the block waits for a single long call.
    """
    if not _reports:
        yield lambda count: None
        return
    done, began, over = [0], time.perf_counter(), threading.Event()

    def advance(count: int) -> None:
        done[0] += count

    def watch() -> None:
        seconds = DELAYS.work
        while not over.wait(seconds):
            if _under_way[-1:] == [over]:
                tell(describe())
            seconds = 1.0

    def describe() -> str:
        passed, count = time.perf_counter() - began, done[0]
        if not total:
            return f"{what}{f': {count:,}' if count else ''}, {clock(passed)}"
        left = f", {clock(passed / count * (total - count))} left" if 0 < count <= total else ""
        return f"{what} {count:,} of {total:,}, {clock(passed)}{left}"

    def end() -> None:
        over.set()
        if over in _under_way:
            _under_way.remove(over)
        if watcher.is_alive():
            watcher.join(timeout=1.0)
        if time.perf_counter() - began > DELAYS.work:
            tell("")  # what was told is over

    watcher = threading.Thread(target=watch, daemon=True)
    with undone_by(end):
        _under_way.append(over)
        watcher.start()
        yield advance


def worked_off(items: Iterable[T], what: str, total: int = 0) -> Iterator[T]:
    """The items one after the other, counted as `working` does."""
    with working(what, total) as advance:
        for item in items:
            yield item
            advance(1)


@context
def status_on_stderr() -> Iterator[Callable[[str], None]]:
    """Inside, lines about work go to stderr: in a terminal on one line, which makes room for all that is printed there
    and goes when it is over; elsewhere a line every few seconds."""
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    line, before = Line(sys.stderr), (sys.stdout, sys.stderr)
    shown = -math.inf

    def report(text: str) -> None:
        nonlocal shown
        if terminal:
            line.show(text)
            return
        with line.lock:  # whatever thread it comes from
            now = time.perf_counter()
            if text and now - shown >= DELAYS.lines:
                print(f"{text}\n", end="", file=sys.stderr, flush=True)
                shown = now

    def restore() -> None:
        line.clear()
        sys.stdout, sys.stderr = before

    with undone_by(restore), reporting_to(report):
        if terminal:
            sys.stdout, sys.stderr = (Beside(stream, line) if stream.isatty() else stream for stream in before)  # type: ignore[assignment]
        yield report
