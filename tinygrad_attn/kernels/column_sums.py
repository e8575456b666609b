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
from tinygrad_attn.kernels.sums import sum_over

__all__ = ["column_sums"]

Array = np.ndarray[Any, Any]

_SERIAL_SIZE = 32768  # elements up to which waking the threads costs more than they save
_BLOCKS = 16  # of rows, unless they would be too long
_LONGEST_BLOCK = 256  # rows that are added one after another


@serial_kernel
def _sum_rows(matrix: Any, sums: Any, columns: int, at: int, first: int, last: int) -> None:
    """Add rows ``first`` to ``last`` to the ``columns`` sums from ``at`` on. Both arrays are flat."""
    step = simd.lanes(matrix)
    rest = columns % step
    whole = columns - rest
    for row in range(first, last):
        start = row * columns
        for i in range(0, whole, step):
            simd.store(sums, at + i, simd.load(sums, at + i) + simd.load(matrix, start + i))
        if rest:
            total = simd.load_part(sums, at + whole, rest, 0.0) + simd.load_part(matrix, start + whole, rest, 0.0)
            simd.store_part(sums, at + whole, rest, total)


@serial_kernel
def _sum_block(matrix: Any, sums: Any, columns: int, rows: int, block: int, number: int) -> None:
    """The sums of block ``number``, which has ``block`` rows or, the last, fewer."""
    _sum_rows(matrix, sums, columns, number * columns, number * block, min(rows, (number + 1) * block))


@serial_kernel
def _sum_blocks(matrix: Any, sums: Any, columns: int, rows: int, block: int) -> None:
    for number in range(sums.size // columns):
        _sum_block(matrix, sums, columns, rows, block, number)


@parallel_kernel
def _sum_blocks_in_parallel(matrix: Any, sums: Any, columns: int, rows: int, block: int) -> None:
    for number in numba.prange(sums.size // columns):
        _sum_block(matrix, sums, columns, rows, block, np.int64(number))


def column_sums(matrix: Array) -> Array:
    """The sums (N,) of the columns of a matrix (M, N), float32 or float64; copied unless C-contiguous."""
    rows, columns = matrix.shape
    block = min(max(1, -(-rows // _BLOCKS)), _LONGEST_BLOCK)
    sums = np.zeros((-(-rows // block), columns), matrix.dtype)
    if sums.size:
        sum_blocks = _sum_blocks if matrix.size <= _SERIAL_SIZE else _sum_blocks_in_parallel
        sum_blocks(np.ascontiguousarray(matrix).reshape(-1), sums.reshape(-1), columns, rows, block)
    return sum_over(sums, (0,))
