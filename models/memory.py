"""The machine's memory, and what would not fit in it: refused before it is tried."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

from .console.errors import UserError

__all__ = ["TooLargeError", "machine_memory", "readable", "refuse_beyond_memory"]

# Where Linux tells a container its limit: control groups of version 2 and 1.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB", "EB")


class TooLargeError(UserError):
    """Something needs more memory than the machine has. The message has both figures, and says what to lower."""


def refuse_beyond_memory(needed: int, what: str, fix: str) -> None:
    """Raise if something would need more memory than there is.

    Args:
        needed: bytes.
        what: the thing that needs them, as the subject of a sentence.
        fix: what to change, as in "lower data.train_size".

    Raises:
        TooLargeError: ``needed`` is more than `machine_memory`.
    """
    most = machine_memory()
    if needed > most:
        raise TooLargeError(f"{what} would take about {readable(needed)} of memory; there are {readable(most)}; {fix}")


@cache
def machine_memory() -> int:
    """The bytes of memory that this machine has, or that a container may use."""
    found = [_physical_memory()]
    for path in _LIMITS:
        try:
            found.append(int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no control groups, or no limit
            continue
    return min(found)


def readable(size: int) -> str:
    """A number of bytes in a unit that suits it, as in "3.2 GB"."""
    for power, unit in enumerate(_UNITS):
        scaled = size / 1000**power if size < 1000 ** (power + 2) else 0
        if size < 1000 ** (power + 1):
            return f"{size} bytes" if power == 0 else f"{scaled:.3g} {unit}"
    exponent = len(str(size)) - 1
    return f"10^{exponent} bytes"


def _physical_memory() -> int:
    if sys.platform == "win32":
        return _windows_memory()
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _windows_memory() -> int:
    class Status(ctypes.Structure):  # MEMORYSTATUSEX
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            ("total", ctypes.c_uint64),
            ("rest", ctypes.c_uint64 * 6),
        )

    status = Status(length=ctypes.sizeof(Status))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined]
        return sys.maxsize
    return int(status.total)
