"""Products of a few rows with a matrix that is kept packed: what a decoder does at each step.

Reading the matrix takes longer than multiplying, so each thread reads a part of the columns, for all rows. What is
computed is `kernels.gemm.product.gemm_in_numpy`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tinygrad_attn.kernels.gemm.packed import Packed, Rows, multiply_packed, pack
from tinygrad_attn.kernels.runtime.flat import flat
from tinygrad_attn.kernels.runtime.jit import parallel_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.threads import get_num_threads

__all__ = ["multiply_rows"]

_MOST_ROWS = 256  # with more, the blocked loops of `gemm`, which pack the rows too, are faster
_SERIAL_WORK = 60_000  # multiplications up to which waking the threads costs more than they save


@serial_kernel
def _multiply_share(worker: int, workers: int, rows: int, a: Any, b: Any, bias: Any, c: Any, relu: bool) -> None:
    """One worker's share: some panels of B, which is `Packed`, for all rows."""
    panels, depth, width = b.panels.shape
    columns = b.columns
    first, last = panels * worker // workers, panels * (worker + 1) // workers
    j, end = first * width, min(last * width, columns)
    own, own_bias = Packed(b.panels[first:last], end - j, b.product), bias[j:] if bias.size > 0 else bias
    multiply_packed(rows, Rows(a, 0, depth), own, own_bias, Rows(c, j, columns), False, False)
    if relu:
        for row in range(rows):
            for i in range(row * columns + j, row * columns + end):
                if c[i] < 0.0:
                    c[i] = 0.0


@parallel_kernel
def _multiply_in_parallel(workers: int, rows: int, a: Any, b: Any, bias: Any, c: Any, relu: bool) -> None:
    for worker in numba.prange(workers):
        _multiply_share(np.int64(worker), workers, rows, a, b, bias, c, relu)


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
    arguments = (rows, flat(a), packed, flat(bias, a.dtype), out.reshape(-1), activation is not None)
    if rows * matrix.size <= _SERIAL_WORK:
        _multiply_share(0, 1, *arguments)
    else:
        _multiply_in_parallel(min(get_num_threads(), len(packed.panels)), *arguments)
    return out
