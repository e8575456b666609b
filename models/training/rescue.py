"""Rescue: saves training whose launcher ends its processes, which cannot wait for each other any more.

When one of several processes dies, or mpirun is interrupted, Open MPI sends SIGTERM to all others and a quarter of a
second later SIGKILL. By then the main thread is often within MPI, waiting for a process that is gone. So a thread says
on the first SIGTERM what happens, and forks a child, which has all that training has at that moment, leaves the group
of processes that are to be killed, waits until this process is gone, and writes the checkpoint.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

from tinygrad_attn.contexts import context, undone_by

from ..parallel.launcher import is_open_mpi
from ..parallel.ranks import Ranks
from ..runs.training import TrainingConfig

__all__ = ["Rescue", "note_of_deaths"]

_DEATH = 5.0
"""Seconds after which a process that was asked to end, and is there, is believed to manage by itself."""


class Rescue:
    """Watches over one of several processes.

    Args:
        ranks: all of them.
        save: writes the checkpoint; None if this process cannot.
        is_whole: whether what it writes is of one step, and not half changed to that of the next.
    """

    def __init__(self, ranks: Ranks, save: Callable[[], None] | None, is_whole: Callable[[], bool]) -> None:
        self._ranks = ranks
        self._save = save
        self._is_whole = is_whole
        self._lower: list[int] = []  # the processes of lower ranks on this machine
        self._over = mmap.mmap(-1, 1)  # of parent and child: not 0 if this process manages by itself

    @context
    def watching(self) -> Iterator[None]:
        """Watch while the block runs; nothing in a process by itself, or outside the main thread."""
        if self._ranks.size == 1 or sys.platform == "win32" or _in_another_thread():
            yield
            return
        places = self._ranks.gathered((socket.gethostname(), os.getpid()))
        host = places[self._ranks.rank][0]
        self._lower = [process for where, process in places[: self._ranks.rank] if where == host]
        listens, speaks = os.pipe()
        os.set_blocking(speaks, False)
        watcher = threading.Thread(target=self._watch, args=(listens,), daemon=True)
        before, ends = -1, [speaks]  # nothing is woken

        def end() -> None:  # once more after an interrupt
            self._over[0] = 1
            if not ends:
                return
            signal.set_wakeup_fd(before)
            os.close(ends.pop())
            if watcher.ident is not None:  # it was started
                watcher.join(timeout=1.0)

        with undone_by(end):
            before = signal.set_wakeup_fd(speaks, warn_on_full_buffer=False)
            watcher.start()
            yield

    def _watch(self, listens: int) -> None:
        """Wait for a signal that ends this process."""
        while number := os.read(listens, 1):
            if number[0] == signal.SIGTERM:
                self._act()
                break
        os.close(listens)

    def _act(self) -> None:
        if not any(map(_is_alive, self._lower)):
            saved = "" if self._save is None else "saving; "
            words = f"error: a process of this run has died, or mpirun was stopped; {saved}{self._ranks.going_on}\n"
            with contextlib.suppress(OSError):
                os.write(2, words.encode())
        if self._save is None:
            return
        while not self._is_whole():
            time.sleep(0.001)
        parent = os.getpid()
        if os.fork() == 0:
            try:
                self._rescue(parent, self._save)
            finally:
                os._exit(0)

    def _rescue(self, parent: int, save: Callable[[], None]) -> None:
        """Save in a child, once its parent is gone without having ended by itself."""
        os.setsid()
        until = time.monotonic() + _DEATH
        while os.getppid() == parent and time.monotonic() < until:
            time.sleep(0.01)
        if os.getppid() != parent and not self._over[0] and self._is_whole():
            save()


def note_of_deaths(settings: TrainingConfig) -> str:
    """What to say at the start where nothing can be saved when a process dies; else nothing."""
    if settings.divided_moments:
        reason = "with training.divided_moments only all processes together can save"
    elif not is_open_mpi():
        reason = "this MPI ends all processes at once when one dies (Open MPI lets them save)"
    else:
        return ""
    seconds = settings.checkpoint_seconds
    kept = (
        f"at most {seconds:g} s old (training.checkpoint_seconds)"
        if seconds
        else ("that of the last epoch, since training.checkpoint_seconds is 0")
    )
    return f"Note: {reason}: after a death training goes on from the last checkpoint, {kept}"


def _in_another_thread() -> bool:
    return threading.current_thread() is not threading.main_thread()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
