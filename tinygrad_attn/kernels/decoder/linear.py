"""A linear map of a decoder's step: rows times a matrix that was packed before, plus a bias.

    y = activation(x matrix + bias),   or   y += x matrix + bias

Rows are divided among the threads as in the rest of a program, or the columns (`columns_call`): where there are few
rows and many columns, each thread reads its part of the matrix.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.decoder.int8 import Int8
from tinygrad_attn.kernels.decoder.program import Call, Columns
from tinygrad_attn.kernels.gemm.operands import Extent, Matrix
from tinygrad_attn.kernels.gemm.packed import Packed
from tinygrad_attn.kernels.gemm.tile import activate_tile
from tinygrad_attn.kernels.runtime.calls import call
from tinygrad_attn.kernels.runtime.jit import inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, read_struct, row_at

__all__ = ["Linear", "columns_call", "linear_of", "rows_call"]

_LEAST_BYTES = 1 << 16  # of a matrix that several threads read part by part: 3 µs, as long as a launch
RELU = 0  # its position in `kernels.gemm.tile.ACTIVATIONS`


class Linear(NamedTuple):
    """The arguments of `rows_call` and `columns_call`."""

    product: int  # the address of the kernel that multiplies by the matrix
    panels: Address  # as `kernels.gemm.packed.Packed` or `Int8` has them
    panel_bytes: int  # of one of them
    bias: Address  # (columns,), or None
    x: Address  # (rows, at least depth)
    x_row: int  # elements from row to row
    y: Address  # (rows, at least columns)
    y_row: int
    depth: int
    columns: int
    width: int  # of a panel
    activation: int  # its position in `kernels.gemm.tile.ACTIVATIONS`, or -1
    accumulate: int  # 1 to add to what y holds
    rows: Address  # (1,) int64, how many there are; `rows_call` does not read it


def linear_of(
    matrix: Packed | Int8,
    bias: np.ndarray | None,
    x: np.ndarray,
    y: np.ndarray,
    *,
    relu: bool = False,
    add: bool = False,
    rows: np.ndarray | None = None,
) -> Linear:
    """The arguments for a packed matrix; ``x`` and ``y`` may have more columns than it, which are left alone.

    Threads are at different places of a program, so a buffer that serves several maps has the same rows in all.
    """
    depth, width = (matrix.depth, matrix.width) if isinstance(matrix, Int8) else matrix.panels.shape[1:]
    panels = (matrix.panels, matrix.panels[0].nbytes)
    where = (x, x.shape[1], y, y.shape[1])
    activation = RELU if relu else -1
    return Linear(matrix.product, *panels, bias, *where, depth, matrix.columns, width, activation, int(add), rows)


@inlined_kernel
def _multiply(dtype: Any, size: int, s: Any, row: int, rows: int, first: int, last: int) -> None:
    """Some rows of x times the panels from ``first`` to ``last``; ``size`` is that of an element in bytes."""
    j = first * s.width
    columns = min(last * s.width, s.columns) - j
    a = Matrix(s.x + row * s.x_row * size, s.x_row * size, size)
    c = Matrix(s.y + (row * s.y_row + j) * size, s.y_row * size, size)
    bias = s.bias + j * size if s.bias != 0 else 0
    panels = s.panels + first * s.panel_bytes
    call(s.product, Extent(rows, columns, s.depth), a, panels, s.width, bias, c, s.accumulate, 0)
    if s.activation >= 0:
        activate_tile(dtype, s.activation, c, rows, columns)


def _make_rows(dtype: Any) -> Any:
    size = np.dtype(dtype).itemsize

    @serial_kernel
    def multiply_rows(arguments: int, first: int, last: int) -> None:
        s = read_struct(Linear, arguments)
        _multiply(dtype, size, s, first, last - first, 0, -(-s.columns // s.width))

    return multiply_rows


def _make_columns(dtype: Any) -> Any:
    size = np.dtype(dtype).itemsize

    @serial_kernel
    def multiply_columns(arguments: int, first: int, last: int) -> None:
        s = read_struct(Linear, arguments)
        _multiply(dtype, size, s, 0, row_at(np.int64, s.rows, 0, 1)[0], first, last)

    return multiply_columns


def rows_call(dtype: Any, arguments: Linear) -> Call:
    """The map of some rows; a program may divide its columns instead where it knows how many rows there are, unless the
    matrix is too small to be worth it."""
    kernel, struct = kernel_for(_make_rows, np.dtype(dtype).type), Struct(arguments)
    if arguments.rows is None or arguments.panels.nbytes < _LEAST_BYTES:
        return kernel, struct
    return kernel, struct, Columns(kernel_for(_make_columns, np.dtype(dtype).type), len(arguments.panels))


def columns_call(dtype: Any, arguments: Linear) -> Call:
    """The map of all rows to the columns of some panels of the matrix."""
    return kernel_for(_make_columns, np.dtype(dtype).type), Struct(arguments)
