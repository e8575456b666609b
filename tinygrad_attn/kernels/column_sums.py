"""The sum of all rows of a matrix, ``matrix.sum(0)`` in NumPy: the gradient of a bias.

Each block of rows is summed by itself, on any thread, and then the blocks in order; the number of blocks depends on the
matrix alone, and so do the bits of the result.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, launch, read_struct, row_at
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.sums import sum_over

__all__ = ["column_sums"]

Array = np.ndarray[Any, Any]

_SERIAL_SIZE = 32768  # elements up to which waking the threads costs more than they save
_BLOCKS = 16  # of rows, unless they would be too long
_LONGEST_BLOCK = 256  # rows that are added one after another


class _Sums(NamedTuple):
    matrix: Address  # (rows, columns)
    sums: Address  # (blocks, columns)
    rows: int
    columns: int
    block: int  # rows in a block; the last may have fewer


def _make_kernel(dtype: Any) -> Any:
    @serial_kernel
    def add_blocks(arguments: int, first: int, last: int) -> None:
        """Add the rows of each block from ``first`` to ``last`` to the block's sums."""
        s = read_struct(_Sums, arguments)
        for block in range(first, last):
            sums = row_at(dtype, s.sums, block, s.columns)
            rest = s.columns % simd.lanes(sums)
            whole = s.columns - rest
            for row in range(block * s.block, min(s.rows, (block + 1) * s.block)):
                added = row_at(dtype, s.matrix, row, s.columns)
                for i in range(0, whole, simd.lanes(sums)):
                    simd.store(sums, i, simd.load(sums, i) + simd.load(added, i))
                if rest:
                    total = simd.load_part(sums, whole, rest, 0.0) + simd.load_part(added, whole, rest, 0.0)
                    simd.store_part(sums, whole, rest, total)

    return add_blocks


def column_sums(matrix: Array) -> Array:
    """The sums (N,) of the columns of a matrix (M, N), float32 or float64; copied unless C-contiguous."""
    rows, columns = matrix.shape
    block = min(max(1, -(-rows // _BLOCKS)), _LONGEST_BLOCK)
    sums = np.zeros((-(-rows // block), columns), matrix.dtype)
    if sums.size:
        shares = 1 if matrix.size <= _SERIAL_SIZE else len(sums)
        arguments = Struct(_Sums(matrix, sums, rows, columns, block))
        launch(kernel_for(_make_kernel, matrix.dtype.type), arguments, len(sums), shares)
    return sum_over(sums, (0,))
