"""How many threads kernels use, and how their work gets to them.

Each share of a kernel's work owns what it writes and no sum is split by thread, so the bits of a result do not depend
on the number of threads.
"""

from __future__ import annotations

import threading

import numba

from tinygrad_attn.kernels.runtime.pool import pool, run_alone

__all__ = ["get_num_threads", "launch_at", "launcher", "set_num_threads"]


class _Count(threading.local):
    """The number of threads, of each thread that launches kernels."""

    value: int = numba.config.NUMBA_NUM_THREADS


_count = _Count()


def launch_at(kernel: int, arguments: int, items: int, shares: int) -> None:
    """Call a kernel ``(arguments, first, last)`` on all of ``items``, divided into ``shares`` of about the same size.

    Args:
        kernel: the kernel's address.
        arguments: the address of what it takes, which stays valid until this returns.
        items: how many it works on.
        shares: the shares are taken by the threads that are free; one share, or one thread, is the calling thread.
    """
    threads = _count.value
    if shares <= 1 or threads == 1 or numba.config.DISABLE_JIT:
        run_alone(kernel, arguments, items)
    else:
        pool.launch(kernel, arguments, items, shares, threads)


def launcher() -> tuple[int, int]:
    """For a kernel that launches others on all threads: the address of the kernel ``(pool, kernel, arguments, items,
    shares, threads)`` that does so, and that of the pool."""
    return pool.launcher()


def get_num_threads() -> int:
    """The number of threads that the next kernel called from this thread uses."""
    return _count.value


def set_num_threads(count: int) -> None:
    """Use ``count`` threads from now on, in this thread.

    Raises:
        ValueError: ``count`` is less than 1 or more than the pool holds (``NUMBA_NUM_THREADS``, by default the cores).
    """
    if isinstance(count, bool) or not hasattr(count, "__index__"):
        raise TypeError(f"set_num_threads: count must be an integer, got {count!r}")
    largest = numba.config.NUMBA_NUM_THREADS
    if not 1 <= count <= largest:
        raise ValueError(f"set_num_threads: count must be from 1 to {largest} (NUMBA_NUM_THREADS), got {count}")
    _count.value = count
