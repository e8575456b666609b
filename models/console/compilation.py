"""Says that kernels are being compiled, which takes seconds, once on each machine."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tinygrad_attn.contexts import context, undone_by

__all__ = ["compilation_on_stderr", "watch_compilation"]

_QUIET = 1.0
"""Seconds of compilation that need no notice."""
_INTERVAL = 5.0
"""Seconds between two lines where there is no terminal."""


_watches: list[Any] = []  # from the outermost block to the innermost


@context
def watch_compilation(report: Callable[[str], None]) -> Iterator[None]:
    """Inside, call ``report`` with one line whenever numba begins to compile a kernel or has done so.

    Kernels that are found in the cache on disk are not compiled. Within another such block, this one takes its place.
    """
    from numba.core import event

    class Watch(event.Listener):  # type: ignore[misc]
        def __init__(self) -> None:
            self.started = 0.0
            self.under_way: list[str] = []  # kernels, each called by the one before
            self.done = 0

        def on_start(self, event: Any) -> None:
            self.started = self.started or time.perf_counter()
            self.under_way.append(event.data["dispatcher"].py_func.__name__.lstrip("_"))
            self.tell()

        def on_end(self, event: Any) -> None:
            self.under_way.pop()
            self.done += 1
            self.tell()

        def tell(self) -> None:
            seconds = time.perf_counter() - self.started
            if seconds >= _QUIET and _watches[-1] is self:
                now = f", now {self.under_way[-1]}" if self.under_way else ""
                report(f"compiling kernels, once on each machine: {self.done} in {seconds:.0f} s{now}")

    watch = Watch()

    def remove() -> None:
        if watch in _watches:
            _watches.remove(watch)
        with contextlib.suppress(ValueError):  # not registered
            event.unregister("numba:compile", watch)

    with undone_by(remove):
        _watches.append(watch)
        event.register("numba:compile", watch)
        yield


@context
def compilation_on_stderr() -> Iterator[None]:
    """Inside, stderr tells of compilation: in a terminal on one line, which goes when it is over; elsewhere in a line
    every few seconds."""
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    shown = 0.0

    def report(text: str) -> None:
        nonlocal shown
        now = time.perf_counter()
        if terminal:
            print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
        elif now - shown >= _INTERVAL:
            print(text, file=sys.stderr, flush=True)
        else:
            return
        shown = now

    def clear() -> None:
        if terminal and shown:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)

    with undone_by(clear), watch_compilation(report):
        yield
