"""Products of a few rows with a matrix that is kept packed: what a decoder does at each step.

Reading the matrix takes longer than multiplying, so each thread reads a part of the columns, for all rows. What is
computed is `kernels.gemm.product.gemm_in_numpy`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.gemm.operands import Extent, Matrix
from tinygrad_attn.kernels.gemm.packed import pack
from tinygrad_attn.kernels.runtime.calls import call
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, launch, read_struct, row_at
from tinygrad_attn.kernels.runtime.threads import get_num_threads

__all__ = ["multiply_rows"]

_MOST_ROWS = 256  # with more, the blocked loops of `gemm`, which pack the rows too, are faster
_SERIAL_WORK = 60_000  # multiplications up to which waking the threads costs more than they save


class _Product(NamedTuple):
    a: Address  # (rows, depth)
    panels: Address  # (panels, depth, width), of a matrix that is `Packed`
    bias: Address  # (columns,), or None
    c: Address  # (rows, columns)
    rows: int
    depth: int
    columns: int
    width: int
    product: int  # `Packed.product`
    relu: int


def _make_shares(dtype: Any) -> Any:
    size = np.dtype(dtype).itemsize

    @serial_kernel
    def multiply(arguments: int, first: int, last: int) -> None:
        """All rows times some panels."""
        s = read_struct(_Product, arguments)
        j, end = first * s.width, min(last * s.width, s.columns)
        call(
            s.product,
            Extent(s.rows, end - j, s.depth),
            Matrix(s.a, s.depth * size, size),
            s.panels + j * s.depth * size,
            s.width,
            s.bias + j * size if s.bias != 0 else 0,
            Matrix(s.c + j * size, s.columns * size, size),
            0,
            0,
        )
        if s.relu:
            for row in range(s.rows):
                c = row_at(dtype, s.c, row, s.columns)
                for i in range(j, end):
                    if c[i] < 0.0:
                        c[i] = 0.0

    return multiply


def multiply_rows(
    a: np.ndarray, matrix: np.ndarray, bias: np.ndarray | None, activation: str | None
) -> np.ndarray | None:
    """activation(a @ matrix + bias), or None where that is for `gemm` to do, or to refuse.

    Args:
        a: (..., depth), float32 or float64 as the others; any strides.
        matrix: (depth, columns), any strides.
        bias: (columns,), or None.
        activation: "relu", or None.
    """
    if matrix.ndim != 2 or a.ndim < 2 or a.dtype is not matrix.dtype or activation not in (None, "relu"):
        return None
    depth, columns = matrix.shape
    if a.shape[-1] != depth or not 0 < a.size <= _MOST_ROWS * depth or columns == 0:
        return None
    if bias is not None and (bias.shape != (columns,) or bias.dtype is not a.dtype):
        return None
    rows = a.size // depth
    packed, out = pack(matrix), np.empty((*a.shape[:-1], columns), a.dtype)
    panels, _, width = packed.panels.shape
    arguments = _Product(
        a, packed.panels, bias, out, rows, depth, columns, width, packed.product, int(activation is not None)
    )
    shares = 1 if rows * matrix.size <= _SERIAL_WORK else min(get_num_threads(), panels)
    dtype: Any = a.dtype.type
    launch(kernel_for(_make_shares, dtype), Struct(arguments), panels, shares)
    return out
