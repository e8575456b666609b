"""How every kernel is compiled, and kept on disk.

A *serial* kernel runs on the calling thread, a *parallel* one on all threads of the pool (see
`tinygrad_attn.kernels.runtime.threads`).

``NUMBA_DISABLE_JIT=1`` leaves every kernel a plain Python function.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from tinygrad_attn.kernels.runtime.disk_cache import keep_on_disk
from tinygrad_attn.kernels.runtime.turns import take_turns
from tinygrad_attn.kernels.simd.registers import registers

__all__ = ["inlined_kernel", "kernel_part", "parallel_kernel", "serial_kernel"]

# Division by zero gives inf or NaN as NumPy does; no fastmath, since masks are infinities.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_SOURCES = sorted(
    (path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in Path(__file__).parents[1].rglob("*.py")
)


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    dispatcher = numba.njit(**_OPTIONS, **options)(function)
    if not numba.config.DISABLE_JIT:
        # On disk a kernel stays until the file that holds it changes. A kernel is made of what it calls in other files,
        # too, and of the tile's shape, so here the stamp of every file counts, and what numba compiles for.
        keep_on_disk(dispatcher, (*_SOURCES, registers()))
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
    return take_turns(_compiled(function, parallel=True), function)
