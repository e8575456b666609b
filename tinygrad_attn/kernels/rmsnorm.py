"""Root mean square normalisation over the last axis, forward and backward.

Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019::

    xhat = x / sqrt(mean(x²) + eps),   y = weight * xhat

Backward, with ``h = g * weight`` and ``factor = 1 / sqrt(mean(x²) + eps)``::

    dx = factor * (h - xhat * mean(h * xhat)),   dweight = sum of g * xhat over the rows

`rms_norm_in_numpy` and `rms_norm_backward_in_numpy` say what the kernels compute.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.jit import inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, launch, read_struct, row_at
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.sums import sum_over

__all__ = [
    "normalise_row",
    "rms_norm",
    "rms_norm_backward",
    "rms_norm_backward_in_numpy",
    "rms_norm_call",
    "rms_norm_in_numpy",
]

Array = np.ndarray[Any, Any]

_SERIAL_SIZE = 16384  # elements up to which waking the threads costs more than they save
_BLOCK_SIZE = 16384  # elements that a thread takes at a time in the forward pass, or one row if that is longer
_GRADIENT_BLOCKS = 32  # partial sums of dweight: a number that must not depend on the threads
_GRADIENT_ROWS = 16  # rows in one of them, at least
_GRADIENT_LONGEST = 256  # and at most, if there are ever so many


def rms_norm_in_numpy(x: Array, weight: Array | float, eps: float) -> tuple[Array, Array]:
    """y, and each row's 1 / sqrt(mean(x²) + eps)."""
    factor = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
    return weight * x * factor, factor[..., 0]


def rms_norm_backward_in_numpy(g: Array, x: Array, weight: Array | float, eps: float) -> tuple[Array, Array]:
    """The gradients of x and weight."""
    factor = rms_norm_in_numpy(x, weight, eps)[1][..., None]
    xhat, h = x * factor, g * weight
    return factor * (h - xhat * (h * xhat).mean(-1, keepdims=True)), (g * xhat).sum(tuple(range(x.ndim - 1)))


class _Rows(NamedTuple):
    """What the kernels work on; the last four are for the one backward."""

    x: Address  # (rows, size)
    weight: Address  # (size,)
    factors: Address  # (rows,), written in the forward pass
    rows: int
    size: int
    eps: float = 0.0
    y: Address = None  # (rows, size)
    g: Address = None  # (rows, size)
    dx: Address = None  # (rows, size)
    sums: Address = None  # (blocks, size), each block's share of dweight
    block: int = 0  # rows in a block


@inlined_kernel
def _mean_square(x: Any, whole: int) -> Any:
    tail = simd.load_part(x, whole, x.size - whole, 0.0)
    total = tail * tail
    for i in range(0, whole, simd.lanes(x)):
        part = simd.load(x, i)
        total = simd.fma(part, part, total)
    return simd.reduce_sum(total) / x.size


@inlined_kernel
def normalise_row(x: Any, weight: Any, eps: float, y: Any) -> Any:
    """Write a row, divided by its root mean square, to ``y``, which may be ``x``; returns what it was multiplied by."""
    step, rest = simd.lanes(x), x.size % simd.lanes(x)
    whole = x.size - rest
    scale = 1.0 / math.sqrt(_mean_square(x, whole) + eps)
    factor = simd.splat(x, scale)
    for i in range(0, whole, step):
        simd.store(y, i, simd.load(x, i) * factor * simd.load(weight, i))
    if rest:
        tail = simd.load_part(x, whole, rest, 0.0) * factor
        simd.store_part(y, whole, rest, tail * simd.load_part(weight, whole, rest, 0.0))
    return scale


def _make_forward(dtype: Any) -> Any:
    @serial_kernel
    def forward(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Rows, arguments)
        weight, factors = row_at(dtype, s.weight, 0, s.size), row_at(dtype, s.factors, 0, s.rows)
        for row in range(first, last):
            x, y = row_at(dtype, s.x, row, s.size), row_at(dtype, s.y, row, s.size)
            factors[row] = normalise_row(x, weight, s.eps, y)

    return forward


@inlined_kernel
def _backward_row(g: Any, x: Any, weight: Any, scale: Any, dweight: Any, dx: Any) -> None:
    """Write ``dx``, and add the row's share to ``dweight``."""
    factor, step, size = simd.splat(x, scale), simd.lanes(x), x.size
    rest = size % step
    whole = size - rest
    total = simd.splat(x, 0.0)
    for i in range(0, whole, step):
        gradient, xhat = simd.load(g, i), simd.load(x, i) * factor
        total = simd.fma(gradient * simd.load(weight, i), xhat, total)
        simd.store(dweight, i, simd.fma(gradient, xhat, simd.load(dweight, i)))
    if rest:
        gradient, tail_xhat = simd.load_part(g, whole, rest, 0.0), simd.load_part(x, whole, rest, 0.0) * factor
        tail_h = gradient * simd.load_part(weight, whole, rest, 0.0)
        total = simd.fma(tail_h, tail_xhat, total)
        tail_weight = simd.fma(gradient, tail_xhat, simd.load_part(dweight, whole, rest, 0.0))
        simd.store_part(dweight, whole, rest, tail_weight)
    mean = simd.splat(x, simd.reduce_sum(total) / size)
    for i in range(0, whole, step):
        h, xhat = simd.load(g, i) * simd.load(weight, i), simd.load(x, i) * factor
        simd.store(dx, i, (h - xhat * mean) * factor)
    if rest:
        simd.store_part(dx, whole, rest, (tail_h - tail_xhat * mean) * factor)


def _make_backward(dtype: Any) -> Any:
    @serial_kernel
    def backward(arguments: int, first: int, last: int) -> None:
        """Write the ``dx`` of some blocks of rows, and their sums."""
        s = read_struct(_Rows, arguments)
        weight, factors = row_at(dtype, s.weight, 0, s.size), row_at(dtype, s.factors, 0, s.rows)
        for block in range(first, last):
            dweight = row_at(dtype, s.sums, block, s.size)
            for row in range(block * s.block, min(s.rows, (block + 1) * s.block)):
                g, x = row_at(dtype, s.g, row, s.size), row_at(dtype, s.x, row, s.size)
                _backward_row(g, x, weight, factors[row], dweight, row_at(dtype, s.dx, row, s.size))

    return backward


def rms_norm(x: Array, weight: Array | None, eps: float) -> tuple[Array, Array]:
    """Divide each row of ``x`` by its root mean square.

    Args:
        x: ``(..., n)``, float32 or float64, n at least 1; copied unless C-contiguous.
        weight: ``(n,)``, of ``x``'s dtype; ones if None.
        eps: added to the mean square.

    Returns:
        ``y`` as ``x``; each row's 1 / sqrt(mean(x²) + eps), of shape ``x.shape[:-1]``, for the backward pass.
    """
    y, factors = np.empty(x.shape, x.dtype), np.empty(x.shape[:-1], x.dtype)
    rows, size = factors.size, x.shape[-1]
    arguments = _Rows(x, _weight(x, weight), factors, rows, size, eps, y)
    shares = 1 if x.size <= _SERIAL_SIZE else min(rows, -(-x.size // _BLOCK_SIZE))
    launch(kernel_for(_make_forward, x.dtype.type), Struct(arguments), rows, shares)
    return y, factors


def rms_norm_call(x: Array, y: Array, weight: Array | None, eps: float) -> tuple[int, Struct]:
    """The kernel of `rms_norm`, and its arguments, for rows of ``x`` and ``y`` that are filled later.

    Arrays are (rows, n) and C-contiguous; ``y`` may be ``x``.
    """
    arguments = _Rows(x, _weight(x, weight), np.empty(len(x), x.dtype), len(x), x.shape[-1], eps, y)
    return kernel_for(_make_forward, x.dtype.type), Struct(arguments)


def rms_norm_backward(g: Array, x: Array, weight: Array | None, factors: Array) -> tuple[Array, Array]:
    """The gradients of ``rms_norm`` with respect to ``x`` and ``weight``, from ``g``, that of ``y``.

    ``factors`` is what the forward pass returned. dweight is a sum over blocks of rows, the blocks in order: its bits
    do not depend on the number of threads.
    """
    dx, rows, size = np.empty(x.shape, x.dtype), factors.size, x.shape[-1]
    block = min(max(_GRADIENT_ROWS, -(-rows // _GRADIENT_BLOCKS)), _GRADIENT_LONGEST)
    sums = np.zeros((-(-rows // block), size), x.dtype)
    arguments = _Rows(x, _weight(x, weight), factors, rows, size, g=g, dx=dx, sums=sums, block=block)
    shares = 1 if x.size <= _SERIAL_SIZE else len(sums)
    launch(kernel_for(_make_backward, x.dtype.type), Struct(arguments), len(sums), shares)
    return dx, sum_over(sums, (0,))


def _weight(x: Array, weight: Array | None) -> Array:
    return np.ones(x.shape[-1], x.dtype) if weight is None else weight
