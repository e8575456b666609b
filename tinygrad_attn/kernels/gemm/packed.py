"""Products of some rows with a matrix that was packed before, to be called from within kernels.

A recurrent layer multiplies a few rows by the same weights at every step. `kernels.gemm.product` would pack the weights
and wake the threads at each of them. Here the weights are packed once per sequence, and each thread multiplies the rows
of its own sequences. An element of a product is one sum over the depth in its order, whatever rows are multiplied along
with it.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.gemm.cache import packed_memory, packed_once
from tinygrad_attn.kernels.gemm.operands import Extent, Matrix
from tinygrad_attn.kernels.gemm.pack import pack_b
from tinygrad_attn.kernels.gemm.panels import multiply_panel
from tinygrad_attn.kernels.gemm.plan import tile_shape
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.calls import address_of, call
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Job, Prepared
from tinygrad_attn.kernels.runtime.structs import Address, kernel_for, read_struct
from tinygrad_attn.kernels.runtime.threads import get_num_threads

__all__ = ["Packed", "Rows", "multiply_packed", "multiply_packed_in_numpy", "pack", "packed_product_for"]

_SERIAL_SIZE = 16384  # elements up to which waking the threads costs more than they save
_CHUNK = 16  # rows


def multiply_packed_in_numpy(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, c: np.ndarray, accumulate: bool
) -> None:
    """What `multiply_packed` computes, for rows of A and C, and B as it was before it was packed."""
    product = a @ b if bias is None else a @ b + bias
    c[...] = c + product if accumulate else product


class Packed(NamedTuple):
    """A matrix (depth, columns), packed: panel p holds the columns from p * width on.

    What fills up the last panel is never used.
    """

    panels: np.ndarray  # (number of panels, depth, width)
    columns: int
    product: int  # the address of the kernel that multiplies by it


class Rows(NamedTuple):
    """Rows that lie in a flat array at equal distances: row i begins at element ``start + i * stride``."""

    elements: np.ndarray
    start: int
    stride: int


# --- Packing ----------------------------------------------------------------------------------------------------------


class _Packing(NamedTuple):
    address: Address  # of a `Matrix`, as row and column
    panels: Address  # (number of panels, depth, width)
    row: int
    column: int
    depth: int
    columns: int
    width: int


def _make_packing(dtype: Any) -> Any:
    size = np.dtype(dtype).itemsize

    @serial_kernel
    def write_panels(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Packing, arguments)
        # Along rows that adjoin, some rows of all panels before the next ones: whole cache lines, fetched in time.
        chunk = _CHUNK if s.column == size else max(1, s.depth)
        for k in range(0, s.depth, chunk):
            rows = min(chunk, s.depth - k)
            for panel in range(first, last):
                column = panel * s.width
                source = Matrix(s.address + column * s.column + k * s.row, s.column, s.row)
                target = s.panels + (column * s.depth + k * s.width) * size
                pack_b(dtype, target, source, min(s.width, s.columns - column), rows)

    return write_panels


def pack(matrix: np.ndarray) -> Packed:
    """Pack a matrix (depth, columns), float32 or float64 with any strides, for `multiply_packed`; once, if it is one of
    those of `tinygrad_attn.kernels.gemm.cache`."""
    return packed_once(matrix, _pack)


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared(
    shape: tuple[int, int], strides: tuple[int, int], dtype: Any, threads: int
) -> tuple[tuple[int, int, int], Prepared]:
    """The shape of the panels, and the launch that writes them."""
    (depth, columns), (row, column), width = shape, strides, tile_shape(dtype.itemsize).columns
    panels = -(-columns // width)
    last = {"row": row, "column": column, "depth": depth, "columns": columns, "width": width}
    shares = 1 if depth * columns <= _SERIAL_SIZE else min(panels, threads)
    job = Job(kernel_for(_make_packing, dtype.type), _Packing, last, panels, shares)
    return (panels, depth, width), Prepared(job)


def _pack(matrix: np.ndarray) -> Packed:
    dtype = matrix.dtype
    shape, prepared = _prepared(matrix.shape, matrix.strides, dtype, get_num_threads())
    panels = packed_memory(matrix, shape, dtype)
    prepared.launch((data_address(matrix), data_address(panels)))
    return Packed(panels, matrix.shape[1], packed_product_for(dtype.itemsize))


# --- Products ---------------------------------------------------------------------------------------------------------


def _make_product(dtype: Any, size: int, most_rows: int) -> Any:
    """`multiply_packed` on addresses, for one dtype whose elements have ``size`` bytes."""

    @serial_kernel
    def multiply(
        extent: Extent, a: Matrix, panels: int, width: int, bias: int, c: Matrix, accumulate: int, backwards: int
    ) -> None:
        """``panels`` is the address of B's panels, each ``width`` columns wide."""
        rows, columns, depth = extent
        count = -(-columns // width)
        for i in range(count):
            panel = count - 1 - i if backwards else i
            column = panel * width
            multiply_panel(
                dtype,
                most_rows,
                Extent(rows, min(width, columns - column), depth),
                a,
                Matrix(panels + column * depth * size, width * size, size),
                Matrix(c.address + column * size, c.row, size),
                bias + column * size if bias != 0 else 0,
                accumulate,
            )

    return multiply


_multiply_single = _make_product(np.float32, 4, tile_shape(4).rows)
_multiply_double = _make_product(np.float64, 8, tile_shape(8).rows)


def packed_product_for(itemsize: int) -> int:
    """The address of the product by panels of elements of so many bytes."""
    return address_of(_multiply_single if itemsize == 4 else _multiply_double)


@serial_kernel
def multiply_packed(count: int, a: Any, b: Any, bias: Any, c: Any, accumulate: bool, backwards: bool) -> None:
    """C, or C +, = A B + bias for ``count`` rows of A and C.

    Panels are read from the last to the first if ``backwards``. What a product read last is still in the cache: where
    the panels are larger than that, every other product of a sequence should go backwards.

    Args:
        count: of rows.
        a: `Rows` of A, of B's dtype as all arrays.
        b: B, `Packed` by `pack`.
        bias: (columns of B,), or empty.
        c: `Rows` of C.
        accumulate: whether to add to what C holds.
        backwards: the order of the panels.
    """
    _, depth, width = b.panels.shape
    size = b.panels.itemsize
    call(
        b.product,
        Extent(count, b.columns, depth),
        Matrix(np.int64(a.elements.ctypes.data) + a.start * size, a.stride * size, size),
        b.panels.ctypes.data,
        width,
        bias.ctypes.data if bias.size > 0 else 0,
        Matrix(np.int64(c.elements.ctypes.data) + c.start * size, c.stride * size, size),
        int(accumulate),
        int(backwards),
    )
