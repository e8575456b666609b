"""The matrix product of arrays of four dimensions, spread over the threads.

Every worker takes a rectangle of C of its own, and packs for itself what it needs, so workers never wait for each
other. The bits of the result do not depend on their number: `kernels.gemm.blocks` sums an element of C in the same
order whatever rectangle it lies in.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import numba
import numpy as np
from numba import types

from tinygrad_attn.kernels.gemm.operands import Epilogue, Extent, Matrix
from tinygrad_attn.kernels.gemm.plan import DOUBLE, SINGLE
from tinygrad_attn.kernels.runtime.calls import call
from tinygrad_attn.kernels.runtime.jit import parallel_kernel, serial_kernel

__all__ = ["TABLE", "describe_any_layout", "multiply_in_parallel", "multiply_share"]

# Rows of the table in which a kernel finds its operands, each an address and four strides in bytes, and its sizes: the
# two leading dimensions of C, its rows and columns, and the depth.
_A, _B, _C, _BIAS, _SIZES = range(5)
TABLE = (5, 5)  # its shape


@serial_kernel
def _describe_array(operand: np.ndarray, array: np.ndarray) -> None:
    operand[0] = array.ctypes.data
    for axis in range(4):
        operand[1 + axis] = array.strides[axis] if axis > 1 or array.shape[axis] > 1 else 0


@serial_kernel
def _describe(a: np.ndarray, b: np.ndarray, c: np.ndarray, bias: np.ndarray, operands: np.ndarray) -> None:
    """Fill the table from arrays of four dimensions; a leading dimension of length 1 is broadcast."""
    _describe_array(operands[_A], a)
    _describe_array(operands[_B], b)
    _describe_array(operands[_C], c)
    operands[_BIAS, 0] = bias.ctypes.data if bias.size > 0 else 0
    for axis in range(4):
        operands[_SIZES, axis] = c.shape[axis]
    operands[_SIZES, 4] = a.shape[3]


_compiling = threading.Lock()


@functools.cache
def describe_any_layout(char: str) -> Any:
    """`_describe`, compiled for arrays of any strides: left to itself, it would be compiled for each layout again."""
    if not numba.config.DISABLE_JIT:
        element = numba.from_dtype(np.dtype(char))
        read = types.Array(element, 4, "A", readonly=True, aligned=False)
        write = types.Array(element, 4, "A", aligned=False)
        vector = types.Array(element, 1, "C", readonly=True, aligned=False)
        signature = (read, read, write, vector, types.Array(types.int64, 2, "C"))
        describe: Any = _describe
        with _compiling:
            describe.disable_compile(False)
            describe.compile(signature)
            describe.disable_compile()
    return _describe


@serial_kernel
def _workers_across(workers: int, rows: int, columns: int, panels: int) -> int:
    """Among how many of the workers to divide the columns; the rows are divided among the others.

    A worker packs the rows and the columns of its rectangle: the nearer to a square, the less.
    """
    across = 1
    for count in range(2, min(workers, panels) + 1):
        if workers % count == 0 and (
            rows * count / workers + columns / count < rows * across / workers + columns / across
        ):
            across = count
    return across


@serial_kernel
def multiply_share(
    worker: int,
    workers: int,
    product: int,
    itemsize: int,
    operands: np.ndarray,
    accumulate: int,
    activation: int,
    workspace: np.ndarray,
) -> None:
    """One worker's share: a rectangle of the rows of all matrices, one matrix below the other, and of the columns.

    ``product`` is from `kernels.gemm.blocks.block_product_for`, ``operands`` the table that `describe_any_layout`
    fills, and ``workspace`` from `kernels.gemm.blocks.workspaces`.
    """
    sizes = operands[_SIZES]
    groups, members, rows, columns, depth = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    tile_columns = SINGLE.tile_columns if itemsize == 4 else DOUBLE.tile_columns
    all_rows, panels = groups * members * rows, -(-columns // tile_columns)
    across = _workers_across(workers, all_rows, columns, panels)
    down = workers // across
    row, last_row = all_rows * (worker // across) // down, all_rows * (worker // across + 1) // down
    j = panels * (worker % across) // across * tile_columns
    width = min(columns, panels * (worker % across + 1) // across * tile_columns) - j
    scratch = np.int64(workspace.ctypes.data) + worker * workspace.strides[0]
    a, b, c, bias = operands[_A], operands[_B], operands[_C], operands[_BIAS, 0]
    epilogue = Epilogue(bias + j * itemsize if bias != 0 else 0, accumulate, activation)
    while row < last_row:
        matrix, i = row // rows, row % rows
        height = min(rows - i, last_row - row)
        group, member = matrix // members, matrix % members
        call(
            product,
            scratch,
            Extent(height, width, depth),
            Matrix(a[0] + group * a[1] + member * a[2] + i * a[3], a[3], a[4]),
            Matrix(b[0] + group * b[1] + member * b[2] + j * b[4], b[3], b[4]),
            Matrix(c[0] + group * c[1] + member * c[2] + i * c[3] + j * c[4], c[3], c[4]),
            epilogue,
        )
        row += height


@parallel_kernel
def multiply_in_parallel(
    workers: int,
    product: int,
    itemsize: int,
    operands: np.ndarray,
    accumulate: int,
    activation: int,
    workspace: np.ndarray,
) -> None:
    for worker in numba.prange(workers):
        multiply_share(
            np.int64(worker), workers, product, itemsize, operands, accumulate, activation, workspace
        )  # fmt: skip
