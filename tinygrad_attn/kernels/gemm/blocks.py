"""The blocked loops of the matrix product, around the micro-kernel of `gemm_tile`.

They are those of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008, with
the two operands' parts exchanged, since C is stored by rows::

    for depth, a block at a time
        for rows, a block at a time                  pack A
            for columns, a block at a time           pack B, which then stays in the second-level cache
                for panels of A                      which stay in the first
                    for panels of B                  multiply_tile

The innermost loop walks along the rows of C, so the hardware sees which part of C comes next and fetches it in time.

An element of C is summed in the order of the depth, in blocks that only the depth decides, wherever its tile lies and
whatever rectangle of C is asked for.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numba
import numpy as np

from tinygrad_attn.kernels.gemm.emitter import tile_shape
from tinygrad_attn.kernels.gemm.pack import pack_a, pack_b
from tinygrad_attn.kernels.gemm.tile import activate_tile, multiply_tile
from tinygrad_attn.kernels.runtime.calls import address_of
from tinygrad_attn.kernels.runtime.jit import serial_kernel

__all__ = ["DOUBLE", "SINGLE", "block_product_for", "workspaces"]


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


def _make_product(dtype: Any, plan: _Plan) -> Any:
    """The product of one rectangle of C, for elements of one dtype; see `block_product_for`."""

    @serial_kernel
    def multiply(
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
        accumulate: int,
        activation: int,
    ) -> None:
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
                        panel = a_scratch + strip * plan.a_panel
                        pack_a(dtype, panel, a_block + i * a_row, a_row, a_depth, tile_rows, ks)
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
                                int(accumulate != 0 or not first),
                            )
                            if last and activation >= 0:
                                activate_tile(dtype, activation, tile, c_row, tile_rows, tile_columns)
                        i += tile_rows

    return multiply


_multiply_single, _multiply_double = _make_product(np.float32, SINGLE), _make_product(np.float64, DOUBLE)


def block_product_for(itemsize: int) -> int:
    """The address of the product of float32, whose elements have 4 bytes, or of float64, for `calls.call` in a kernel.

    It writes C, or C +, = activation(A B + bias) for one rectangle of C. All it takes are integers: the address of
    scratch memory (a row of `workspaces`); the number of rows, of columns, and the depth; for A its address and the
    strides in bytes along the rows and the depth; for B along the depth and the columns; for C along the rows; the
    address of the bias, or 0; whether to add to C; the code of the activation, or -1.
    """
    return address_of(_multiply_single if itemsize == 4 else _multiply_double)


class _Workspaces(threading.local):
    """Scratch memory of each calling thread, kept: fresh memory costs a page fault every few KB."""

    def __init__(self) -> None:
        self._kept: np.ndarray | None = None

    def get(self) -> np.ndarray:
        """Bytes, with a row for each worker."""
        if self._kept is None:
            size = max(plan.a_block + plan.b_block for plan in (SINGLE, DOUBLE))
            self._kept = np.empty((numba.config.NUMBA_NUM_THREADS, size), np.uint8)
        return self._kept


workspaces = _Workspaces()
