"""The one pool of threads: how parallel kernels share it.

A parallel kernel spreads its ``prange`` over numba's pool. Each iteration owns what it writes and no sum is split by
thread, so the bits of a result do not depend on the number of threads. Parallel kernels take turns: there is one pool,
and numba's ``workqueue`` layer must not be entered twice at once.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numba

__all__ = ["get_num_threads", "set_num_threads", "take_turns"]

# Idle workers of GNU's OpenMP, where numba uses it, turn in a loop for a millisecond before they sleep. On a machine
# with other work that makes a step several times slower; this many turns, some microseconds, hardly cost an idle one.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

_pool = threading.Lock()


def take_turns(compiled: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """A parallel kernel that waits until the pool is free.

    Args:
        compiled: the kernel.
        function: the Python function that it was compiled from.
    """

    @functools.wraps(function)
    def launch(*arguments: Any) -> Any:
        with _pool:
            return compiled(*arguments)

    return launch


def get_num_threads() -> int:
    """The number of threads that the next parallel kernel called from this thread uses."""
    return numba.get_num_threads()


def set_num_threads(count: int) -> None:
    """Use ``count`` threads from now on, in this thread.

    Raises:
        ValueError: ``count`` is less than 1 or more than the pool holds (``NUMBA_NUM_THREADS``, by default the cores).
    """
    largest = numba.config.NUMBA_NUM_THREADS
    if not 1 <= count <= largest:
        raise ValueError(f"set_num_threads: count must be from 1 to {largest} (NUMBA_NUM_THREADS), got {count}")
    numba.set_num_threads(count)
