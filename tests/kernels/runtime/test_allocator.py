"""Freed memory stays in the process, unless the user has told malloc what to do."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_COUNT_FAULTS = """
import resource
import numpy as np
import tinygrad_attn

def fill():
    np.empty(6_000_000, np.float32).fill(1.0)

fill(), fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

_ASK = "from tinygrad_attn.kernels.runtime.allocator import keep_freed_memory; print(keep_freed_memory())"

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def run(code: str, **environment: str) -> str:
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "-c", code], env=inherited | environment, check=True, capture_output=True, text=True
    ).stdout.strip()


@glibc_only
def test_a_large_array_lies_where_the_last_one_lay():
    assert int(run(_COUNT_FAULTS)) < 20  # each of the 20 arrays has thousands of pages, or a dozen huge ones


# Of an array too small for NumPy to do so itself: whether its memory is to lie in large pages.
_FLAGS = """
import numpy as np, tinygrad_attn
array = np.ones(500_000, np.float32)
for line in open("/proc/self/smaps"):
    first = line.split()[0]
    if "-" in first:
        start, end = (int(address, 16) for address in first.split("-"))
    elif first == "VmFlags:" and start <= array.ctypes.data + array.nbytes // 2 < end:
        print("hg" in line.split())
"""


@glibc_only
@pytest.mark.skipif(not os.path.exists("/sys/kernel/mm/transparent_hugepage"), reason="no large pages")
def test_arrays_lie_in_large_pages():
    assert run(_FLAGS) == "True"
    assert run("import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33))" + _FLAGS) == "False"


@glibc_only
@pytest.mark.slow
def test_what_the_environment_says_of_malloc_holds():
    assert run(_ASK) == "True"
    assert run(_ASK, MALLOC_TRIM_THRESHOLD_="1000000") == "False"
