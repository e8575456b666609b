"""The sum of all rows of a matrix, ``matrix.sum(0)`` in NumPy: the gradient of a bias.

Each block of rows is summed by itself, and then the blocks in order, so that no long chain of additions loses digits.
The blocks depend on the number of rows alone, and a thread sums whole columns: the bits of the result do not depend on
the number of threads.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.jit import inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Job, Prepared
from tinygrad_attn.kernels.runtime.structs import Address, kernel_for, read_struct, row_at
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.sums import LONGEST_CHAIN, sum_over

__all__ = ["MOST_ROWS", "SERIAL_SIZE", "column_sums", "column_sums_job"]

Array = np.ndarray[Any, Any]

SERIAL_SIZE = 32768  # elements up to which waking the threads costs more than they save
_BLOCKS = 16  # of rows, unless they would be too long
_LONGEST_BLOCK = 256  # rows that are added one after another
MOST_ROWS = LONGEST_CHAIN * _LONGEST_BLOCK  # of one job
_TOGETHER = 64  # columns that one thread takes at a time, at least


class _Sums(NamedTuple):
    matrix: Address  # (rows, columns), each row C-contiguous
    sums: Address  # (columns,)
    rows: int
    columns: int
    block: int  # rows in a block; the last may have fewer


def _make_kernel(dtype: Any) -> Any:
    @serial_kernel
    def add_rows(arguments: int, first: int, last: int) -> None:
        """The sums of the columns from ``first`` to ``last``, counted in groups of `_TOGETHER`."""
        s = read_struct(_Sums, arguments)
        sums = row_at(dtype, s.sums, 0, s.columns)
        lanes, i, end = simd.lanes(sums), first * _TOGETHER, min(s.columns, last * _TOGETHER)
        while i + 4 * lanes <= end:
            _sum_four(dtype, s, sums, i)
            i += 4 * lanes
        while i < end:
            _sum_one(dtype, s, sums, i, min(lanes, end - i))
            i += lanes

    return add_rows


@inlined_kernel
def _sum_four(dtype: Any, s: Any, sums: Any, i: int) -> None:
    """The sums of four vectors of columns, so that each row gives whole lines of the cache."""
    lanes = simd.lanes(sums)
    zero = simd.splat(sums, 0.0)
    all_a, all_b, all_c, all_d = zero, zero, zero, zero
    for start in range(0, s.rows, s.block):
        a, b, c, d = zero, zero, zero, zero
        for row in range(start, min(s.rows, start + s.block)):
            x = row_at(dtype, s.matrix, row, s.columns)
            a, b = a + simd.load(x, i), b + simd.load(x, i + lanes)
            c, d = c + simd.load(x, i + 2 * lanes), d + simd.load(x, i + 3 * lanes)
        all_a, all_b, all_c, all_d = all_a + a, all_b + b, all_c + c, all_d + d
    simd.store(sums, i, all_a)
    simd.store(sums, i + lanes, all_b)
    simd.store(sums, i + 2 * lanes, all_c)
    simd.store(sums, i + 3 * lanes, all_d)


@inlined_kernel
def _sum_one(dtype: Any, s: Any, sums: Any, i: int, count: int) -> None:
    """The sums of at most one vector of columns."""
    total = simd.splat(sums, 0.0)
    for start in range(0, s.rows, s.block):
        of_block = simd.splat(sums, 0.0)
        for row in range(start, min(s.rows, start + s.block)):
            of_block = of_block + simd.load_part(row_at(dtype, s.matrix, row, s.columns), i, count, 0.0)
        total = total + of_block
    simd.store_part(sums, i, count, total)


def column_sums_job(rows: int, columns: int, dtype: Any, threads: int) -> Job:
    """The sums of the columns of a C-contiguous matrix, float32 or float64; its addresses are the matrix and the sums.

    Raises:
        ValueError: more rows than blocks can be added one after another.
    """
    if rows > MOST_ROWS:
        raise ValueError(f"column_sums_job: {rows} rows are more than {MOST_ROWS}; sum parts of them")
    block = min(max(1, -(-rows // _BLOCKS)), _LONGEST_BLOCK)
    groups = -(-columns // _TOGETHER)
    last = {"rows": rows, "columns": columns, "block": block}
    return Job(kernel_for(_make_kernel, dtype), _Sums, last, groups, min(groups, threads))


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared(rows: int, columns: int, dtype: Any, threads: int) -> Prepared:
    return Prepared(column_sums_job(rows, columns, dtype.type, threads), alone=rows * columns <= SERIAL_SIZE)


def column_sums(matrix: Array) -> Array:
    """The sums (N,) of the columns of a matrix (M, N), float32 or float64; copied unless C-contiguous."""
    rows, columns = matrix.shape
    if rows > MOST_ROWS:
        parts = [column_sums(matrix[row : row + MOST_ROWS]) for row in range(0, rows, MOST_ROWS)]
        return sum_over(np.stack(parts), (0,))
    if not rows or not columns:
        return np.zeros(columns, matrix.dtype)
    matrix, sums = np.ascontiguousarray(matrix), np.empty(columns, matrix.dtype)
    prepared = _prepared(rows, columns, matrix.dtype, get_num_threads())
    prepared.launch((data_address(matrix), data_address(sums)))
    return sums
