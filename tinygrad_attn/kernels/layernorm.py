"""Layer normalisation over the last axis, forward and backward.

Ba, Kiros and Hinton, "Layer Normalization", 2016::

    xhat = (x - mean) / sqrt(var + eps),   y = weight * xhat + bias

with the variance of a row's n elements the mean of their squares about the mean, as in PyTorch. Backward, with
``h = g * weight``::

    dx = rstd * (h - mean(h) - xhat * mean(h * xhat)),   dweight = sum of g * xhat,   dbias = sum of g over the rows

x may be the sum of two arrays, the output of a sublayer and its residual: it is formed wherever it is read, and stored
only where it is asked for, as what the next sublayer is added to. `layer_norm_in_numpy` and
`layer_norm_backward_in_numpy` say what the kernels compute.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime import atomics
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.jit import inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Job, Prepared
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, read_struct, row_at
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.sums import LONGEST_CHAIN, sum_over

__all__ = [
    "layer_norm",
    "layer_norm_backward",
    "layer_norm_backward_in_numpy",
    "layer_norm_call",
    "layer_norm_in_numpy",
]

Array = np.ndarray[Any, Any]

_SERIAL_SIZE = 16384  # elements up to which waking the threads costs more than they save
_BLOCK_SIZE = 16384  # elements that a thread takes at a time in the forward pass, or one row if that is longer
_GRADIENT_BLOCKS = 32  # partial sums of dweight and dbias: a number that must not depend on the threads
_GRADIENT_ROWS = 16  # rows in one of them, at least
_GRADIENT_LONGEST = 256  # and at most, if there are ever so many


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
    """What the kernels work on; gradients and sums are for the one backward."""

    x: Address  # (rows, size)
    residual: Address  # (rows, size), or None
    weight: Address  # (size,)
    bias: Address  # (size,)
    means: Address  # (rows,), written in the forward pass
    rstds: Address  # (rows,), likewise
    y: Address  # (rows, size)
    g: Address  # (rows, size)
    dx: Address  # (rows, size)
    sums: Address  # (blocks, 2, size), each block's share of dweight and of dbias
    total: Address  # (rows, size), x + residual, written in the forward pass, or None
    added: Address  # (rows, size), what is added to dx, or None
    parameters: Address  # (2, size), dweight and dbias: the sums of all blocks; or None
    done: int  # how many blocks have their sums, counted by the kernel
    rows: int
    size: int
    eps: float = 0.0
    block: int = 0  # rows in a block


_DONE = 8 * _Rows._fields.index("done")  # bytes from where the arguments begin


# --- Forward: a row is whole vectors, and the rest --------------------------------------------------------------------


@inlined_kernel
def _load(x: Any, residual: Any, i: int) -> Any:
    return simd.load(x, i) + simd.load(residual, i) if residual.size else simd.load(x, i)


@inlined_kernel
def _load_part(x: Any, residual: Any, i: int, count: int, fill: float) -> Any:
    part = simd.load_part(x, i, count, fill)
    return part + simd.load_part(residual, i, count, 0.0) if residual.size else part


@inlined_kernel
def _mean(x: Any, residual: Any, whole: int) -> Any:
    total = _load_part(x, residual, whole, x.size - whole, 0.0)
    for i in range(0, whole, simd.lanes(x)):
        total = total + _load(x, residual, i)
    return simd.reduce_sum(total) / x.size


@inlined_kernel
def _variance(x: Any, residual: Any, mean: Any, whole: int) -> Any:
    off = _load_part(x, residual, whole, x.size - whole, mean) - mean
    total = off * off
    for i in range(0, whole, simd.lanes(x)):
        off = _load(x, residual, i) - mean
        total = simd.fma(off, off, total)
    return simd.reduce_sum(total) / x.size


@inlined_kernel
def _write_sum(x: Any, residual: Any, total: Any) -> None:
    rest = x.size % simd.lanes(x)
    whole = x.size - rest
    for i in range(0, whole, simd.lanes(x)):
        simd.store(total, i, _load(x, residual, i))
    if rest:
        simd.store_part(total, whole, rest, _load_part(x, residual, whole, rest, 0.0))


def _make_forward(dtype: Any) -> Any:
    @serial_kernel
    def forward(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Rows, arguments)
        weight, bias = row_at(dtype, s.weight, 0, s.size), row_at(dtype, s.bias, 0, s.size)
        means, rstds = row_at(dtype, s.means, 0, s.rows), row_at(dtype, s.rstds, 0, s.rows)
        rest = s.size % simd.lanes(weight)
        whole = s.size - rest
        for row in range(first, last):
            x, residual = row_at(dtype, s.x, row, s.size), row_at(dtype, s.residual, row, s.size if s.residual else 0)
            y, total = row_at(dtype, s.y, row, s.size), row_at(dtype, s.total, row, s.size if s.total else 0)
            if total.size:
                _write_sum(x, residual, total)
            means[row] = _mean(x, residual, whole)
            rstds[row] = 1.0 / math.sqrt(_variance(x, residual, means[row], whole) + s.eps)
            mean, rstd = simd.splat(x, means[row]), simd.splat(x, rstds[row])
            for i in range(0, whole, simd.lanes(x)):
                xhat = (_load(x, residual, i) - mean) * rstd
                simd.store(y, i, simd.fma(xhat, simd.load(weight, i), simd.load(bias, i)))
            if rest:
                xhat = (_load_part(x, residual, whole, rest, 0.0) - mean) * rstd
                tail_weight, tail_bias = (
                    simd.load_part(weight, whole, rest, 0.0),
                    simd.load_part(bias, whole, rest, 0.0),
                )
                simd.store_part(y, whole, rest, simd.fma(xhat, tail_weight, tail_bias))

    return forward


def layer_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    residual: Array | None = None,
    total: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Normalise each row of ``x``, or of ``x + residual``.

    Args:
        x: ``(..., n)``, float32 or float64; copied unless C-contiguous.
        weight: ``(n,)``, of ``x``'s dtype; ones if None.
        bias: ``(n,)``, of ``x``'s dtype; zeros if None.
        eps: added to the variance.
        residual: as ``x``, or None.
        total: as ``x``, C-contiguous, where ``x + residual`` is to be written; or None.

    Returns:
        ``y`` as ``x``; each row's mean and 1 / sqrt(var + eps), of shape ``x.shape[:-1]``, for the backward pass.
    """
    weight = _check("layer_norm", x, weight, "weight", 1.0)
    bias = _check("layer_norm", x, bias, "bias", 0.0)
    _check_residual("layer_norm", x, residual)
    y = np.empty(x.shape, x.dtype)
    means, rstds = np.empty(x.shape[:-1], x.dtype), np.empty(x.shape[:-1], x.dtype)
    x, residual = np.ascontiguousarray(x), None if residual is None else np.ascontiguousarray(residual)
    prepared = _prepared_forward(x.dtype, means.size, weight.size, eps)
    prepared.launch((*_addresses(x, residual, weight, bias, means, rstds, y), 0, 0, 0, *_addresses(total), 0, 0, 0))
    return y, means, rstds


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared_forward(dtype: Any, rows: int, size: int, eps: float) -> Prepared:
    shares = 1 if rows * size <= _SERIAL_SIZE else min(rows, -(-rows * size // _BLOCK_SIZE))
    last = {"rows": rows, "size": size, "eps": eps}
    return Prepared(Job(kernel_for(_make_forward, dtype.type), _Rows, last, rows, shares))


def _addresses(*arrays: Array | None) -> list[int]:
    return [0 if array is None else data_address(array) for array in arrays]


def layer_norm_call(
    x: Array, y: Array, weight: Array | None, bias: Array | None, eps: float, residual: Array | None = None
) -> tuple[int, Struct]:
    """The kernel of `layer_norm`, and its arguments, for rows of ``x`` and ``y`` that are filled later.

    Arrays are (rows, n) and C-contiguous; ``y`` may be ``x``.
    """
    weight, bias = _check("layer_norm", x, weight, "weight", 1.0), _check("layer_norm", x, bias, "bias", 0.0)
    means, rstds = np.empty((2, len(x)), x.dtype)
    arrays = (x, residual, weight, bias, means, rstds, y)
    gradients: dict[str, Any] = {"g": None, "dx": None, "sums": None, "total": None, "added": None}
    gradients |= {"parameters": None, "done": 0}
    arguments = _Rows(*arrays, **gradients, rows=len(x), size=weight.size, eps=eps)
    return kernel_for(_make_forward, x.dtype.type), Struct(arguments)


# --- Backward ---------------------------------------------------------------------------------------------------------


def _make_backward(dtype: Any) -> Any:
    @serial_kernel
    def backward(arguments: int, first: int, last: int) -> None:
        """Write the ``dx`` of some blocks of rows, and their sums; who is the last adds up the sums of all."""
        s = read_struct(_Rows, arguments)
        weight = row_at(dtype, s.weight, 0, s.size)
        means, rstds = row_at(dtype, s.means, 0, s.rows), row_at(dtype, s.rstds, 0, s.rows)
        for block in range(first, last):
            dweight, dbias = row_at(dtype, s.sums, 2 * block, s.size), row_at(dtype, s.sums, 2 * block + 1, s.size)
            dweight[:] = 0.0
            dbias[:] = 0.0
            for row in range(block * s.block, min(s.rows, (block + 1) * s.block)):
                x = row_at(dtype, s.x, row, s.size)
                residual = row_at(dtype, s.residual, row, s.size if s.residual else 0)
                g, dx = row_at(dtype, s.g, row, s.size), row_at(dtype, s.dx, row, s.size)
                added = row_at(dtype, s.added, row, s.size if s.added else 0)
                _backward_row(g, _Row(x, residual, weight, means[row], rstds[row]), dweight, dbias, dx, added)
        blocks = -(-s.rows // s.block)
        if s.parameters != 0 and atomics.add(arguments + _DONE, last - first) == blocks - (last - first):
            total = row_at(dtype, s.parameters, 0, 2 * s.size)
            total[:] = row_at(dtype, s.sums, 0, 2 * s.size)
            for block in range(1, blocks):
                _add_to(total, row_at(dtype, s.sums, block, 2 * s.size))

    return backward


@inlined_kernel
def _add_to(total: Any, terms: Any) -> None:
    rest = total.size % simd.lanes(total)
    whole = total.size - rest
    for i in range(0, whole, simd.lanes(total)):
        simd.store(total, i, simd.load(total, i) + simd.load(terms, i))
    for i in range(whole, total.size):
        total[i] += terms[i]


class _Row(NamedTuple):
    x: Any
    residual: Any
    weight: Any
    mean: Any
    rstd: Any


@inlined_kernel
def _backward_row(g: Any, forward: Any, dweight: Any, dbias: Any, dx: Any, added: Any) -> None:
    """Write ``dx``, plus ``added`` unless that is empty, and add the row's share to ``dweight`` and ``dbias``."""
    x, residual, weight = forward.x, forward.residual, forward.weight
    mean, rstd = simd.splat(x, forward.mean), simd.splat(x, forward.rstd)
    step, size = simd.lanes(x), x.size
    rest = size % step
    whole = size - rest
    h_total, h_xhat_total = simd.splat(x, 0.0), simd.splat(x, 0.0)
    for i in range(0, whole, step):
        gradient = simd.load(g, i)
        xhat = (_load(x, residual, i) - mean) * rstd
        h = gradient * simd.load(weight, i)
        h_total = h_total + h
        h_xhat_total = simd.fma(h, xhat, h_xhat_total)
        simd.store(dweight, i, simd.fma(gradient, xhat, simd.load(dweight, i)))
        simd.store(dbias, i, simd.load(dbias, i) + gradient)
    if rest:
        gradient = simd.load_part(g, whole, rest, 0.0)
        tail_xhat = (_load_part(x, residual, whole, rest, 0.0) - mean) * rstd
        tail_h = gradient * simd.load_part(weight, whole, rest, 0.0)
        h_total = h_total + tail_h
        h_xhat_total = simd.fma(tail_h, tail_xhat, h_xhat_total)
        total = simd.fma(gradient, tail_xhat, simd.load_part(dweight, whole, rest, 0.0))
        simd.store_part(dweight, whole, rest, total)
        simd.store_part(dbias, whole, rest, simd.load_part(dbias, whole, rest, 0.0) + gradient)
    h_mean = simd.splat(x, simd.reduce_sum(h_total) / size)
    h_xhat_mean = simd.splat(x, simd.reduce_sum(h_xhat_total) / size)
    for i in range(0, whole, step):
        xhat = (_load(x, residual, i) - mean) * rstd
        h = simd.load(g, i) * simd.load(weight, i)
        gradient = (h - h_mean - xhat * h_xhat_mean) * rstd
        simd.store(dx, i, gradient + simd.load(added, i) if added.size else gradient)
    if rest:
        tail = (tail_h - h_mean - tail_xhat * h_xhat_mean) * rstd
        if added.size:
            tail = tail + simd.load_part(added, whole, rest, 0.0)
        simd.store_part(dx, whole, rest, tail)


def layer_norm_backward(
    g: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    rstd: Array,
    residual: Array | None = None,
    added: Array | None = None,
) -> tuple[Array, Array, Array]:
    """The gradients of ``layer_norm`` with respect to ``x``, ``weight`` and ``bias``, from ``g``, that of ``y``.

    The gradient of ``residual`` is that of ``x``. ``g`` has ``x``'s shape and dtype; ``mean`` and ``rstd`` are what the
    forward pass returned. dweight and dbias are sums over blocks of rows, the blocks in order: their bits do not depend
    on the number of threads. ``added``, the gradient that reaches x otherwise, is part of the first.
    """
    if g.shape != x.shape or g.dtype.char != x.dtype.char:
        raise ValueError(f"layer_norm_backward: gradient {g.shape} {g.dtype} must be as x, {x.shape} {x.dtype}")
    if mean.shape != x.shape[:-1] or rstd.shape != x.shape[:-1]:
        raise ValueError(
            f"layer_norm_backward: mean {mean.shape} and rstd {rstd.shape} must be {x.shape[:-1]} for x {x.shape}"
        )
    weight = _check("layer_norm_backward", x, weight, "weight", 1.0)
    _check_residual("layer_norm_backward", x, residual)
    dx = np.empty(x.shape, x.dtype)
    rows, size = mean.size, weight.size
    block = min(max(_GRADIENT_ROWS, -(-rows // _GRADIENT_BLOCKS)), _GRADIENT_LONGEST)
    sums, parameters = np.empty((-(-rows // block), 2, size), x.dtype), np.empty((2, size), x.dtype)
    few = 0 < len(sums) <= LONGEST_CHAIN
    arrays = [
        array if array is None or array.flags.c_contiguous else np.ascontiguousarray(array)
        for array in (x, residual, weight, None, mean, rstd, None, g, dx, sums, None, added)
    ]
    prepared = _prepared_backward(x.dtype, rows, size, block)
    prepared.launch((*_addresses(*arrays), data_address(parameters) if few else 0, 0))
    dweight, dbias = parameters if few else sum_over(sums, (0,))
    return dx, dweight, dbias


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared_backward(dtype: Any, rows: int, size: int, block: int) -> Prepared:
    blocks = -(-rows // block)
    last = {"rows": rows, "size": size, "block": block}
    shares = 1 if rows * size <= _SERIAL_SIZE else blocks
    return Prepared(Job(kernel_for(_make_backward, dtype.type), _Rows, last, blocks, shares))


def _check(name: str, x: Array, vector: Array | None, which: str, default: float) -> Array:
    """``weight`` or ``bias``, contiguous, after checking ``x`` and it."""
    if x.dtype.char not in "fd":
        raise TypeError(f"{name}: dtype must be float32 or float64, got {x.dtype}; convert with astype")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"{name}: x {x.shape} has no elements along its last axis to normalise")
    if vector is None:
        return _constant(x.shape[-1], default, x.dtype)
    if vector.shape != x.shape[-1:] or vector.dtype.char != x.dtype.char:
        raise ValueError(
            f"{name}: {which} must be {x.shape[-1:]} and {x.dtype} for x {x.shape}, got {vector.shape} {vector.dtype}"
        )
    return vector if vector.flags.c_contiguous else np.ascontiguousarray(vector)


@functools.lru_cache(maxsize=64)
def _constant(size: int, value: float, dtype: Any) -> Array:
    return np.full(size, value, dtype)


def _check_residual(name: str, x: Array, residual: Array | None) -> None:
    if residual is not None and (residual.shape != x.shape or residual.dtype.char != x.dtype.char):
        raise ValueError(f"{name}: residual {residual.shape} {residual.dtype} must be as x, {x.shape} {x.dtype}")
