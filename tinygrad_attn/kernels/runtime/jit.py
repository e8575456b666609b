"""How every kernel is compiled, and the one pool of threads that runs them.

A *serial* kernel runs on the calling thread. A *parallel* kernel spreads its ``prange`` over numba's pool; each
iteration owns what it writes and no sum is split by thread, so the bits of a result do not depend on the number of
threads. Parallel kernels take turns: the pool is one, and numba's ``workqueue`` layer must not be entered twice at
once.

``NUMBA_DISABLE_JIT=1`` leaves every kernel a plain Python function.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

__all__ = ["get_num_threads", "inlined_kernel", "kernel_part", "parallel_kernel", "serial_kernel", "set_num_threads"]

# Idle workers of GNU's OpenMP, where numba uses it, turn in a loop for a millisecond before they sleep. On a machine
# with other work that makes a step several times slower; this many turns, some microseconds, hardly cost an idle one.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

# Division by zero gives inf or NaN as NumPy does; no fastmath, since masks are infinities.
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
_pool = threading.Lock()
_SOURCES = sorted(
    (path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in Path(__file__).parents[1].rglob("*.py")
)


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    dispatcher = numba.njit(**_OPTIONS, **options)(function)
    # On disk numba keeps a kernel until the file that holds it changes. A kernel is made of what it calls in other
    # files, too, so here the stamp of every file counts.
    cache_file = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if cache_file is not None and hasattr(cache_file, "_source_stamp"):
        cache_file._source_stamp = (cache_file._source_stamp, *_SOURCES)
    return dispatcher


def serial_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` at its first call for the types it is called with; other kernels may call it too."""
    return _compiled(function)


def inlined_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of vectors that becomes part of each loop that calls it: a call would pass them through memory."""
    return _compiled(function, forceinline=True)


def kernel_part(function: Callable[..., Any]) -> Callable[..., Any]:
    """A part of a large kernel, with a name: its code is pasted into the kernels that call it and compiled there.

    A serial kernel that calls another is compiled beside it; for a part that holds much code, that would be twice.
    It must stand at the top of its file: a kernel that is a closure over it would not be found in the cache on disk.
    """
    return _compiled(function, inline="always")


def parallel_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` with ``numba.prange`` spread over the pool. Called from Python only, never from a kernel.

    The index of a ``prange`` has no sign: what is called with it as it is gets compiled for that, beside int64.
    """
    compiled = _compiled(function, parallel=True)

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
