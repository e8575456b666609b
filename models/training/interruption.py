"""Ctrl-C that lets a step of training end, so that what is saved is whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Interruption"]


class Interruption:
    """Turns the first Ctrl-C into a request to stop at the next step's end; the second stops at once."""

    def __init__(self) -> None:
        self.requested = False

    @contextlib.contextmanager
    def awaited(self, notice: Callable[[], None]) -> Iterator[None]:
        """Listen for Ctrl-C while the block runs, in the main thread, where alone Python delivers it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def request(number: int, frame: Any) -> None:
            if self.requested:
                raise KeyboardInterrupt
            self.requested = True
            notice()

        previous = signal.signal(signal.SIGINT, request)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
