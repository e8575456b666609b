"""Cross entropy of rows of logits against class indices, and its gradient, without the probabilities in between.

A row with target ``t`` has the loss ``-sum_c q_c log p_c`` with ``p = softmax(logits)`` and, as in PyTorch::

    q_c = weight_c * ((1 - label_smoothing) * [c = t] + label_smoothing / V)

so that with ``lse = log(sum(exp(logits)))`` the loss is ``sum(q) * lse - sum(q * logits)`` and its gradient
``sum(q) * exp(logits - lse) - q``. Only lse is kept from the forward pass.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from tinygrad_attn.kernels.runtime.jit import inlined_kernel, parallel_kernel, serial_kernel
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.softmax import row_maximum, row_total, shift_of

__all__ = ["cross_entropy", "cross_entropy_backward"]

_SERIAL_SIZE = 16384  # elements up to which waking the threads costs more than they save
_BLOCK_SIZE = 16384  # elements that a thread takes at a time, or one row if that is longer


# --- Rows -------------------------------------------------------------------------------------------------------------


@inlined_kernel
def _log_sum_exp(x: Any, start: int, whole: int, rest: int) -> Any:
    tail = simd.load_part(x, whole, rest, -math.inf)
    top = row_maximum(x, start, whole, tail)
    total = simd.splat(x, row_total(x, start, whole, tail, top))
    return simd.reduce_max(shift_of(x, top) + simd_math.log(total))


@inlined_kernel
def _smooth_sum(x: Any, weight: Any, weighted: bool, start: int, whole: int, rest: int) -> Any:
    """The sum of the row's logits, each times its class's weight if there are weights."""
    total = simd.load_part(x, whole, rest, 0.0)
    if weighted:
        total = total * simd.load_part(weight, whole - start, rest, 0.0)
        for i in range(start, whole, simd.lanes(x)):
            total = simd.fma(simd.load(x, i), simd.load(weight, i - start), total)
    else:
        for i in range(start, whole, simd.lanes(x)):
            total = total + simd.load(x, i)
    return simd.reduce_sum(total)


@serial_kernel
def _forward_rows(
    x: Any,
    targets: Any,
    weight: Any,
    losses: Any,
    lses: Any,
    size: int,
    ignore_index: int,
    smoothing: float,
    weight_sum: float,
    first: int,
    last: int,
) -> None:
    rest = size % simd.lanes(x)
    for row in range(first, last):
        start, target = row * size, targets[row]
        whole = start + size - rest
        if target == ignore_index:
            losses[row] = lses[row] = 0.0
            continue
        lses[row] = lse = _log_sum_exp(x, start, whole, rest)
        of_target = weight[target] if weight.size else 1.0
        loss = (1.0 - smoothing) * of_target * (lse - x[start + target])
        if smoothing > 0.0:
            smooth = weight_sum * lse - _smooth_sum(x, weight, weight.size > 0, start, whole, rest)
            loss += smoothing / size * smooth
        losses[row] = loss


@serial_kernel
def _backward_rows(
    scale: Any,
    x: Any,
    targets: Any,
    weight: Any,
    lses: Any,
    dx: Any,
    size: int,
    ignore_index: int,
    smoothing: float,
    weight_sum: float,
    first: int,
    last: int,
) -> None:
    rest = size % simd.lanes(x)
    for row in range(first, last):
        start, target = row * size, targets[row]
        if target == ignore_index:
            dx[start : start + size] = 0.0
            continue
        of_target = (1.0 - smoothing) * (weight[target] if weight.size else 1.0) * scale[row]
        share = simd.splat(x, smoothing / size * scale[row])
        total = simd.splat(x, of_target + smoothing / size * weight_sum * scale[row])
        _write_gradient(x, weight, weight.size > 0 and smoothing > 0.0, dx, start, size, rest, lses[row], total, share)
        dx[start + target] -= of_target


@inlined_kernel
def _write_gradient(
    x: Any, weight: Any, weighted: bool, dx: Any, start: int, size: int, rest: int, lse: float, total: Any, share: Any
) -> None:
    """``total * exp(x - lse) - share``, the share times the class's weight if ``weighted``."""
    whole = start + size - rest
    shift = simd.splat(x, lse)
    for i in range(start, whole, simd.lanes(x)):
        smooth = share * simd.load(weight, i - start) if weighted else share
        simd.store(dx, i, total * simd_math.exp(simd.load(x, i) - shift) - smooth)
    if rest:
        smooth = share * simd.load_part(weight, whole - start, rest, 0.0) if weighted else share
        tail = total * simd_math.exp(simd.load_part(x, whole, rest, 0.0) - shift) - smooth
        simd.store_part(dx, whole, rest, tail)


@parallel_kernel
def _forward_parallel(
    x: Any,
    targets: Any,
    weight: Any,
    losses: Any,
    lses: Any,
    size: int,
    ignore_index: int,
    smoothing: float,
    weight_sum: float,
    block: int,
) -> None:
    for i in numba.prange((targets.size + block - 1) // block):
        first, last = i * block, min(targets.size, (i + 1) * block)
        _forward_rows(x, targets, weight, losses, lses, size, ignore_index, smoothing, weight_sum, first, last)


@parallel_kernel
def _backward_parallel(
    scale: Any,
    x: Any,
    targets: Any,
    weight: Any,
    lses: Any,
    dx: Any,
    size: int,
    ignore_index: int,
    smoothing: float,
    weight_sum: float,
    block: int,
) -> None:
    for i in numba.prange((targets.size + block - 1) // block):
        first, last = i * block, min(targets.size, (i + 1) * block)
        _backward_rows(scale, x, targets, weight, lses, dx, size, ignore_index, smoothing, weight_sum, first, last)


# --- The public functions ---------------------------------------------------------------------------------------------


def cross_entropy(
    logits: np.ndarray,
    targets: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Each row's loss and log-sum-exp.

    Args:
        logits: ``(N, V)``, float32 or float64; copied unless C-contiguous.
        targets: ``(N,)`` integers from 0 to ``V - 1``, or ``ignore_index``.
        weight: ``(V,)``, of the logits' dtype, one factor a class; None for ones.
        ignore_index: the target of rows that do not count: loss and log-sum-exp are 0.
        label_smoothing: from 0 to 1, the share of the target's probability that all classes get alike.

    Returns:
        Two ``(N,)`` arrays of the logits' dtype. No reduction: with weights, PyTorch's mean divides by the sum of the
        targets' weights.

    Raises:
        IndexError: a target is neither a class nor ``ignore_index``.
    """
    logits, flat_targets, flat_weight = _check("cross_entropy", logits, targets, weight, ignore_index, label_smoothing)
    rows, size = logits.shape
    losses, lses = np.empty(rows, logits.dtype), np.empty(rows, logits.dtype)
    weight_sum = float(flat_weight.sum(dtype=np.float64)) if flat_weight.size else float(size)
    settings = (size, ignore_index, float(label_smoothing), weight_sum)
    arrays = (logits.reshape(-1), flat_targets, flat_weight, losses, lses)
    if logits.size <= _SERIAL_SIZE:
        _forward_rows(*arrays, *settings, 0, rows)
    else:
        _forward_parallel(*arrays, *settings, max(1, _BLOCK_SIZE // size))
    return losses, lses


def cross_entropy_backward(
    g: np.ndarray,
    logits: np.ndarray,
    targets: np.ndarray,
    lse: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """The gradient with respect to ``logits``, from ``g``, ``(N,)``, that of each row's loss; zeros in ignored rows.

    The other arguments are those of `cross_entropy`, and the log-sum-exp that it returned. ``out``, C-contiguous and
    as the logits, may be ``logits`` itself.
    """
    name = "cross_entropy_backward"
    logits, flat_targets, flat_weight = _check(name, logits, targets, weight, ignore_index, label_smoothing)
    rows, size = logits.shape
    for which, array in (("g", g), ("lse", lse)):
        if array.shape != (rows,) or array.dtype != logits.dtype:
            raise ValueError(
                f"{name}: {which} must be {(rows,)} and {logits.dtype} for logits {logits.shape}, "
                f"got {array.shape} {array.dtype}"
            )
    if out is None:
        out = np.empty(logits.shape, logits.dtype)
    elif out.shape != logits.shape or out.dtype != logits.dtype or not out.flags.carray:
        raise ValueError(
            f"{name}: out must be writeable, C-contiguous, {logits.shape} and {logits.dtype}, "
            f"got {out.shape} {out.dtype}"
        )
    weight_sum = float(flat_weight.sum(dtype=np.float64)) if flat_weight.size else float(size)
    settings = (size, ignore_index, float(label_smoothing), weight_sum)
    scale, lses = np.ascontiguousarray(g), np.ascontiguousarray(lse)
    arrays = (scale, logits.reshape(-1), flat_targets, flat_weight, lses, out.reshape(-1))
    if logits.size <= _SERIAL_SIZE:
        _backward_rows(*arrays, *settings, 0, rows)
    else:
        _backward_parallel(*arrays, *settings, max(1, _BLOCK_SIZE // size))
    return out


def _check(
    name: str,
    logits: np.ndarray,
    targets: np.ndarray,
    weight: np.ndarray | None,
    ignore_index: int,
    label_smoothing: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three arrays contiguous, the weights empty for None."""
    if logits.dtype != np.float32 and logits.dtype != np.float64:
        raise TypeError(f"{name}: dtype must be float32 or float64, got {logits.dtype}; convert with astype")
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"{name}: logits must be (N, V) with V at least 1, got {logits.shape}; reshape them")
    if targets.dtype.kind not in "iu":
        raise TypeError(f"{name}: targets must be integers, got {targets.dtype}")
    if targets.shape != logits.shape[:1]:
        raise ValueError(f"{name}: targets must be {logits.shape[:1]} for logits {logits.shape}, got {targets.shape}")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"{name}: label_smoothing must be from 0 to 1, got {label_smoothing}")
    classes = logits.shape[1]
    wrong = ((targets < 0) | (targets >= classes)) & (targets != ignore_index)
    if wrong.any():
        row = int(wrong.argmax())
        raise IndexError(
            f"{name}: targets must be from 0 to {classes - 1} for logits {logits.shape}, or ignore_index "
            f"({ignore_index}), got {targets[row]} in row {row}"
        )
    if weight is None:
        weight = np.empty(0, logits.dtype)
    elif weight.shape != (classes,) or weight.dtype != logits.dtype:
        raise ValueError(
            f"{name}: weight must be {(classes,)} and {logits.dtype} for logits {logits.shape}, "
            f"got {weight.shape} {weight.dtype}"
        )
    return np.ascontiguousarray(logits), np.ascontiguousarray(targets, np.int64), np.ascontiguousarray(weight)
