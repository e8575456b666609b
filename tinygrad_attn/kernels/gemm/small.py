"""Products of small matrices, of which a batch has hundreds: the loops of `kernels.gemm.blocks` without their blocks.

All of B fits into one of its blocks, and a few tiles cover C. What is left to decide costs more than it saves: A is
read where it lies, and B too where its rows are whole vectors that adjoin.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.kernels.gemm.operands import Epilogue, Extent, Matrix
from tinygrad_attn.kernels.gemm.pack import pack_b
from tinygrad_attn.kernels.gemm.plan import DOUBLE, SINGLE, Plan
from tinygrad_attn.kernels.gemm.tile import activate_tile, multiply_tile
from tinygrad_attn.kernels.runtime.calls import address_of
from tinygrad_attn.kernels.runtime.jit import serial_kernel

__all__ = ["is_small", "small_product_for"]

_MOST_TILES = 4  # of rows


def is_small(rows: int, columns: int, depth: int, itemsize: int) -> bool:
    """Whether a product is one of those of `small_product_for`."""
    plan = SINGLE if itemsize == 4 else DOUBLE
    return 1 < rows <= _MOST_TILES * plan.tile_rows and columns <= 4 * plan.tile_columns and depth <= plan.block_depth


def _make_product(dtype: Any, plan: Plan) -> Any:
    size, width = plan.itemsize, plan.tile_columns

    @serial_kernel
    def multiply(scratch: int, extent: Extent, a: Matrix, b: Matrix, c: Matrix, epilogue: Epilogue) -> None:
        rows, columns, depth = extent
        tiles = 1
        while tiles * plan.tile_rows < rows:
            tiles += 1
        for j in range(0, columns, width):
            count = min(width, columns - j)
            panel = Matrix(b.address + j * b.column, b.row, size)
            if b.column != size or count % plan.lanes != 0:
                pack_b(dtype, scratch, Matrix(panel.address, b.column, b.row), count, depth)
                panel = Matrix(scratch, width * size, size)
            bias = epilogue.bias + j * size if epilogue.bias != 0 else 0
            i, left = 0, tiles
            while left > 0:
                height = (rows - i + left - 1) // left
                strip, target = Matrix(a.address + i * a.row, a.row, a.column), c.address + i * c.row + j * size
                part, tile = Extent(height, count, depth), Matrix(target, c.row, size)
                multiply_tile(dtype, part, strip, panel, tile, bias, epilogue.accumulate)
                if epilogue.activation >= 0:
                    activate_tile(dtype, epilogue.activation, tile, height, count)
                i, left = i + height, left - 1

    return multiply


_multiply_single, _multiply_double = _make_product(np.float32, SINGLE), _make_product(np.float64, DOUBLE)


def small_product_for(itemsize: int) -> int:
    """As `kernels.gemm.blocks.block_product_for`, for small products."""
    return address_of(_multiply_single if itemsize == 4 else _multiply_double)
