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

__all__ = ["column_sums"]

Array = np.ndarray[Any, Any]

_SERIAL_SIZE = 32768  # elements up to which waking the threads costs more than they save
_BLOCKS = 16  # of rows, at most


class _Sums(NamedTuple):
    matrix: Address  # (rows, columns)
    sums: Address  # (blocks, columns), zeros
    rows: int
    columns: int
    block: int  # rows in a block


def _make_sum(dtype: Any) -> Any:
    @serial_kernel
    def sum_blocks(arguments: int, first: int, last: int) -> None:
        """Add the rows of some blocks to their sums."""
        s = read_struct(_Sums, arguments)
        for block in range(first, last):
            sums = row_at(dtype, s.sums, block, s.columns)
            step = simd.lanes(sums)
            rest = s.columns % step
            whole = s.columns - rest
            for number in range(block * s.block, min(s.rows, (block + 1) * s.block)):
                row = row_at(dtype, s.matrix, number, s.columns)
                for i in range(0, whole, step):
                    simd.store(sums, i, simd.load(sums, i) + simd.load(row, i))
                if rest:
                    total = simd.load_part(sums, whole, rest, 0.0) + simd.load_part(row, whole, rest, 0.0)
                    simd.store_part(sums, whole, rest, total)

    return sum_blocks


def column_sums(matrix: Array) -> Array:
    """The sums (N,) of the columns of a matrix (M, N), float32 or float64; copied unless C-contiguous."""
    rows, columns = matrix.shape
    block = max(1, -(-rows // _BLOCKS))
    sums = np.zeros((-(-rows // block), columns), matrix.dtype)
    arguments = Struct(_Sums(matrix, sums, rows, columns, block))
    shares = 1 if matrix.size <= _SERIAL_SIZE else len(sums)
    launch(kernel_for(_make_sum, matrix.dtype.type), arguments, len(sums), shares)
    return np.add.reduce(sums, axis=0)
