"""Says that kernels are being compiled, which takes seconds, once on each machine."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tinygrad_attn.contexts import context, undone_by
from tinygrad_attn.kernels.runtime.ahead import kernels_of_first_run
from tinygrad_attn.kernels.runtime.locks import WAIT

from .working import DELAYS, reporting_to, status_on_stderr, tell

__all__ = ["compilation_on_stderr", "watch_compilation"]

_TICK = 1.0
"""Seconds between two lines about one kernel."""


@context
def watch_compilation(report: Callable[[str], None]) -> Iterator[None]:
    """Inside, call ``report`` with one line whenever numba begins to compile a kernel or has done so, and see
    `reporting_to`.

    A kernel that takes long is told of every second. Kernels that are found in the cache on disk are not compiled; one
    that another process is compiling counts as compiled. In a first step it is told how many kernels there are as soon
    as that is known, and how many of them this process has, wherever from.
    """
    with _listening(report), reporting_to(report):
        yield


@context
def compilation_on_stderr() -> Iterator[None]:
    """As `status_on_stderr`, also for compilation."""
    with status_on_stderr() as report, _listening(report):
        yield


@context
def _listening(report: Callable[[str], None]) -> Iterator[None]:
    """Inside, ``report`` is told of compilation unless another is told of work."""
    from numba.core import event

    class Watch(event.Listener):  # type: ignore[misc]
        def __init__(self) -> None:
            self.started = 0.0
            self.under_way: list[str] = []  # kernels, each called by the one before
            self.done = 0
            self.over = threading.Event()
            self.ticker = threading.Thread(target=self.tick, daemon=True)

        def on_start(self, event: Any) -> None:
            self.started = self.started or time.perf_counter()
            self.under_way.append(event.data["dispatcher"].py_func.__name__.lstrip("_"))
            self.tell()
            if not self.ticker.is_alive() and not self.over.is_set():
                with contextlib.suppress(RuntimeError):  # the interpreter ends
                    self.ticker.start()

        def tick(self) -> None:
            """Tell of a kernel that takes long, every second."""
            while not self.over.wait(_TICK):
                if self.under_way:
                    self.tell()

        def on_end(self, event: Any) -> None:
            self.under_way.pop()
            self.done += 1
            self.tell()

        def tell(self) -> None:
            seconds = time.perf_counter() - self.started
            if seconds >= DELAYS.compilation:
                under_way = self.under_way[-1:]  # a copy: another thread may end a kernel meanwhile
                now = f", now {under_way[0]}" if under_way else ""
                known = kernels_of_first_run()
                count = f"{known[0]} of {known[1]}" if known else f"{self.done}"
                # What changes comes first: a narrow terminal shows no more.
                tell(f"compiling kernels: {count} in {seconds:.0f} s{now}; once on each machine", report)

    watch = Watch()

    def remove() -> None:
        with contextlib.suppress(ValueError):  # not registered
            for kind in kinds:
                event.unregister(kind, watch)
        watch.over.set()

    kinds = ("numba:compile", WAIT)
    with undone_by(remove):
        for kind in kinds:
            event.register(kind, watch)
        yield
