"""Stops training by a signal, as Ctrl-C sends it: the current step is finished, then a checkpoint is written."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tinygrad_attn.contexts import context, undone_by

__all__ = ["Interruption"]

# SIGTERM comes from kill, SIGHUP from a terminal that is closed. Windows has no SIGHUP, and SIGBREAK for Ctrl-Break.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
_SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


class Interruption:
    """Turns a signal into a request to stop after the current step. A second Ctrl-C stops at once.

    Attributes:
        requested: whether a signal has come.
        signal: the first that came.
    """

    def __init__(self) -> None:
        self.requested = False
        self.signal = signal.SIGINT

    @property
    def exit_code(self) -> int:
        """The exit code of a process that the signal has stopped, as shells count."""
        return 128 + self.signal

    @context
    def awaited(self, notice: Callable[[], None]) -> Iterator[None]:
        """Handle the signals while the block runs; only in the main thread, to which Python delivers them.

        The first calls ``notice`` in a thread of its own: a handler that prints may come amid another print, which
        is an error. A SIGHUP that is ignored, as nohup does, stays ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        came: queue.SimpleQueue[bool] = queue.SimpleQueue()  # the one queue that a handler may put into

        def request(number: int, frame: Any) -> None:
            if not self.requested:
                self.requested, self.signal = True, signal.Signals(number)
                came.put(True)
            elif number == signal.SIGINT:
                raise KeyboardInterrupt

        def tell() -> None:
            if came.get():
                notice()

        teller = threading.Thread(target=tell, daemon=True)
        previous = {number: signal.getsignal(number) for number in _SIGNALS}
        ignored = {number for number, handler in previous.items() if handler == signal.SIG_IGN} - {signal.SIGINT}

        def restore() -> None:
            for number in previous.keys() - ignored:
                signal.signal(number, previous[number] or signal.SIG_DFL)
            came.put(False)
            if teller.is_alive():
                teller.join(timeout=1.0)

        with undone_by(restore):
            teller.start()
            for number in previous.keys() - ignored:
                signal.signal(number, request)
            yield
