"""Handles Ctrl-C during training: the current step is finished, then a checkpoint is written."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Interruption"]


class Interruption:
    """Turns the first Ctrl-C into a request to stop after the current step; the second stops at once."""

    def __init__(self) -> None:
        self.requested = False

    @contextlib.contextmanager
    def awaited(self, notice: Callable[[], None]) -> Iterator[None]:
        """Handle Ctrl-C while the block runs; only in the main thread, to which Python delivers signals."""
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
