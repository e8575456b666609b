"""Products of a few rows with a matrix that is kept packed: what a decoder does at each step.

Reading the matrix takes longer than multiplying, so each thread reads a part of the columns, for all rows.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tinygrad_attn.kernels.gemm.packed import multiply_packed, pack, product_for
from tinygrad_attn.kernels.runtime.flat import flat
from tinygrad_attn.kernels.runtime.jit import get_num_threads, parallel_kernel, serial_kernel

__all__ = ["multiply_rows"]

_MOST_ROWS = 256  # with more, the blocked loops of `gemm`, which pack the rows too, are faster
_SERIAL_WORK = 60_000  # multiplications up to which waking the threads costs more than they save


@serial_kernel
def _multiply_share(
    worker: int, workers: int, product: int, a: Any, rows: int, packed: Any, bias: Any, c: Any, columns: int, relu: bool
) -> None:
    panels, depth, width = packed.shape
    first, last = panels * worker // workers, panels * (worker + 1) // workers
    j = first * width
    own, own_bias = packed[first:last], bias[j:] if bias.size > 0 else bias
    multiply_packed(
        product, a, 0, depth, rows, own, own_bias, c, j, columns, min(last * width, columns) - j, False, False
    )
    if relu:
        end = min(last * width, columns)
        for row in range(rows):
            for i in range(row * columns + j, row * columns + end):
                if c[i] < 0.0:
                    c[i] = 0.0


@parallel_kernel
def _multiply_in_parallel(
    workers: int, product: int, a: Any, rows: int, packed: Any, bias: Any, c: Any, columns: int, relu: bool
) -> None:
    for worker in numba.prange(workers):
        _multiply_share(np.int64(worker), workers, product, a, rows, packed, bias, c, columns, relu)


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
    arguments = (
        product_for(a.dtype), flat(a), rows, packed, flat(bias, a.dtype), out.reshape(-1), columns,
        activation is not None,
    )  # fmt: skip
    if rows * matrix.size <= _SERIAL_WORK:
        _multiply_share(0, 1, *arguments)
    else:
        _multiply_in_parallel(min(get_num_threads(), len(packed)), *arguments)
    return out
