"""Products of some rows with a matrix that was packed before, to be called from within kernels.

A recurrent layer multiplies a few rows by the same weights at every step. `kernels.gemm.product` would pack the weights
and wake the threads at each of them. Here the weights are packed once per sequence, and each thread multiplies the rows
of its own sequences.

A packed matrix (depth, columns) is an array (panels, depth, width): panel p holds the columns from p * width on, and
whatever fills up the last one is never used. An element of a product is one sum over the depth in its order, whatever
rows are multiplied along with it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tinygrad_attn.kernels.gemm.cache import packed_once
from tinygrad_attn.kernels.gemm.emitter import tile_shape
from tinygrad_attn.kernels.gemm.pack import pack_b
from tinygrad_attn.kernels.gemm.tile import multiply_tile
from tinygrad_attn.kernels.runtime.calls import address_of, call
from tinygrad_attn.kernels.runtime.jit import parallel_kernel, serial_kernel

__all__ = ["multiply_packed", "pack", "product_for"]

_SERIAL_SIZE = 16384  # elements up to which waking the threads costs more than they save


@serial_kernel
def _pack_panels(matrix: int, row: int, column: int, columns: int, packed: Any, first: int, last: int) -> None:
    """Panels of the matrix at an address, whose rows and columns are so many bytes apart."""
    _, depth, width = packed.shape
    for panel in range(first, last):
        target = packed.ctypes.data + panel * depth * width * packed.itemsize
        source = matrix + panel * width * column
        pack_b(packed.dtype, target, source, column, row, min(width, columns - panel * width), depth)


@parallel_kernel
def _pack_parallel(matrix: int, row: int, column: int, columns: int, packed: Any) -> None:
    for panel in numba.prange(len(packed)):
        first = np.int64(panel)
        _pack_panels(matrix, row, column, columns, packed, first, first + 1)


def pack(matrix: np.ndarray) -> np.ndarray:
    """Pack a matrix (depth, columns), float32 or float64 with any strides, for `multiply_packed`; once, if it is one of
    those of `tinygrad_attn.kernels.gemm.cache`."""
    return packed_once(matrix, _pack)


def _pack(matrix: np.ndarray) -> np.ndarray:
    depth, columns = matrix.shape
    width = tile_shape(matrix.itemsize).columns
    packed = np.empty((-(-columns // width), depth, width), matrix.dtype)
    arguments = (matrix.ctypes.data, *matrix.strides, columns, packed)
    if matrix.size <= _SERIAL_SIZE:
        _pack_panels(*arguments, 0, len(packed))
    else:
        _pack_parallel(*arguments)
    return packed


def _make_product(dtype: Any, size: int, most_rows: int) -> Any:
    """`multiply_packed` on addresses and strides in bytes, for one dtype whose elements have ``size`` bytes."""

    @serial_kernel
    def multiply(
        a: int,
        a_row: int,
        rows: int,
        b: int,
        panels: int,
        depth: int,
        width: int,
        bias: int,
        c: int,
        c_row: int,
        columns: int,
        accumulate: int,
        backwards: int,
    ) -> None:
        strips = -(-rows // most_rows)
        for i in range(panels):
            panel = panels - 1 - i if backwards else i
            column = panel * width
            row = 0
            for strip in range(strips):
                height = rows // strips + (strip < rows % strips)
                multiply_tile(
                    dtype,
                    height,
                    min(width, columns - column),
                    depth,
                    a + row * a_row,
                    a_row,
                    size,
                    b + column * depth * size,
                    width * size,
                    c + row * c_row + column * size,
                    c_row,
                    bias + column * size if bias != 0 else 0,
                    accumulate,
                )
                row += height

    return multiply


_multiply_single = _make_product(np.float32, 4, tile_shape(4).rows)
_multiply_double = _make_product(np.float64, 8, tile_shape(8).rows)


def product_for(dtype: Any) -> int:
    """The address of the product of a dtype's elements, for `multiply_packed`."""
    return address_of(_multiply_single if np.dtype(dtype).itemsize == 4 else _multiply_double)


@serial_kernel
def multiply_packed(
    product: int,
    a: Any,
    a_start: int,
    a_stride: int,
    rows: int,
    packed: Any,
    bias: Any,
    c: Any,
    c_start: int,
    c_stride: int,
    columns: int,
    accumulate: bool,
    backwards: bool,
) -> None:
    """C, or C +, = A B + bias for some rows of A and C.

    Panels are read from the last to the first if ``backwards``. What a product read last is still in the cache: where
    the panels are larger than that, every other product of a sequence should go backwards.

    Args:
        product: from `product_for`, for the dtype of all the arrays.
        a, c: flat arrays; a row starts every ``stride`` elements from ``start`` on. Its elements adjoin.
        packed: B, from `pack`.
        bias: (columns,), or empty.
    """
    panels, depth, width = packed.shape
    size = packed.itemsize
    call(
        product,
        a.ctypes.data + a_start * size,
        a_stride * size,
        rows,
        packed.ctypes.data,
        panels,
        depth,
        width,
        bias.ctypes.data if bias.size > 0 else 0,
        c.ctypes.data + c_start * size,
        c_stride * size,
        columns,
        int(accumulate),
        int(backwards),
    )
