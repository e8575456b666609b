"""The blocked loops of the matrix product, around the micro-kernel of `kernels.gemm.tile`.

They are those of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008, with
the two operands' parts exchanged, since C is stored by rows::

    for depth, a block at a time
        for rows, a block at a time                  pack A
            for columns, a block at a time           pack B, which then stays in the second-level cache
                for panels of A                      which stay in the first
                    for panels of B                  multiply_tile

A single row of A takes another way through B, `kernels.gemm.row`.

The innermost loop walks along the rows of C, so the hardware sees which part of C comes next and fetches it in time.

An element of C is summed in the order of the depth, in blocks that only the depth decides, wherever its tile lies and
whatever rectangle of C is asked for.
"""

from __future__ import annotations

import threading
from typing import Any

import numba
import numpy as np

from tinygrad_attn.kernels.gemm.bfloat16 import MEMORY
from tinygrad_attn.kernels.gemm.operands import Epilogue, Extent, Matrix
from tinygrad_attn.kernels.gemm.pack import pack_a, pack_b
from tinygrad_attn.kernels.gemm.plan import DOUBLE, SINGLE, Plan
from tinygrad_attn.kernels.gemm.row import multiply_row
from tinygrad_attn.kernels.gemm.tile import ACTIVATIONS, activate_tile, multiply_tile
from tinygrad_attn.kernels.runtime.addresses import array_address, data_address
from tinygrad_attn.kernels.runtime.calls import address_of
from tinygrad_attn.kernels.runtime.jit import kernel_part, serial_kernel

__all__ = ["block_product_for", "multiply_in_numpy", "workspaces"]


def multiply_in_numpy(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None, activation: str | None = None
) -> np.ndarray:
    """activation(A B + bias), summed over one block of the depth after the other, as the kernels below do."""
    depth, block_depth = len(b), (SINGLE if a.itemsize == 4 else DOUBLE).block_depth
    block_depth = -(-depth // -(-depth // block_depth))
    c = np.zeros((len(a), b.shape[1]), a.dtype) if bias is None else bias
    for k in range(0, depth, block_depth):
        c = c + a[:, k : k + block_depth] @ b[k : k + block_depth]
    return c if activation is None else ACTIVATIONS[activation][1](c)


# --- Parts of the loops: ``plan`` has their sizes, for elements of ``dtype`` ------------------------------------------


@kernel_part
def _tiles_of(plan: Any, rows: int) -> Any:
    """How rows are divided among tiles: their number, the rows of each, and how many have one row more."""
    tiles = -(-rows // plan.tile_rows)
    return tiles, rows // tiles, rows % tiles


# Where the elements of one step of the depth adjoin, so many steps are packed into all panels before the next ones: a
# panel of its own would take one or two cache lines of each of many rows, which no prefetching sees, and the line that
# two panels share would have left the cache before the second needs it.
_CHUNK = 16


@kernel_part
def _pack_block_of_a(dtype: Any, plan: Any, a: Any, rows: int, depth: int, scratch: int) -> None:
    tiles, tile_rows, longer = _tiles_of(plan, rows)
    chunk = _CHUNK if a.row == plan.itemsize else depth
    for k in range(0, depth, chunk):
        i = 0
        for tile in range(tiles):
            height = tile_rows + (tile < longer)
            panel = scratch + tile * plan.a_panel + k * plan.a_width * plan.itemsize
            source = Matrix(a.address + i * a.row + k * a.column, a.row, a.column)
            pack_a(dtype, panel, source, height, min(chunk, depth - k))
            i += height


@kernel_part
def _pack_block_of_b(dtype: Any, plan: Any, b: Any, columns: int, depth: int, scratch: int, read_b: bool) -> None:
    """With ``read_b`` the panels of whole vectors are read where they lie, and not packed."""
    chunk = _CHUNK if b.column == plan.itemsize else depth
    for k in range(0, depth, chunk):
        for j in range(0, columns, plan.tile_columns):
            width = min(plan.tile_columns, columns - j)
            if not read_b or width % plan.lanes != 0:
                panel = scratch + j // plan.tile_columns * plan.b_panel + k * plan.tile_columns * plan.itemsize
                source = Matrix(b.address + j * b.column + k * b.row, b.column, b.row)
                pack_b(dtype, panel, source, width, min(chunk, depth - k))


@kernel_part
def _strip_of_a(plan: Any, a: Any, i: int, tile: int, scratch: int, read_a: bool) -> Any:
    """The rows of A from ``i`` on, where they lie or as panel number ``tile`` of the packed block."""
    if read_a:
        return Matrix(a.address + i * a.row, a.row, a.column)
    return Matrix(scratch + tile * plan.a_panel, plan.itemsize, plan.a_width * plan.itemsize)


@kernel_part
def _panel_of_b(plan: Any, b: Any, j: int, width: int, scratch: int, read_b: bool) -> Any:
    """The columns of B from ``j`` on, where they lie or as a packed panel."""
    if read_b and width % plan.lanes == 0:
        return Matrix(b.address + j * b.column, b.row, plan.itemsize)
    return Matrix(scratch + j // plan.tile_columns * plan.b_panel, plan.tile_columns * plan.itemsize, plan.itemsize)


@kernel_part
def _multiply_row_of_tiles(
    dtype: Any, plan: Any, extent: Any, strip: Any, b: Any, b_scratch: int, read_b: bool, c: Any, epilogue: Any
) -> None:
    """Some rows of C, at most a tile's, and all columns of a block."""
    rows, columns, depth = extent
    for j in range(0, columns, plan.tile_columns):
        width = min(plan.tile_columns, columns - j)
        target = Matrix(c.address + j * plan.itemsize, c.row, plan.itemsize)
        bias = epilogue.bias + j * plan.itemsize if epilogue.bias != 0 else 0
        panel = _panel_of_b(plan, b, j, width, b_scratch, read_b)
        multiply_tile(dtype, Extent(rows, width, depth), strip, panel, target, bias, epilogue.accumulate)
        if epilogue.activation >= 0:
            activate_tile(dtype, epilogue.activation, target, rows, width)


@kernel_part
def _multiply_one_row(
    dtype: Any, plan: Any, columns: int, depth: int, a: Any, b: Any, c: Any, epilogue: Any, scratch: int
) -> None:
    """One row of C and all columns, as many at a time as the scratch memory holds."""
    most = plan.b_block // plan.itemsize
    for j in range(0, columns, most):
        extent = Extent(1, min(most, columns - j), depth)
        part = Matrix(b.address + j * plan.itemsize, b.row, plan.itemsize)
        target = Matrix(c.address + j * plan.itemsize, c.row, plan.itemsize)
        bias = epilogue.bias + j * plan.itemsize if epilogue.bias != 0 else 0
        multiply_row(dtype, extent, a, part, target, bias, scratch if epilogue.accumulate != 0 else 0)
    if epilogue.activation >= 0:
        activate_tile(dtype, epilogue.activation, c, 1, columns)


# --- The loops --------------------------------------------------------------------------------------------------------


def _make_product(dtype: Any, plan: Plan) -> Any:
    """The product of one rectangle of C, for elements of one dtype; see `block_product_for`."""
    size, panel_width = plan.itemsize, plan.tile_columns

    @serial_kernel
    def multiply(scratch: int, extent: Extent, a: Matrix, b: Matrix, c: Matrix, epilogue: Epilogue) -> None:
        rows, columns, depth = extent
        b_scratch, a_scratch = scratch, scratch + plan.b_block
        # Equal blocks, so that none is left with a short last one.
        block_depth = -(-depth // -(-depth // plan.block_depth))
        block_rows = -(-rows // -(-rows // plan.block_rows))
        # What is used only a few times, or stays in the cache as it lies, costs less to read there than to copy.
        read_a = columns <= (plan.reading_columns if a.column == size else 2 * panel_width)
        fits = depth * columns * size <= plan.b_block
        read_b = b.column == size and rows <= (4 if fits else 1) * plan.tile_rows
        for k0 in range(0, depth, block_depth):
            ks = min(block_depth, depth - k0)
            # The bias goes to the first block of the depth, the activation to the last.
            first, last = k0 == 0, k0 + ks == depth
            bias, activation = epilogue.bias if first else 0, epilogue.activation if last else -1
            accumulate = 1 if epilogue.accumulate != 0 or not first else 0
            if rows == 1 and b.column == size:
                a_row, b_rows = (
                    Matrix(a.address + k0 * a.column, a.row, a.column),
                    Matrix(b.address + k0 * b.row, b.row, size),
                )
                one_row = Epilogue(bias, accumulate, activation)
                _multiply_one_row(dtype, plan, columns, ks, a_row, b_rows, c, one_row, b_scratch)
                continue
            for i0 in range(0, rows, block_rows):
                height = min(block_rows, rows - i0)
                a_block = Matrix(a.address + i0 * a.row + k0 * a.column, a.row, a.column)
                if not read_a:
                    _pack_block_of_a(dtype, plan, a_block, height, ks, a_scratch)
                for j0 in range(0, columns, plan.block_columns):
                    width = min(plan.block_columns, columns - j0)
                    b_block = Matrix(b.address + k0 * b.row + j0 * b.column, b.row, b.column)
                    _pack_block_of_b(dtype, plan, b_block, width, ks, b_scratch, read_b)
                    block_epilogue = Epilogue(bias + j0 * size if bias != 0 else 0, accumulate, activation)
                    tiles, tile_rows, longer = _tiles_of(plan, height)
                    i = 0
                    for tile in range(tiles):
                        strip_rows = tile_rows + (tile < longer)
                        strip = _strip_of_a(plan, a_block, i, tile, a_scratch, read_a)
                        target = Matrix(c.address + (i0 + i) * c.row + j0 * size, c.row, size)
                        strip_extent = Extent(strip_rows, width, ks)
                        _multiply_row_of_tiles(
                            dtype, plan, strip_extent, strip, b_block, b_scratch, read_b, target, block_epilogue
                        )
                        i += strip_rows

    return multiply


_multiply_single, _multiply_double = _make_product(np.float32, SINGLE), _make_product(np.float64, DOUBLE)


def block_product_for(itemsize: int) -> int:
    """The address of the product of float32, whose elements have 4 bytes, or of float64, for `calls.call` in a kernel.

    It takes ``(scratch, extent, a, b, c, epilogue)``: the address of scratch memory, a row of `workspaces`; the sizes
    of a rectangle of C; the rows of A, the columns of B and the rectangle of C; and what to do beside multiplying.
    Elements of a row of C adjoin, whatever its column stride says.
    """
    return address_of(_multiply_single if itemsize == 4 else _multiply_double)


_PAGE = 4096  # bytes


class _Workspaces(threading.local):
    """Scratch memory of each calling thread, kept: fresh memory costs a page fault every few KB.

    Attributes:
        row_size: the bytes that a worker of a product needs.
    """

    row_size = MEMORY + max(plan.a_block + plan.b_block for plan in (SINGLE, DOUBLE))

    def __init__(self) -> None:
        self._kept: list[np.ndarray] = []

    def address(self, product: int = 0) -> int:
        """Memory for as many workers as there are threads, for one of the products of a launch, counted from 0.

        It begins with a page, so that no vector lies in two cache lines.
        """
        while product >= len(self._kept):
            size = numba.config.NUMBA_NUM_THREADS * self.row_size
            memory = np.empty(size + _PAGE, np.uint8)
            start = -array_address(memory) % _PAGE
            self._kept.append(memory[start : start + size])
        return data_address(self._kept[product])


workspaces = _Workspaces()
