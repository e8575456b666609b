"""Cross entropy of rows of logits against class indices, and its gradient, without the probabilities in between.

A row with target ``t`` has the loss ``-sum_c q_c log p_c`` with ``p = softmax(logits)`` and, as in PyTorch::

    q_c = weight_c * ((1 - label_smoothing) * [c = t] + label_smoothing / V)

so that with ``lse = log(sum(exp(logits)))`` the loss is ``sum(q) * lse - sum(q * logits)`` and its gradient
``sum(q) * exp(logits - lse) - q``. Only lse is kept from the forward pass. `cross_entropy_in_numpy` says what the
kernels compute.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.indices import highest_index
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.jit import inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Job, Prepared
from tinygrad_attn.kernels.runtime.structs import Address, kernel_for, read_struct, row_at
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.softmax import row_maximum, row_total, shift_of

__all__ = ["cross_entropy", "cross_entropy_backward", "cross_entropy_in_numpy", "wrong_target"]

Array = np.ndarray[Any, Any]

_SERIAL_SIZE = 16384  # elements up to which waking the threads costs more than they save
_BLOCK_SIZE = 16384  # elements that a thread takes at a time, or one row if that is longer


def cross_entropy_in_numpy(
    logits: Array, targets: Array, weight: Array | None, ignore_index: int = -100, label_smoothing: float = 0.0
) -> tuple[Array, Array, Array]:
    """Each row's loss and log-sum-exp, and the gradient of the sum of the losses with respect to the logits."""
    classes, counts = logits.shape[1], targets != ignore_index
    one_hot = targets[:, None] == np.arange(classes)
    q = (1 - label_smoothing) * one_hot + label_smoothing / classes
    q = q * (1 if weight is None else weight) * counts[:, None]
    top = logits.max(1, keepdims=True)
    lse = top + np.log(np.exp(logits - top).sum(1, keepdims=True))
    losses, gradient = -(q * (logits - lse)).sum(1), q.sum(1, keepdims=True) * np.exp(logits - lse) - q
    return losses, np.where(counts, lse[:, 0], 0.0), gradient


# --- Rows -------------------------------------------------------------------------------------------------------------


class _Rows(NamedTuple):
    """What both directions work on; ``scale`` and ``dx`` are for the one backward."""

    logits: Address  # (rows, size)
    targets: Address  # (rows,) int64
    weight: Address  # (size,), or None
    losses: Address  # (rows,)
    lses: Address  # (rows,)
    scale: Address  # (rows,), the gradient of each row's loss
    dx: Address  # (rows, size)
    rows: int
    size: int
    ignore_index: int
    smoothing: float
    weight_sum: float


@inlined_kernel
def _log_sum_exp(x: Any, whole: int, rest: int) -> Any:
    tail = simd.load_part(x, whole, rest, -math.inf)
    top = row_maximum(x, whole, tail)
    total = simd.splat(x, row_total(x, whole, tail, top))
    return simd.reduce_max(shift_of(x, top) + simd_math.log(total))


@inlined_kernel
def _smooth_sum(x: Any, weight: Any, whole: int, rest: int) -> Any:
    """The sum of the row's logits, each times its class's weight if there are weights."""
    total = simd.load_part(x, whole, rest, 0.0)
    if weight.size:
        total = total * simd.load_part(weight, whole, rest, 0.0)
        for i in range(0, whole, simd.lanes(x)):
            total = simd.fma(simd.load(x, i), simd.load(weight, i), total)
    else:
        for i in range(0, whole, simd.lanes(x)):
            total = total + simd.load(x, i)
    return simd.reduce_sum(total)


def _make_forward(dtype: Any) -> Any:
    @serial_kernel
    def forward(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Rows, arguments)
        targets, weight = row_at(np.int64, s.targets, 0, s.rows), row_at(dtype, s.weight, 0, s.size if s.weight else 0)
        losses, lses = row_at(dtype, s.losses, 0, s.rows), row_at(dtype, s.lses, 0, s.rows)
        rest = s.size % simd.lanes(losses)
        for row in range(first, last):
            x, target = row_at(dtype, s.logits, row, s.size), targets[row]
            if target == s.ignore_index:
                losses[row] = lses[row] = 0.0
                continue
            lses[row] = lse = _log_sum_exp(x, s.size - rest, rest)
            of_target = weight[target] if weight.size else 1.0
            loss = (1.0 - s.smoothing) * of_target * (lse - x[target])
            if s.smoothing > 0.0:
                smooth = s.weight_sum * lse - _smooth_sum(x, weight, s.size - rest, rest)
                loss += s.smoothing / s.size * smooth
            losses[row] = loss

    return forward


def _make_backward(dtype: Any) -> Any:
    @serial_kernel
    def backward(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Rows, arguments)
        targets, weight = row_at(np.int64, s.targets, 0, s.rows), row_at(dtype, s.weight, 0, s.size if s.weight else 0)
        scale, lses = row_at(dtype, s.scale, 0, s.rows), row_at(dtype, s.lses, 0, s.rows)
        for row in range(first, last):
            x, dx, target = row_at(dtype, s.logits, row, s.size), row_at(dtype, s.dx, row, s.size), targets[row]
            if target == s.ignore_index:
                dx[:] = 0.0
                continue
            of_target = (1.0 - s.smoothing) * (weight[target] if weight.size else 1.0) * scale[row]
            share = simd.splat(x, s.smoothing / s.size * scale[row])
            total = simd.splat(x, of_target + s.smoothing / s.size * s.weight_sum * scale[row])
            _write_gradient(x, weight, weight.size > 0 and s.smoothing > 0.0, dx, lses[row], total, share)
            dx[target] -= of_target

    return backward


@inlined_kernel
def _write_gradient(x: Any, weight: Any, weighted: bool, dx: Any, lse: float, total: Any, share: Any) -> None:
    """``total * exp(x - lse) - share``, the share times the class's weight if ``weighted``."""
    rest = x.size % simd.lanes(x)
    whole = x.size - rest
    shift = simd.splat(x, lse)
    for i in range(0, whole, simd.lanes(x)):
        smooth = share * simd.load(weight, i) if weighted else share
        simd.store(dx, i, total * simd_math.exp(simd.load(x, i) - shift) - smooth)
    if rest:
        smooth = share * simd.load_part(weight, whole, rest, 0.0) if weighted else share
        tail = total * simd_math.exp(simd.load_part(x, whole, rest, 0.0) - shift) - smooth
        simd.store_part(dx, whole, rest, tail)


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared(
    make: Callable[[Any], Any],
    dtype: Any,
    shape: tuple[int, int],
    ignore_index: int,
    smoothing: float,
    weight_sum: float,
) -> Prepared:
    """The kernel that ``make`` makes for a dtype, on all rows."""
    rows, size = shape
    shares = 1 if rows * size <= _SERIAL_SIZE else min(rows, -(-rows * size // _BLOCK_SIZE))
    last = {"rows": rows, "size": size, "ignore_index": ignore_index, "smoothing": smoothing, "weight_sum": weight_sum}
    return Prepared(Job(kernel_for(make, dtype.type), _Rows, last, rows, shares))


def _launch(make: Callable[[Any], Any], arrays: tuple[Array | None, ...], settings: tuple[int, float]) -> None:
    """Run a kernel on arrays in the order of `_Rows`; those that are read may lie anyhow."""
    arrays = tuple([a if a is None or a.flags.c_contiguous else np.ascontiguousarray(a) for a in arrays])
    logits, weight = arrays[0], arrays[2]
    assert logits is not None
    prepared = _prepared(make, logits.dtype, logits.shape, *settings, _weight_sum(weight, logits.shape[1]))
    prepared.launch(tuple([0 if array is None else data_address(array) for array in arrays]))


# --- All rows ---------------------------------------------------------------------------------------------------------


def cross_entropy(
    logits: Array,
    targets: Array,
    weight: Array | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> tuple[Array, Array]:
    """Each row's loss and log-sum-exp.

    Args:
        logits: ``(N, V)``, float32 or float64; copied unless C-contiguous.
        targets: ``(N,)`` integers from 0 to ``V - 1``, or ``ignore_index``.
        weight: ``(V,)``, of the logits' dtype, one factor a class; None for ones.
        ignore_index: the target of rows that do not count: loss and log-sum-exp are 0.
        label_smoothing: from 0 to 1, the share of the target's probability that is divided equally among all classes.

    Returns:
        Two ``(N,)`` arrays of the logits' dtype. No reduction: with weights, PyTorch's mean divides by the sum of the
        targets' weights.

    Raises:
        IndexError: a target is neither a class nor ``ignore_index``.
    """
    _check("cross_entropy", logits, targets, weight, ignore_index, label_smoothing)
    rows = len(logits)
    losses, lses = np.empty(rows, logits.dtype), np.empty(rows, logits.dtype)
    arrays = (logits, targets.astype(np.int64, copy=False), weight, losses, lses, None, None)
    _launch(_make_forward, arrays, (ignore_index, label_smoothing))
    return losses, lses


def cross_entropy_backward(
    g: Array,
    logits: Array,
    targets: Array,
    lse: Array,
    weight: Array | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    out: Array | None = None,
) -> Array:
    """The gradient with respect to ``logits``, from ``g``, ``(N,)``, that of each row's loss; zeros in ignored rows.

    The other arguments are those of `cross_entropy`, and the log-sum-exp that it returned. ``out``, C-contiguous and
    as the logits, may be ``logits`` itself.
    """
    name = "cross_entropy_backward"
    _check(name, logits, targets, weight, ignore_index, label_smoothing)
    rows = len(logits)
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
    arrays = (logits, targets.astype(np.int64, copy=False), weight, None, lse, g, out)
    _launch(_make_backward, arrays, (ignore_index, label_smoothing))
    return out


def wrong_target(targets: Array, classes: int, ignore_index: int) -> int | None:
    """The position of the first of the integers ``targets`` that is neither a class nor ``ignore_index``, or None."""
    if not targets.size or highest_index(targets) < classes:
        return None
    wrong = ((targets < 0) | (targets >= classes)) & (targets != ignore_index)
    return int(wrong.argmax()) if wrong.any() else None


def _weight_sum(weight: Array | None, classes: int) -> float:
    return float(classes) if weight is None else float(weight.sum(dtype=np.float64))


def _check(
    name: str,
    logits: Array,
    targets: Array,
    weight: Array | None,
    ignore_index: int,
    label_smoothing: float,
) -> None:
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
    row = wrong_target(targets, classes, ignore_index)
    if row is not None:
        raise IndexError(
            f"{name}: targets must be from 0 to {classes - 1} for logits {logits.shape}, or ignore_index "
            f"({ignore_index}), got {targets[row]} in row {row}"
        )
    if weight is not None and (weight.shape != (classes,) or weight.dtype != logits.dtype):
        raise ValueError(
            f"{name}: weight must be {(classes,)} and {logits.dtype} for logits {logits.shape}, "
            f"got {weight.shape} {weight.dtype}"
        )
