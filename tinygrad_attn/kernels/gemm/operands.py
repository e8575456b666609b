"""What a matrix product works on, as structs of integers: how large it is, where its matrices lie, what follows it.

Kernels take them as one argument each. As they hold addresses and strides in place of arrays, one compiled version of a
kernel serves every layout, and a kernel that takes nothing else can be called by address (`kernels.runtime.calls`).
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.jit import inlined_kernel

__all__ = ["PLAIN", "Epilogue", "Extent", "Matrix", "matrix_at", "transposed"]


class Extent(NamedTuple):
    """The sizes of a product C = A B: C is (rows, columns), A (rows, depth) and B (depth, columns)."""

    rows: int
    columns: int
    depth: int


class Matrix(NamedTuple):
    """A matrix in memory: element (i, j) lies at ``address + i * row + j * column``, all in bytes."""

    address: int
    row: int
    column: int


class Epilogue(NamedTuple):
    """What is done to a product beside summing it: C, or C +, = activation(A B + bias)."""

    bias: int  # address of a row of C's length, or 0
    accumulate: int  # 1 to add to what C holds, 0 to write
    activation: int  # position in `kernels.gemm.tile.ACTIVATIONS`, or -1


PLAIN = Epilogue(bias=0, accumulate=0, activation=-1)


@inlined_kernel
def transposed(matrix: Any) -> Any:
    return Matrix(matrix.address, matrix.column, matrix.row)


def matrix_at(dtype: Any, matrix: Any, shape: tuple[int, int]) -> np.ndarray:
    """The elements of a `Matrix` as an array, without copying: for what runs under ``NUMBA_DISABLE_JIT=1``."""
    dtype, (address, *strides) = np.dtype(dtype), map(int, matrix)
    reach = [(int(length) - 1) * stride for length, stride in zip(shape, strides, strict=True)]
    start = address + sum(min(r, 0) for r in reach)
    buffer = (ctypes.c_char * (sum(abs(r) for r in reach) + dtype.itemsize)).from_address(start)
    return np.ndarray(shape, dtype, buffer, address - start, strides)
