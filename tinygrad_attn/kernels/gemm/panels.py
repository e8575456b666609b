"""Products with a matrix that lies in panels already, for kernels that use it more than once.

`kernels.gemm.blocks` packs what it multiplies and forgets it. A kernel that multiplies one part after another of a
matrix packs the whole with `packer_for` and gives the address of each part to `panel_product_for`'s kernel. A is read
where it lies, along its rows or along its columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.kernels.gemm.operands import Extent, Matrix
from tinygrad_attn.kernels.gemm.pack import pack_b
from tinygrad_attn.kernels.gemm.plan import tile_shape
from tinygrad_attn.kernels.gemm.tile import multiply_tile
from tinygrad_attn.kernels.runtime.calls import address_of
from tinygrad_attn.kernels.runtime.jit import kernel_part, serial_kernel

__all__ = ["multiply_panel", "packed_size", "packer_for", "panel_product_for"]


@kernel_part
def multiply_panel(
    dtype: Any, most_rows: int, extent: Any, a: Any, panel: Any, c: Any, bias: int, accumulate: int
) -> None:
    """Some columns of C, at most a tile's, and all rows, in strips of equal heights, at most ``most_rows``."""
    rows, columns, depth = extent
    strips = -(-rows // most_rows)
    row = 0
    for strip in range(strips):
        height = rows // strips + (strip < rows % strips)
        multiply_tile(
            dtype,
            Extent(height, columns, depth),
            Matrix(a.address + row * a.row, a.row, a.column),
            panel,
            Matrix(c.address + row * c.row, c.row, c.column),
            bias,
            accumulate,
        )
        row += height


def packed_size(rows: int, columns: int, itemsize: int) -> int:
    """The elements that the panels of a matrix take, with room behind the last one's columns."""
    width = tile_shape(itemsize).columns
    return -(-columns // width) * width * rows


def _make_product(dtype: Any, size: int, width: int, most_rows: int) -> Any:
    @serial_kernel
    def multiply(extent: Extent, a: Matrix, b: Matrix, c: Matrix, accumulate: int) -> None:
        rows, columns, depth = extent
        panel = b.address
        for j in range(0, columns, width):
            part = Extent(rows, min(width, columns - j), depth)
            target = Matrix(c.address + j * size, c.row, size)
            multiply_panel(dtype, most_rows, part, a, Matrix(panel, b.row, size), target, 0, accumulate)
            panel += b.column

    return multiply


def _make_packer(dtype: Any, size: int, width: int) -> Any:
    @serial_kernel
    def pack(extent: Extent, matrix: Matrix, panels: int) -> None:
        for j in range(0, extent.columns, width):
            source = Matrix(matrix.address + j * matrix.column, matrix.column, matrix.row)
            pack_b(dtype, panels + j * extent.rows * size, source, min(width, extent.columns - j), extent.rows)

    return pack


_single, _double = tile_shape(4), tile_shape(8)
_multiply_single = _make_product(np.float32, 4, _single.columns, _single.rows)
_multiply_double = _make_product(np.float64, 8, _double.columns, _double.rows)
_pack_single, _pack_double = _make_packer(np.float32, 4, _single.columns), _make_packer(np.float64, 8, _double.columns)


def panel_product_for(itemsize: int) -> int:
    """The address of the kernel ``(extent, a, b, c, accumulate)`` for float32 or float64: C, or C +, = A B.

    ``b`` has the address of the first panel, and the bytes from row to row in a panel and from panel to panel.
    Elements of a row of C adjoin.
    """
    return address_of(_multiply_single if itemsize == 4 else _multiply_double)


def packer_for(itemsize: int) -> int:
    """The address of the kernel ``(extent, matrix, panels)``: copy a matrix (rows, columns) to panels at an address.

    They are as wide as the tile, and `packed_size` elements in all. The depth of ``extent`` does not matter.
    """
    return address_of(_pack_single if itemsize == 4 else _pack_double)
