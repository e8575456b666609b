"""Layer normalisation over the last axis, forward and backward.

Ba, Kiros and Hinton, "Layer Normalization", 2016::

    xhat = (x - mean) / sqrt(var + eps),   y = weight * xhat + bias

with the variance of a row's n elements the mean of their squares about the mean, as in PyTorch. Backward, with
``h = g * weight``::

    dx = rstd * (h - mean(h) - xhat * mean(h * xhat)),   dweight = sum of g * xhat,   dbias = sum of g over the rows

x may be the sum of two arrays, the output of a sublayer and its residual: it is formed wherever it is read, and never
stored. `layer_norm_in_numpy` and `layer_norm_backward_in_numpy` say what the kernels compute.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np

from tinygrad_attn.kernels.runtime.jit import inlined_kernel, parallel_kernel, serial_kernel
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["layer_norm", "layer_norm_backward", "layer_norm_backward_in_numpy", "layer_norm_in_numpy"]

Array = np.ndarray[Any, Any]

_SERIAL_SIZE = 16384  # elements up to which waking the threads costs more than they save
_BLOCK_SIZE = 16384  # elements that a thread takes at a time in the forward pass, or one row if that is longer
_GRADIENT_BLOCKS = 32  # partial sums of dweight and dbias, at most: a number that must not depend on the threads
_GRADIENT_ROWS = 16  # rows in one of them, at least


def layer_norm_in_numpy(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """y, and each row's mean and 1 / sqrt(var + eps)."""
    mean = x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps)
    return weight * (x - mean) * rstd + bias, mean[..., 0], rstd[..., 0]


def layer_norm_backward_in_numpy(g: Array, x: Array, weight: Array, eps: float) -> tuple[Array, Array, Array]:
    """The gradients of x, weight and bias."""
    _, mean, rstd = (np.expand_dims(array, -1) for array in layer_norm_in_numpy(x, weight, weight, eps))
    xhat, h = (x - mean) * rstd, g * weight
    dx = rstd * (h - h.mean(-1, keepdims=True) - xhat * (h * xhat).mean(-1, keepdims=True))
    rows = tuple(range(x.ndim - 1))
    return dx, (g * xhat).sum(rows), g.sum(rows)


class _Rows(NamedTuple):
    """What both directions read; all arrays are flat."""

    x: Array  # (rows, n)
    residual: Array | None  # (rows, n)
    weight: Array  # (n,)
    means: Array  # (rows,), written in the forward pass
    rstds: Array  # (rows,), likewise


# --- Forward: a row is whole vectors from start to whole, and the rest ------------------------------------------------


@inlined_kernel
def _load(x: Any, residual: Any, i: int) -> Any:
    return simd.load(x, i) if residual is None else simd.load(x, i) + simd.load(residual, i)


@inlined_kernel
def _load_part(x: Any, residual: Any, i: int, count: int, fill: float) -> Any:
    part = simd.load_part(x, i, count, fill)
    return part if residual is None else part + simd.load_part(residual, i, count, 0.0)


@inlined_kernel
def _mean(x: Any, residual: Any, start: int, whole: int, rest: int) -> Any:
    total = _load_part(x, residual, whole, rest, 0.0)
    for i in range(start, whole, simd.lanes(x)):
        total = total + _load(x, residual, i)
    return simd.reduce_sum(total) / (whole + rest - start)


@inlined_kernel
def _variance(x: Any, residual: Any, mean: Any, start: int, whole: int, rest: int) -> Any:
    off = _load_part(x, residual, whole, rest, mean) - mean
    total = off * off
    for i in range(start, whole, simd.lanes(x)):
        off = _load(x, residual, i) - mean
        total = simd.fma(off, off, total)
    return simd.reduce_sum(total) / (whole + rest - start)


@serial_kernel
def _forward_rows(s: Any, bias: Any, y: Any, eps: float, first: int, last: int) -> None:
    x, residual, weight, means, rstds = s
    size = weight.size
    rest = size % simd.lanes(x)
    for row in range(first, last):
        start = row * size
        whole = start + size - rest
        means[row] = _mean(x, residual, start, whole, rest)
        rstds[row] = 1.0 / math.sqrt(_variance(x, residual, means[row], start, whole, rest) + eps)
        mean, rstd = simd.splat(x, means[row]), simd.splat(x, rstds[row])
        for i in range(start, whole, simd.lanes(x)):
            xhat = (_load(x, residual, i) - mean) * rstd
            simd.store(y, i, simd.fma(xhat, simd.load(weight, i - start), simd.load(bias, i - start)))
        if rest:
            xhat = (_load_part(x, residual, whole, rest, 0.0) - mean) * rstd
            tail_weight = simd.load_part(weight, whole - start, rest, 0.0)
            tail_bias = simd.load_part(bias, whole - start, rest, 0.0)
            simd.store_part(y, whole, rest, simd.fma(xhat, tail_weight, tail_bias))


@parallel_kernel
def _forward_parallel(s: Any, bias: Any, y: Any, eps: float, rows: int, block: int) -> None:
    for i in numba.prange((rows + block - 1) // block):
        _forward_rows(s, bias, y, eps, i * block, min(rows, (i + 1) * block))


def layer_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    residual: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Normalise each row of ``x``, or of ``x + residual``.

    Args:
        x: ``(..., n)``, float32 or float64; copied unless C-contiguous.
        weight: ``(n,)``, of ``x``'s dtype; ones if None.
        bias: ``(n,)``, of ``x``'s dtype; zeros if None.
        eps: added to the variance.
        residual: as ``x``, or None.

    Returns:
        ``y`` as ``x``; each row's mean and 1 / sqrt(var + eps), of shape ``x.shape[:-1]``, for the backward pass.
    """
    weight = _check("layer_norm", x, weight, "weight", 1.0)
    bias = _check("layer_norm", x, bias, "bias", 0.0)
    x = np.ascontiguousarray(x)
    residual = _flat_residual("layer_norm", x, residual)
    y = np.empty(x.shape, x.dtype)
    means, rstds = np.empty(x.shape[:-1], x.dtype), np.empty(x.shape[:-1], x.dtype)
    arguments = (_Rows(x.reshape(-1), residual, weight, means.reshape(-1), rstds.reshape(-1)), bias, y.reshape(-1))
    if x.size <= _SERIAL_SIZE:
        _forward_rows(*arguments, float(eps), 0, means.size)
    else:
        _forward_parallel(*arguments, float(eps), means.size, max(1, _BLOCK_SIZE // weight.size))
    return y, means, rstds


# --- Backward ---------------------------------------------------------------------------------------------------------


@serial_kernel
def _backward_rows(s: Any, g: Any, dx: Any, sums: Any, sums_start: int, first: int, last: int) -> None:
    """Write these rows' ``dx``, and add to ``sums`` from ``sums_start`` on their share of dweight, then of dbias."""
    x, residual, weight, means, rstds = s
    size = weight.size
    step = simd.lanes(x)
    rest = size % step
    for row in range(first, last):
        start = row * size
        whole = start + size - rest
        mean, rstd = simd.splat(x, means[row]), simd.splat(x, rstds[row])
        dweight, dbias = sums_start - start, sums_start + size - start
        h_total, h_xhat_total = simd.splat(x, 0.0), simd.splat(x, 0.0)
        for i in range(start, whole, step):
            gradient = simd.load(g, i)
            xhat = (_load(x, residual, i) - mean) * rstd
            h = gradient * simd.load(weight, i - start)
            h_total = h_total + h
            h_xhat_total = simd.fma(h, xhat, h_xhat_total)
            simd.store(sums, dweight + i, simd.fma(gradient, xhat, simd.load(sums, dweight + i)))
            simd.store(sums, dbias + i, simd.load(sums, dbias + i) + gradient)
        if rest:
            gradient = simd.load_part(g, whole, rest, 0.0)
            tail_xhat = (_load_part(x, residual, whole, rest, 0.0) - mean) * rstd
            tail_h = gradient * simd.load_part(weight, whole - start, rest, 0.0)
            h_total = h_total + tail_h
            h_xhat_total = simd.fma(tail_h, tail_xhat, h_xhat_total)
            total = simd.fma(gradient, tail_xhat, simd.load_part(sums, dweight + whole, rest, 0.0))
            simd.store_part(sums, dweight + whole, rest, total)
            total = simd.load_part(sums, dbias + whole, rest, 0.0) + gradient
            simd.store_part(sums, dbias + whole, rest, total)
        h_mean = simd.splat(x, simd.reduce_sum(h_total) / size)
        h_xhat_mean = simd.splat(x, simd.reduce_sum(h_xhat_total) / size)
        for i in range(start, whole, step):
            xhat = (_load(x, residual, i) - mean) * rstd
            h = simd.load(g, i) * simd.load(weight, i - start)
            simd.store(dx, i, (h - h_mean - xhat * h_xhat_mean) * rstd)
        if rest:
            simd.store_part(dx, whole, rest, (tail_h - h_mean - tail_xhat * h_xhat_mean) * rstd)


@parallel_kernel
def _backward_parallel(s: Any, g: Any, dx: Any, sums: Any, rows: int, block: int) -> None:
    for i in numba.prange((rows + block - 1) // block):
        _backward_rows(s, g, dx, sums, 2 * i * s.weight.size, i * block, min(rows, (i + 1) * block))


@serial_kernel
def _backward_serial(s: Any, g: Any, dx: Any, sums: Any, rows: int, block: int) -> None:
    for i in range((rows + block - 1) // block):
        _backward_rows(s, g, dx, sums, 2 * i * s.weight.size, i * block, min(rows, (i + 1) * block))


def layer_norm_backward(
    g: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    rstd: Array,
    residual: Array | None = None,
) -> tuple[Array, Array, Array]:
    """The gradients of ``layer_norm`` with respect to ``x``, ``weight`` and ``bias``, from ``g``, that of ``y``.

    The gradient of ``residual`` is that of ``x``. ``g`` has ``x``'s shape and dtype; ``mean`` and ``rstd`` are what the
    forward pass returned. dweight and dbias are sums over blocks of rows, the blocks in order: their bits do not depend
    on the number of threads.
    """
    if g.shape != x.shape or g.dtype != x.dtype:
        raise ValueError(f"layer_norm_backward: gradient {g.shape} {g.dtype} must be as x, {x.shape} {x.dtype}")
    if mean.shape != x.shape[:-1] or rstd.shape != x.shape[:-1]:
        raise ValueError(
            f"layer_norm_backward: mean {mean.shape} and rstd {rstd.shape} must be {x.shape[:-1]} for x {x.shape}"
        )
    weight = _check("layer_norm_backward", x, weight, "weight", 1.0)
    dx = np.empty(x.shape, x.dtype)
    rows, size = mean.size, weight.size
    block = max(_GRADIENT_ROWS, -(-rows // _GRADIENT_BLOCKS))
    sums = np.zeros((-(-rows // block), 2, size), x.dtype)
    g, x, mean, rstd = (np.ascontiguousarray(array).reshape(-1) for array in (g, x, mean, rstd))
    arguments = _Rows(x, _flat_residual("layer_norm_backward", dx, residual), weight, mean, rstd)
    run = _backward_serial if x.size <= _SERIAL_SIZE else _backward_parallel
    run(arguments, g, dx.reshape(-1), sums.reshape(-1), rows, block)
    dweight, dbias = sums.sum(axis=0)
    return dx, dweight, dbias


def _check(name: str, x: Array, vector: Array | None, which: str, default: float) -> Array:
    """``weight`` or ``bias``, contiguous, after checking ``x`` and it."""
    if x.dtype != np.float32 and x.dtype != np.float64:
        raise TypeError(f"{name}: dtype must be float32 or float64, got {x.dtype}; convert with astype")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"{name}: x {x.shape} has no elements along its last axis to normalise")
    if vector is None:
        return np.full(x.shape[-1], default, x.dtype)
    if vector.shape != x.shape[-1:] or vector.dtype != x.dtype:
        raise ValueError(
            f"{name}: {which} must be {x.shape[-1:]} and {x.dtype} for x {x.shape}, got {vector.shape} {vector.dtype}"
        )
    return np.ascontiguousarray(vector)


def _flat_residual(name: str, x: Array, residual: Array | None) -> Array | None:
    if residual is None:
        return None
    if residual.shape != x.shape or residual.dtype != x.dtype:
        raise ValueError(f"{name}: residual {residual.shape} {residual.dtype} must be as x, {x.shape} {x.dtype}")
    return np.ascontiguousarray(residual).reshape(-1)
