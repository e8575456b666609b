"""The blocked loops of the matrix product, around the micro-kernel of `gemm_codegen`.

They are those of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008, with
the two operands' parts exchanged, since C is stored by rows::

    for depth, a block at a time
        for rows, a block at a time                  pack A
            for columns, a block at a time           pack B, which then stays in the second-level cache
                for panels of A                      which stay in the first
                    for panels of B                  multiply_tile

The innermost loop walks along the rows of C, so the hardware sees which part of C comes next and fetches it in time.

Every worker does this for a rectangle of C of its own, and packs for itself what it needs, so workers never wait for
each other. An element of C is summed in the order of the depth, in blocks that only the depth decides, wherever its
tile lies: the bits of the result do not depend on the number of threads.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

from .gemm_codegen import activate_tile, multiply_tile, pack_a, pack_b, tile_shape
from .jit import parallel_kernel, serial_kernel

__all__ = [
    "DOUBLE",
    "SINGLE",
    "describe_any_layout",
    "multiply_block",
    "multiply_in_parallel",
    "multiply_share",
    "workspaces",
]


class _Plan(NamedTuple):
    """Sizes by which a product is cut up for the registers and caches: in elements, if not said otherwise."""

    itemsize: int  # bytes
    lanes: int
    tile_rows: int
    tile_columns: int
    a_width: int  # of a packed panel of A
    block_rows: int
    block_depth: int
    block_columns: int
    a_panel: int  # bytes of a packed panel of A
    b_panel: int  # bytes of a packed panel of B
    a_block: int  # bytes of a packed block of A
    b_block: int  # bytes of a packed block of B


def _plan(itemsize: int) -> _Plan:
    """With AVX-512 a panel of A takes 32 KB of the first-level and a block of B 1 MB of the second-level cache."""
    tile = tile_shape(itemsize)
    block_strips, block_depth, block_panels = 128, 2048 // itemsize, 16
    a_panel, b_panel = (width * block_depth * itemsize for width in (tile.a_width, tile.columns))
    return _Plan(
        itemsize,
        *tile,
        block_strips * tile.rows,
        block_depth,
        block_panels * tile.columns,
        a_panel,
        b_panel,
        block_strips * a_panel,
        block_panels * b_panel,
    )


SINGLE, DOUBLE = _plan(4), _plan(8)

# Rows of the table in which a kernel finds its operands, each an address and four strides in bytes.
_A, _B, _C, _BIAS = range(4)


@serial_kernel
def _describe_array(operand: np.ndarray, array: np.ndarray) -> None:
    operand[0] = array.ctypes.data
    for axis in range(4):
        operand[1 + axis] = array.strides[axis] if axis > 1 or array.shape[axis] > 1 else 0


@serial_kernel
def _describe(a: np.ndarray, b: np.ndarray, c: np.ndarray, bias: np.ndarray, operands: np.ndarray) -> None:
    """Fill the table of operands from arrays of four dimensions; a leading dimension of length 1 is broadcast."""
    _describe_array(operands[_A], a)
    _describe_array(operands[_B], b)
    _describe_array(operands[_C], c)
    operands[_BIAS, 0] = bias.ctypes.data if bias.size > 0 else 0


@serial_kernel
def multiply_block(
    dtype: Any,
    plan: _Plan,
    scratch: int,
    rows: int,
    columns: int,
    depth: int,
    a: int,
    a_row: int,
    a_depth: int,
    b: int,
    b_depth: int,
    b_column: int,
    c: int,
    c_row: int,
    bias: int,
    accumulate: bool,
    activation: int,
) -> None:
    """C, or C +, = activation(A B + bias) for one rectangle of C, from addresses and strides in bytes."""
    b_scratch, a_scratch = scratch, scratch + plan.b_block
    # Equal blocks, so that none is left with a short last one.
    block_depth = -(-depth // -(-depth // plan.block_depth))
    block_rows = -(-rows // -(-rows // plan.block_rows))
    # What is used only a few times, or stays in the cache as it lies, costs less to read there than to copy.
    read_a = columns <= (8 if a_depth == plan.itemsize else 2) * plan.tile_columns
    fits = depth * columns * plan.itemsize <= plan.b_block
    read_b = b_column == plan.itemsize and rows <= (4 if fits else 1) * plan.tile_rows
    for k0 in range(0, depth, block_depth):
        ks = min(block_depth, depth - k0)
        first, last = k0 == 0, k0 + ks == depth
        for i0 in range(0, rows, block_rows):
            height = min(block_rows, rows - i0)
            strips = -(-height // plan.tile_rows)
            strip_rows, longer = height // strips, height % strips  # the first `longer` strips have a row more
            a_block = a + i0 * a_row + k0 * a_depth
            if not read_a:
                i = 0
                for strip in range(strips):
                    tile_rows = strip_rows + (strip < longer)
                    pack_a(dtype, a_scratch + strip * plan.a_panel, a_block + i * a_row, a_row, a_depth, tile_rows, ks)
                    i += tile_rows
            for j0 in range(0, columns, plan.block_columns):
                width = min(plan.block_columns, columns - j0)
                b_block = b + k0 * b_depth + j0 * b_column
                for j in range(0, width, plan.tile_columns):
                    tile_columns = min(plan.tile_columns, width - j)
                    if not read_b or tile_columns % plan.lanes != 0:
                        panel = b_scratch + j // plan.tile_columns * plan.b_panel
                        pack_b(dtype, panel, b_block + j * b_column, b_column, b_depth, tile_columns, ks)
                i = 0
                for strip in range(strips):
                    tile_rows = strip_rows + (strip < longer)
                    if read_a:
                        a_panel, a_item, a_step = a_block + i * a_row, a_row, a_depth
                    else:
                        a_panel = a_scratch + strip * plan.a_panel
                        a_item, a_step = plan.itemsize, plan.a_width * plan.itemsize
                    for j in range(0, width, plan.tile_columns):
                        tile_columns = min(plan.tile_columns, width - j)
                        if read_b and tile_columns % plan.lanes == 0:
                            b_panel, b_step = b_block + j * b_column, b_depth
                        else:
                            b_panel = b_scratch + j // plan.tile_columns * plan.b_panel
                            b_step = plan.tile_columns * plan.itemsize
                        tile = c + (i0 + i) * c_row + (j0 + j) * plan.itemsize
                        tile_bias = bias + (j0 + j) * plan.itemsize if bias != 0 and first else 0
                        multiply_tile(
                            dtype,
                            tile_rows,
                            tile_columns,
                            ks,
                            a_panel,
                            a_item,
                            a_step,
                            b_panel,
                            b_step,
                            tile,
                            c_row,
                            tile_bias,
                            int(accumulate or not first),
                        )
                        if last and activation >= 0:
                            activate_tile(dtype, activation, tile, c_row, tile_rows, tile_columns)
                    i += tile_rows


@serial_kernel
def multiply_share(
    worker: int,
    workers: int,
    operands: np.ndarray,
    matrices: int,
    inner: int,
    rows: int,
    columns: int,
    depth: int,
    accumulate: bool,
    activation: int,
    workspace: np.ndarray,
) -> None:
    """One worker's share: a rectangle of the rows of all matrices, one matrix below the other, and of the columns."""
    plan = SINGLE if workspace.itemsize == 4 else DOUBLE
    all_rows, panels = matrices * rows, -(-columns // plan.tile_columns)
    # A worker packs the rows and the columns of its rectangle: the nearer to a square, the less.
    across = 1
    for count in range(2, min(workers, panels) + 1):
        if workers % count == 0 and (
            all_rows * count / workers + columns / count < all_rows * across / workers + columns / across
        ):
            across = count
    down = workers // across
    row, last_row = all_rows * (worker // across) // down, all_rows * (worker // across + 1) // down
    j = panels * (worker % across) // across * plan.tile_columns
    width = min(columns, panels * (worker % across + 1) // across * plan.tile_columns) - j
    while row < last_row:
        matrix, i = row // rows, row % rows
        height = min(rows - i, last_row - row)
        group, member = matrix // inner, matrix % inner
        a, b, c = operands[_A], operands[_B], operands[_C]
        bias = operands[_BIAS, 0]
        multiply_block(
            workspace.dtype,
            plan,
            workspace.ctypes.data + worker * workspace.strides[0],
            height,
            width,
            depth,
            a[0] + group * a[1] + member * a[2] + i * a[3],
            a[3],
            a[4],
            b[0] + group * b[1] + member * b[2] + j * b[4],
            b[3],
            b[4],
            c[0] + group * c[1] + member * c[2] + i * c[3] + j * c[4],
            c[3],
            bias + j * plan.itemsize if bias != 0 else 0,
            accumulate,
            activation,
        )
        row += height


@parallel_kernel
def multiply_in_parallel(
    workers: int,
    operands: np.ndarray,
    matrices: int,
    inner: int,
    rows: int,
    columns: int,
    depth: int,
    accumulate: bool,
    activation: int,
    workspace: np.ndarray,
) -> None:
    for worker in numba.prange(workers):
        multiply_share(
            worker, workers, operands, matrices, inner, rows, columns, depth, accumulate, activation, workspace
        )


class _Workspaces(threading.local):
    """Scratch memory of each calling thread by element type, kept: fresh memory costs a page fault every few KB."""

    def __init__(self) -> None:
        self._kept: dict[str, np.ndarray] = {}

    def get(self, dtype: np.dtype) -> np.ndarray:
        workspace = self._kept.get(dtype.char)
        if workspace is None:
            plan = SINGLE if dtype.itemsize == 4 else DOUBLE
            elements = (plan.a_block + plan.b_block) // plan.itemsize
            workspace = self._kept[dtype.char] = np.empty((numba.config.NUMBA_NUM_THREADS, elements), dtype)
        return workspace


workspaces = _Workspaces()
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
