"""The sum of all rows of a matrix, ``matrix.sum(0)`` in NumPy: the gradient of a bias.

Each block of rows is summed by itself, on any thread, and then the blocks in order; the number of blocks depends on the
matrix alone, and so do the bits of the result.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tinygrad_attn.kernels.runtime.jit import parallel_kernel, serial_kernel
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["column_sums"]

_SERIAL_SIZE = 32768  # elements up to which waking the threads costs more than they save
_BLOCKS = 16  # of rows, at most


@serial_kernel
def _sum_rows(rows: Any, sums: Any, columns: int, at: int, first: int, last: int) -> None:
    """Add rows ``first`` to ``last`` to the ``columns`` sums from ``at`` on. Both arrays are flat."""
    step = simd.lanes(rows)
    rest = columns % step
    whole = columns - rest
    for row in range(first, last):
        start = row * columns
        for i in range(0, whole, step):
            simd.store(sums, at + i, simd.load(sums, at + i) + simd.load(rows, start + i))
        if rest:
            total = simd.load_part(sums, at + whole, rest, 0.0) + simd.load_part(rows, start + whole, rest, 0.0)
            simd.store_part(sums, at + whole, rest, total)


@serial_kernel
def _sum_serial(rows: Any, sums: Any, columns: int, count: int, block: int) -> None:
    for i in range((count + block - 1) // block):
        _sum_rows(rows, sums, columns, i * columns, i * block, min(count, (i + 1) * block))


@parallel_kernel
def _sum_parallel(rows: Any, sums: Any, columns: int, count: int, block: int) -> None:
    for i in numba.prange((count + block - 1) // block):
        _sum_rows(rows, sums, columns, i * columns, i * block, min(count, (i + 1) * block))


def column_sums(matrix: np.ndarray) -> np.ndarray:
    """The sums (N,) of the columns of a matrix (M, N), float32 or float64; copied unless C-contiguous."""
    count, columns = matrix.shape
    block = max(1, -(-count // _BLOCKS))
    sums = np.zeros((-(-count // block), columns), matrix.dtype)
    arguments = (np.ascontiguousarray(matrix).reshape(-1), sums.reshape(-1), columns, count, block)
    if matrix.size <= _SERIAL_SIZE:
        _sum_serial(*arguments)
    else:
        _sum_parallel(*arguments)
    return np.add.reduce(sums, axis=0)
