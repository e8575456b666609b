"""How every kernel is compiled, and kept on disk.

No kernel spreads its own work: one that works on many items does some of them, and `kernels.runtime.threads` has it
done by all threads of the pool.

``NUMBA_DISABLE_JIT=1`` leaves every kernel a plain Python function.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.registry import CPUDispatcher

from tinygrad_attn.kernels.runtime.compiler import KernelCompiler, compiling
from tinygrad_attn.kernels.runtime.disk_cache import keep_on_disk, place_on_disk
from tinygrad_attn.kernels.runtime.locks import is_locked, locked
from tinygrad_attn.kernels.simd.registers import registers

__all__ = ["called_kernel", "inlined_kernel", "is_being_compiled", "kernel_part", "serial_kernel"]

# Division by zero gives inf or NaN as NumPy does; no fastmath, since masks are infinities.
_OPTIONS: dict[str, Any] = {"nopython": True, "boundscheck": None, "nogil": True, "error_model": "numpy"}


@functools.cache
def _stamp() -> tuple[Any, ...]:
    """What compiled code depends on beside the file of its kernel: every file of kernels, and the kind of registers."""
    sources = Path(__file__).parents[1].rglob("*.py")
    return *sorted((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in sources), registers()


_making = threading.RLock()


class _Compiled(CPUDispatcher):
    """A kernel that has been made; its calls cost what those of numba's own class cost."""

    def by_address(self) -> Any:
        """This kernel."""
        return self

    def compile(self, sig: Any) -> Any:
        """See numba's; sooner done, and found on disk if another process is at it."""
        with compiling(), locked(*place_on_disk(self), self):
            return super().compile(sig)


class _Kernel(_Compiled):
    """A kernel before it is first called or compiled into another one, when numba's dispatcher of it is made.

    Making all of them takes a third of the time of importing the package.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)  # type: ignore[arg-type]
        self._options: dict[str, Any] | None = options

    def _made(self) -> Any:
        with _making:
            if isinstance(self, _Kernel) and self._options is not None:
                options, self._options = self._options, None
                super().__init__(self.__wrapped__, targetoptions=options, pipeline_class=KernelCompiler)  # type: ignore[attr-defined]
                use = "address" if options.get("no_cpython_wrapper") else "python"
                keep_on_disk(self, _stamp(), use)
                self._become()
        return self

    def _become(self) -> None:
        self.__class__ = _Compiled

    def by_address(self) -> Any:
        """This kernel, made for `calls.address_of`; if it is the first use, without what only Python's calls need."""
        with _making:
            if isinstance(self, _Kernel) and self._options is not None:
                self._options = {**self._options, "no_cpython_wrapper": True}
                self._made().__class__ = _Addressed
        return self

    def __call__(self, *arguments: Any) -> Any:
        return self._made()(*arguments)

    def __getattr__(self, name: str) -> Any:  # of what only a dispatcher has that is made
        with _making:
            if self.__dict__.get("_options") is None and isinstance(
                self, _Kernel
            ):  # numba looks while it is being made
                raise AttributeError(name)
            return getattr(self._made(), name)

    @property
    def _numba_type_(self) -> Any:
        return CPUDispatcher._numba_type_.fget(self._made())


class _Addressed(_Compiled):
    """A kernel that is called by address. Python's own calls, which are rare, have another one compiled."""

    @functools.cached_property
    def _for_python(self) -> _Kernel:
        return _Kernel(self.py_func, _OPTIONS)

    def __call__(self, *arguments: Any) -> Any:
        return self._for_python(*arguments)


class _Called(_Kernel):
    """A kernel that only others call. Python runs its function: what only its own calls need is not compiled."""

    def _become(self) -> None:
        pass

    def __call__(self, *arguments: Any) -> Any:
        return self.__wrapped__(*arguments)  # type: ignore[attr-defined]


def is_being_compiled(kernel: Any) -> bool:
    """Whether another process is compiling a kernel that is called by address."""
    return is_locked(*place_on_disk(kernel.by_address()))


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    return function if numba.config.DISABLE_JIT else _Kernel(function, {**_OPTIONS, **options})


def _called(function: Callable[..., Any], **options: Any) -> Any:
    if numba.config.DISABLE_JIT:
        return function
    return _Called(function, {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, **options})


def serial_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` at its first call for the types it is called with; other kernels may call it too."""
    return _compiled(function)


def inlined_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of vectors that becomes part of each loop that calls it: a call would pass them through memory.

    Called from Python it runs as Python.
    """
    return _called(function, forceinline=True)


def called_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` for the kernels that call it by name. Called from Python it runs as Python."""
    return _called(function)


def kernel_part(function: Callable[..., Any]) -> Callable[..., Any]:
    """A part of a large kernel, with a name: its code is pasted into the kernels that call it and compiled there.

    A serial kernel that calls another is compiled beside it; for a part that holds much code, that would be twice.
    It must stand at the top of its file: a kernel that is a closure over it would not be found in the cache on disk.
    """
    return _compiled(function, inline="always")
