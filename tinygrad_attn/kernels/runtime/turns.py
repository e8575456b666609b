"""How kernels with a ``prange`` share numba's pool of threads.

A parallel kernel spreads its ``prange`` over numba's pool. Each iteration owns what it writes and no sum is split by
thread, so the bits of a result do not depend on the number of threads. Parallel kernels take turns: there is one pool,
and numba's ``workqueue`` layer must not be entered twice at once. After a fork they run on one thread (see
`tinygrad_attn.kernels.runtime.forks`).
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numba

from tinygrad_attn.kernels.runtime.forks import start_pool

__all__ = ["take_turns"]

# Idle workers of GNU's OpenMP, where numba uses it, turn in a loop for a millisecond before they sleep. On a machine
# with other work that makes a step several times slower; this many turns, some microseconds, hardly cost an idle one.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


class _Pool:
    """Who runs a parallel kernel holds the lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.started = False

    def after_fork(self) -> None:
        """In a child: another thread, which is not there any more, may have held the lock."""
        self.lock = threading.Lock()


_pool = _Pool()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_pool.after_fork)


def take_turns(compiled: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """A parallel kernel that waits until the pool is free.

    Args:
        compiled: the kernel.
        function: the Python function that it was compiled from.
    """

    @functools.wraps(function)
    def launch(*arguments: Any) -> Any:
        with _pool.lock:
            if not _pool.started and not numba.config.DISABLE_JIT:
                start_pool()
                _pool.started = True
            return compiled(*arguments)

    return launch
