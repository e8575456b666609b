"""Kernels compiled by other cores, before this process asks for them.

numba compiles on one thread of a process. So a child is forked before a first training step, or whatever else is slow
the first time. It goes through the same step with kernels that do nothing, which takes a moment and tells which kernels
the step needs; then it compiles them, the last one first, into the cache on disk. This process, which begins with the
first kernel, finds there what the child has done, waits for the kernel that the child is at, and is done in little more
than half the time. The child starts to work only when this process has found a kernel that is not on disk, and is gone
when the step is over. How many kernels there are, which a child knows first, it tells (`kernels_of_first_run`).
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core import event

from tinygrad_attn.kernels.runtime import calls, threads
from tinygrad_attn.kernels.runtime.jit import is_being_compiled

__all__ = ["first_run", "kernels_of_first_run"]

T = TypeVar("T")

_MOST = 3  # children: the kernels of a step are few, and the longest takes a tenth of the time


def first_run(step: Callable[[], T]) -> T:
    """Take a ``step`` for the first time, while other cores compile the kernels that it will need.

    Only on Linux; elsewhere the step is taken as it is. What it does in a child has no effect here; it must not talk to
    other processes.
    """
    children: list[_Child] = []
    try:
        _under_way.append((children, _resolved()))
        if not numba.config.DISABLE_JIT:
            _fork(step, children)
        with event.install_listener("numba:compile", _Missed(children)):
            return step()
    finally:
        _under_way.clear()
        for child in children:
            child.end()


def kernels_of_first_run() -> tuple[int, int] | None:
    """How many kernels the `first_run` that is under way has, compiled or found, and how many it needs; None if nobody
    knows, or there is none."""
    for children, before in _under_way:
        needed = max((child.needed() for child in children), default=0)
        if needed:
            return min(_resolved() - before, needed), needed
    return None


_under_way: list[tuple[list[_Child], int]] = []  # the children of the run, and how many kernels there were before


def _resolved() -> int:
    return calls.address_of.cache_info().currsize


class _Missed(event.Listener):  # type: ignore[misc]
    """Lets the children begin when a kernel is not on disk."""

    def __init__(self, children: list[_Child]) -> None:
        self.children = children

    def on_start(self, event: Any) -> None:
        for child in self.children:
            child.begin()

    def on_end(self, event: Any) -> None:
        pass


class _Child:
    """A forked process that waits for a word, and then compiles."""

    def __init__(self) -> None:
        self._listens, self._speaks = os.pipe()
        self._process = 0
        self._memory = mmap.mmap(-1, 8)  # of both processes

    def needed(self) -> int:
        """How many kernels it has found that the step needs; 0 until it has."""
        return int.from_bytes(self._memory[:], sys.byteorder)

    def fork(self, step: Callable[[], object], number: int) -> None:
        """Make the process, the one of this ``number``."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: what they hold is not used
            self._process = os.fork()
        if self._process == 0:
            try:
                os.close(self._speaks)
                if os.read(self._listens, 1):  # nothing, if the parent has ended its step
                    _work(step, number, self._memory)
            finally:
                os._exit(0)
        os.close(self._listens)

    def begin(self) -> None:
        """Let it compile."""
        with contextlib.suppress(OSError):
            os.write(self._speaks, b"1")

    def end(self) -> None:
        """End it, if it was made."""
        os.close(self._speaks)
        if not self._process:
            os.close(self._listens)
            return
        with contextlib.suppress(OSError):
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _fork(step: Callable[[], object], children: list[_Child]) -> None:
    """Add a child for each core that is left, or as many as there can be; whoever called ends them, come what may.

    Where no core is left, there is a child that only counts the kernels.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):  # no process, memory or descriptor left
        for number in range(max(1, min(_cores() - 1, _MOST))):
            children.append(_Child())
            children[-1].fork(step, number)


# --- In a child -------------------------------------------------------------------------------------------------------


def _work(step: Callable[[], object], number: int, memory: mmap.mmap) -> None:
    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, signal.SIG_DFL)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    gc.disable()
    parent = os.getppid()
    asked = _asked_for(step)
    memory[:] = len(asked).to_bytes(8, sys.byteorder)
    if _cores() == 1:
        return
    for kernel in asked[::-1][number:] + asked[::-1][:number]:
        if os.getppid() != parent:
            return
        if not is_being_compiled(kernel):
            calls.compiled_address(kernel)


def _asked_for(step: Callable[[], object]) -> list[Any]:
    """The kernels that a step calls by address, in the order in which it asks for them; none of them runs.

    Arrays that nothing is computed in hold zeros, since a loss that is no number would end the step. This is for a
    process that computes nothing any more.
    """
    asked: list[Any] = []

    def note(kernel: Any) -> int:
        asked.append(kernel)
        return 0

    calls.address_for = note
    threads.run_alone = threads.pool.launch = lambda *arguments: None  # type: ignore[method-assign]
    np.empty, np.empty_like = np.zeros, np.zeros_like  # type: ignore[misc, assignment]
    with contextlib.suppress(Exception), np.errstate(all="ignore"):
        step()
    return asked
