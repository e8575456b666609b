"""The sum of all rows of a matrix with the bits of `kernels.sums.sum_over`, on all threads.

`kernels.column_sums` adds other blocks of rows. This is for gradients that have always been NumPy's sums.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tinygrad_attn.kernels.runtime.jit import called_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.prepared import Job
from tinygrad_attn.kernels.runtime.structs import Address, kernel_for, read_struct, row_at
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.sums import BLOCK, LONGEST_CHAIN, beside

__all__ = ["row_sums_job", "row_sums_scratch"]

_TOGETHER = 128  # columns that one thread takes at a time, at least


class _Sums(NamedTuple):
    matrix: Address  # (rows, columns), C-contiguous
    sums: Address  # (columns,)
    scratch: Address  # (`row_sums_scratch`, columns)
    rows: int
    columns: int
    width: int  # `kernels.sums.beside` of the first blocks


class _Chain(NamedTuple):
    """Rows to be added one after another."""

    matrix: int
    first: int
    step: int  # from row to row
    rows: int


@called_kernel
def _add_chain(dtype: Any, chain: Any, target: Any, start: int, end: int) -> None:
    """Write the columns from ``start`` to ``end`` of the sum of some rows."""
    columns = target.size
    for i in range(start, end, simd.lanes(target)):
        count = min(simd.lanes(target), end - i)
        total = simd.load_part(row_at(dtype, chain.matrix, chain.first, columns), i, count, 0.0)
        for k in range(1, chain.rows):
            row = row_at(dtype, chain.matrix, chain.first + k * chain.step, columns)
            total = total + simd.load_part(row, i, count, 0.0)
        simd.store_part(target, i, count, total)


def _make_kernel(dtype: Any) -> Any:
    @serial_kernel
    def add_rows(arguments: int, first: int, last: int) -> None:
        """The sums of the columns from ``first`` to ``last``, counted in groups of `_TOGETHER`."""
        s = read_struct(_Sums, arguments)
        start, end = first * _TOGETHER, min(s.columns, last * _TOGETHER)
        matrix, n, width = s.matrix, s.rows, s.width
        while s.rows > LONGEST_CHAIN and n > BLOCK:
            kept = n // (BLOCK * width) * width
            for row in range(kept):
                chain = _Chain(matrix, row // width * BLOCK * width + row % width, width, BLOCK)
                _add_chain(dtype, chain, row_at(dtype, s.scratch, row, s.columns), start, end)
            for row in range(kept * BLOCK, n):  # a sum of one row
                target = row_at(dtype, s.scratch, row - kept * (BLOCK - 1), s.columns)
                _add_chain(dtype, _Chain(matrix, row, 1, 1), target, start, end)
            matrix, n = s.scratch, n - kept * (BLOCK - 1)
            width = max(1, min(s.width, n // BLOCK))
        _add_chain(dtype, _Chain(matrix, 0, 1, n), row_at(dtype, s.sums, 0, s.columns), start, end)

    return add_rows


def row_sums_scratch(rows: int, columns: int) -> int:
    """How many rows of scratch memory a sum takes."""
    if rows <= LONGEST_CHAIN:
        return 0
    width = beside(rows, columns)
    return rows - rows // (BLOCK * width) * width * (BLOCK - 1)


def row_sums_job(rows: int, columns: int, dtype: Any, threads: int) -> Job:
    """The sums of a C-contiguous matrix of at least two columns, float32 or float64.

    Its addresses are the matrix, the sums, and scratch memory of `row_sums_scratch` such rows.
    """
    groups = -(-columns // _TOGETHER)
    last = {"rows": rows, "columns": columns, "width": beside(rows, columns)}
    return Job(kernel_for(_make_kernel, dtype), _Sums, last, groups, min(groups, threads))
