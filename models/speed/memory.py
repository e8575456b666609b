"""The most memory that this process has held."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["peak_memory"]


def peak_memory() -> float:
    """The most memory that this process has held at once, in MiB; NaN where the system does not tell."""
    if sys.platform == "win32":
        return _peak_on_windows()
    try:
        import resource
    except ImportError:  # Python in a browser, for example
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)  # macOS counts bytes, Linux KiB


class _Counters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS of Windows' psapi.h."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("page_faults", ctypes.c_uint32),
        ("peak_working_set", ctypes.c_size_t),
        ("others", ctypes.c_size_t * 7),
    )


def _peak_on_windows() -> float:
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined, unused-ignore]
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    kernel.K32GetProcessMemoryInfo.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32)
    counters = _Counters(size=ctypes.sizeof(_Counters))
    known = kernel.K32GetProcessMemoryInfo(kernel.GetCurrentProcess(), ctypes.addressof(counters), counters.size)
    return counters.peak_working_set / (1 << 20) if known else float("nan")
