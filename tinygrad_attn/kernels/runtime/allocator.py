"""Keep freed memory in the process, so that the next training step finds it with its pages in place.

A step allocates the same large arrays as the step before. By default the C library gives each of them back to the
system when it is freed and asks for it again, and the kernel has to clear every page anew when it is first touched.
With the thresholds raised, an array of the next step lies where one of the last step lay. What the process holds at
most stays the same; it holds it until it ends.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed_memory"]

# From glibc's malloc.h; the values are C ints.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Let ``malloc`` keep what is freed, in arrays of less than 2 GiB.

    Does nothing where the C library is not glibc, and where the environment already says how ``malloc`` should behave
    (``MALLOC_TRIM_THRESHOLD_``, ``MALLOC_MMAP_THRESHOLD_`` or ``GLIBC_TUNABLES``).

    Returns:
        Whether it was done.
    """
    decided = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    if not sys.platform.startswith("linux") or any(name in os.environ for name in decided):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # mallopt returns 1 for success. Setting the one also keeps glibc from adapting the other.
    maps_less = library.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
    trims_less = library.mallopt(_M_TRIM_THRESHOLD, _LARGEST)
    return maps_less == trims_less == 1
