"""The matrix product of arrays of up to four dimensions, spread over the threads.

Every worker takes a rectangle of C of its own, and packs for itself what it needs, so workers never wait for each
other. The bits of the result do not depend on their number: `kernels.gemm.blocks` sums an element of C in the same
order whatever rectangle it lies in.
"""

from __future__ import annotations

import ctypes
import struct
from typing import NamedTuple

import numpy as np

from tinygrad_attn.kernels.gemm.blocks import block_product_for, workspaces
from tinygrad_attn.kernels.gemm.operands import Epilogue, Extent, Matrix
from tinygrad_attn.kernels.gemm.plan import DOUBLE, SINGLE
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.calls import address_of, call
from tinygrad_attn.kernels.runtime.jit import called_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import read_struct
from tinygrad_attn.kernels.runtime.threads import launch_at

__all__ = ["multiply"]


class _Product(NamedTuple):
    """What the workers work on: where A, B and C lie (see `_place`), their sizes, and how they are multiplied."""

    a: int
    a_group: int
    a_member: int
    a_row: int
    a_column: int
    b: int
    b_group: int
    b_member: int
    b_row: int
    b_column: int
    c: int
    c_group: int
    c_member: int
    c_row: int
    c_column: int
    bias: int  # address, or 0
    groups: int  # the leading dimensions of C
    members: int
    rows: int
    columns: int
    depth: int
    product: int  # from `kernels.gemm.blocks.block_product_for`
    itemsize: int
    accumulate: int
    activation: int
    scratch: int  # memory of `kernels.gemm.blocks.workspaces`, with ``scratch_size`` bytes for each worker
    scratch_size: int
    workers: int


@called_kernel
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
def _multiply_shares(arguments: int, first: int, last: int) -> None:
    """The shares of some workers: of each a rectangle of the rows of all matrices, one below the other, and columns."""
    s = read_struct(_Product, arguments)
    tile_columns = SINGLE.tile_columns if s.itemsize == 4 else DOUBLE.tile_columns
    all_rows, panels = s.groups * s.members * s.rows, -(-s.columns // tile_columns)
    across = _workers_across(s.workers, all_rows, s.columns, panels)
    down = s.workers // across
    for worker in range(first, last):
        row, last_row = all_rows * (worker // across) // down, all_rows * (worker // across + 1) // down
        j = panels * (worker % across) // across * tile_columns
        width = min(s.columns, panels * (worker % across + 1) // across * tile_columns) - j
        epilogue = Epilogue(s.bias + j * s.itemsize if s.bias != 0 else 0, s.accumulate, s.activation)
        while row < last_row:
            matrix, i = row // s.rows, row % s.rows
            height = min(s.rows - i, last_row - row)
            group, member = matrix // s.members, matrix % s.members
            call(
                s.product,
                s.scratch + worker * s.scratch_size,
                Extent(height, width, s.depth),
                Matrix(s.a + group * s.a_group + member * s.a_member + i * s.a_row, s.a_row, s.a_column),
                Matrix(s.b + group * s.b_group + member * s.b_member + j * s.b_column, s.b_row, s.b_column),
                Matrix(
                    s.c + group * s.c_group + member * s.c_member + i * s.c_row + j * s.c_column, s.c_row, s.c_column
                ),
                epilogue,
            )
            row += height


_LAYOUT = struct.Struct(f"{len(_Product._fields)}q")
_MEMORY = ctypes.c_char * _LAYOUT.size


def _place(operand: np.ndarray) -> tuple[int, int, int, int, int]:
    """The address of an array of up to four dimensions, and how many bytes lie between its groups, members, rows and
    columns. For a leading axis of length 1, which is broadcast, these are 0."""
    if operand.ndim == 2:
        row, column = operand.strides
        return data_address(operand), 0, 0, row, column
    shape, strides = operand.shape, operand.strides
    member = strides[-3] if shape[-3] > 1 else 0
    group = strides[-4] if operand.ndim > 3 and shape[-4] > 1 else 0
    return data_address(operand), group, member, strides[-2], strides[-1]


def multiply(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    bias: np.ndarray | None,
    activation: int,
    accumulate: bool,
    workers: int,
) -> None:
    """C, or C +, = activation(A B + bias), divided among so many workers.

    Args:
        a: (..., rows, depth), float32 or float64, of two to four dimensions, any strides.
        b: (..., depth, columns), of a's dtype. Leading dimensions of a and b of length 1, or missing, are broadcast.
        c: (..., rows, columns); the elements of a row adjoin.
        bias: (columns,), contiguous, or None.
        activation: the position in `kernels.gemm.tile.ACTIVATIONS`, or -1.
        accumulate: whether to add to what C holds.
        workers: at most the threads of the pool, since each needs scratch memory.
    """
    shape, itemsize, scratch = c.shape, c.itemsize, workspaces.get()
    numbers = _LAYOUT.pack(
        *_place(a),
        *_place(b),
        *_place(c),
        0 if bias is None else data_address(bias),
        shape[-4] if c.ndim > 3 else 1,
        shape[-3] if c.ndim > 2 else 1,
        shape[-2],
        shape[-1],
        a.shape[-1],
        block_product_for(itemsize),
        itemsize,
        accumulate,
        activation,
        data_address(scratch),
        scratch.strides[0],
        workers,
    )
    arguments = _MEMORY.from_buffer_copy(numbers)
    launch_at(address_of(_multiply_shares), ctypes.addressof(arguments), workers, workers)
