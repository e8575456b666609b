"""Scaled dot-product attention of every head in one kernel, forward and backward, without a matrix of all weights.

For one head of one sequence, with queries Q (L, d), keys K (S, d) and values V (S, e)::

    P = softmax(scale Q Kᵀ),    O = P V

and backward, from G, the gradient of O::

    dV = Pᵀ G,    dP = G Vᵀ,    dS = scale P (dP - rowsum(P dP)),    dQ = dS K,    dK = dSᵀ Q

A block of queries at a time is scored against all keys, and its weights are gone when its output is written. Backward
computes them again from what forward keeps of each row: its largest score and the reciprocal of its sum of exponentials
(Dao et al., "FlashAttention", 2022, which cuts the keys into blocks too; here a row of them fits in the cache).

Queries, keys and values are read where they lie, with any strides except along the last axis, so that the heads of a
(batch, length, 3 · heads · d) projection need not be copied out of it. The products are those of `gemm_blocks`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numba
import numpy as np

from tinygrad_attn.kernels.gemm.blocks import DOUBLE, SINGLE, block_product_for, workspaces
from tinygrad_attn.kernels.runtime.calls import call
from tinygrad_attn.kernels.runtime.jit import get_num_threads, inlined_kernel, parallel_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.subnormals import flush_subnormals, restore_subnormals
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.softmax import shift_of

__all__ = ["adjoining", "attention", "attention_backward", "flat_mask", "weigh_row"]

_SERIAL_WORK = 80**3  # multiplications up to which waking the threads costs more than they save
_BLOCK_STRIPS = 4  # queries scored at a time, in tiles of the matrix product

# Rows of the table of operands; each is an address and the strides in bytes from batch to batch, head to head and row
# to row. The table of backward has them all, that of forward those up to O.
_Q, _K, _V, _O, _DQ, _DK, _DV = range(7)
# Places in the list of sizes.
_BATCH, _HEADS, _QUERIES, _KEYS, _WIDTH, _VALUE_WIDTH = range(6)


# --- One row of scores, in scratch[start : start + count] -------------------------------------------------------------


@inlined_kernel
def _masked(x: Any, mask: Any, at: int, scale: float) -> Any:
    return simd.select(simd.load_mask(mask, at, x), x * scale, -math.inf)


@inlined_kernel
def _masked_tail(x: Any, mask: Any, at: int, rest: int, scale: float) -> Any:
    """A row's last ``rest`` elements, and -inf behind them."""
    return simd.select(simd.load_mask_part(mask, at, rest, x), x * scale, -math.inf)


@serial_kernel
def weigh_row(
    scratch: Any, start: int, count: int, scale: float, mask: Any, mask_at: int, tops: Any, factors: Any, row: int
) -> None:
    """Products of a query with ``count`` keys become weights; their largest and 1 / sum are kept at ``row``."""
    step = simd.lanes(scratch)
    rest = count % step
    whole = start + count - rest
    at = mask_at - start
    highest = simd.splat(scratch, -math.inf)
    for i in range(start, whole, step):
        x = _masked(simd.load(scratch, i), mask, at + i, scale)
        simd.store(scratch, i, x)
        highest = simd.maximum(highest, x)
    tail = _masked_tail(simd.load_part(scratch, whole, rest, 0.0), mask, at + whole, rest, scale)
    top = simd.reduce_max(simd.maximum(highest, tail))
    shift = shift_of(scratch, top)
    tail = simd_math.exp(tail - shift)
    total = tail
    for i in range(start, whole, step):
        grown = simd_math.exp(simd.load(scratch, i) - shift)
        simd.store(scratch, i, grown)
        total = total + grown
    sum_of_all = simd.reduce_sum(total)
    factor = 0.0 if sum_of_all == 0.0 else 1.0 / sum_of_all
    tops[row], factors[row] = top, factor
    for i in range(start, whole, step):
        simd.store(scratch, i, simd.load(scratch, i) * factors[row])
    simd.store_part(scratch, whole, rest, tail * factors[row])


@serial_kernel
def _differentiate_row(
    scratch: Any,
    start: int,
    gradient: int,
    count: int,
    scale: float,
    mask: Any,
    mask_at: int,
    tops: Any,
    factors: Any,
    row: int,
) -> None:
    """Products with the keys become weights again, and what is at ``gradient``, dP, becomes dS."""
    step = simd.lanes(scratch)
    rest = count % step
    whole = start + count - rest
    at, on = mask_at - start, gradient - start
    shift, factor = shift_of(scratch, tops[row]), simd.splat(scratch, factors[row])
    tail = _masked_tail(simd.load_part(scratch, whole, rest, 0.0), mask, at + whole, rest, scale)
    tail = simd_math.exp(tail - shift) * factor
    tail_gradient = simd.load_part(scratch, on + whole, rest, 0.0)
    total = tail * tail_gradient
    for i in range(start, whole, step):
        weights = simd_math.exp(_masked(simd.load(scratch, i), mask, at + i, scale) - shift) * factor
        simd.store(scratch, i, weights)
        total = simd.fma(weights, simd.load(scratch, on + i), total)
    mean = simd.splat(scratch, simd.reduce_sum(total))
    for i in range(start, whole, step):
        simd.store(scratch, on + i, simd.load(scratch, i) * (simd.load(scratch, on + i) - mean) * scale)
    simd.store_part(scratch, whole, rest, tail)
    simd.store_part(scratch, on + whole, rest, tail * (tail_gradient - mean) * scale)


# --- A share of the heads ---------------------------------------------------------------------------------------------


@serial_kernel
def _attend_share(
    worker: int,
    workers: int,
    product: int,
    backward: bool,
    operands: np.ndarray,
    sizes: np.ndarray,
    causal: bool,
    scale: float,
    mask: np.ndarray,
    mask_strides: np.ndarray,
    tops: np.ndarray,
    factors: np.ndarray,
    scratch: np.ndarray,
    workspace: np.ndarray,
) -> None:
    """One worker's share: some heads of some sequences. ``scratch`` has a row for each worker, which holds a block of
    weights, and backward, behind it, their gradients."""
    state = flush_subnormals()
    size = scratch.itemsize
    own = workspace.ctypes.data + worker * workspace.strides[0]
    queries, keys, width, value_width = sizes[_QUERIES], sizes[_KEYS], sizes[_WIDTH], sizes[_VALUE_WIDTH]
    block = _BLOCK_STRIPS * (SINGLE.tile_rows if size == 4 else DOUBLE.tile_rows)
    scores = scratch[worker]
    gradients = scores.size // 2
    p, ds, p_row = scores.ctypes.data, scores.ctypes.data + gradients * size, keys * size
    place = np.empty(len(operands), np.int64)  # of the head, for every operand
    heads = sizes[_BATCH] * sizes[_HEADS]
    for head in range(heads * worker // workers, heads * (worker + 1) // workers):
        i, j = head // sizes[_HEADS], head % sizes[_HEADS]
        for operand in range(len(operands)):
            place[operand] = operands[operand, 0] + i * operands[operand, 1] + j * operands[operand, 2]
        q, k, v, o = place[_Q], place[_K], place[_V], place[_O]
        q_row, k_row, v_row, o_row = operands[_Q, 3], operands[_K, 3], operands[_V, 3], operands[_O, 3]
        mask_start = i * mask_strides[0] + j * mask_strides[1]
        # From the last block, which all keys have a part in, causal or not: it starts the sums over blocks.
        final = (queries - 1) // block * block
        for first in range(final, -1, -block):
            rows = min(block, queries - first)
            seen = min(keys, first + rows) if causal and (first < final or not backward) else keys
            call(
                product, own, rows, seen, width,
                q + first * q_row, q_row, size, k, size, k_row, p, p_row, 0, False, -1,
            )  # fmt: skip
            if backward:
                call(
                    product, own, rows, seen, value_width,
                    o + first * o_row, o_row, size, v, size, v_row, ds, p_row, 0, False, -1,
                )  # fmt: skip
            for row in range(rows):
                start, mask_at = row * keys, mask_start + (first + row) * mask_strides[2]
                at = head * queries + first + row
                count = min(keys, first + row + 1) if causal else keys
                if backward:
                    _differentiate_row(
                        scores, start, gradients + start, count, scale, mask, mask_at, tops, factors, at
                    )  # fmt: skip
                    scores[gradients + start + count : gradients + start + seen] = 0.0
                else:
                    weigh_row(scores, start, count, scale, mask, mask_at, tops, factors, at)
                scores[start + count : start + seen] = 0.0
            if not backward:
                call(
                    product, own, rows, value_width, seen,
                    p, p_row, size, v, v_row, size, o + first * o_row, o_row, 0, False, -1,
                )  # fmt: skip
                continue
            dq_row, dk_row, dv_row = operands[_DQ, 3], operands[_DK, 3], operands[_DV, 3]
            call(
                product, own, rows, width, seen,
                ds, p_row, size, k, k_row, size, place[_DQ] + first * dq_row, dq_row, 0, False, -1,
            )  # fmt: skip
            call(
                product, own, seen, width, rows,
                ds, size, p_row, q + first * q_row, q_row, size, place[_DK], dk_row, 0, first < final, -1,
            )  # fmt: skip
            call(
                product, own, seen, value_width, rows,
                p, size, p_row, o + first * o_row, o_row, size, place[_DV], dv_row, 0, first < final, -1,
            )  # fmt: skip
    restore_subnormals(state)


@parallel_kernel
def _attend_in_parallel(
    workers: int,
    product: int,
    backward: bool,
    operands: np.ndarray,
    sizes: np.ndarray,
    causal: bool,
    scale: float,
    mask: np.ndarray,
    mask_strides: np.ndarray,
    tops: np.ndarray,
    factors: np.ndarray,
    scratch: np.ndarray,
    workspace: np.ndarray,
) -> None:
    for worker in numba.prange(workers):
        _attend_share(
            np.int64(worker), workers, product, backward, operands, sizes, causal, scale, mask, mask_strides, tops,
            factors, scratch, workspace,
        )  # fmt: skip


# --- Any shape --------------------------------------------------------------------------------------------------------


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    out: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    causal: bool = False,
    scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Write softmax(scale q kᵀ) v to ``out``, for every head of every sequence.

    Args:
        q: (B, H, L, d), float32 or float64. Any strides, as for all the others; a last axis that does not adjoin is
            copied, and in ``out`` not allowed.
        k: (B, H, S, d).
        v: (B, H, S, e).
        out: (B, H, L, e), must not overlap an input.
        mask: bool, broadcasts to (B, H, L, S); True where a query may attend to a key. Not expanded but along S.
        causal: let query i attend to keys 0 to i only.
        scale: of the scores.

    Returns:
        Of each row of scores, (B, H, L), the largest and 1 / sum of exponentials, for `attention_backward`; -inf and 0
        where there is nothing to attend to, which gives zeros.
    """
    tops, factors = np.empty((2, *q.shape[:3]), q.dtype)
    if out.size == 0 or k.size == 0:
        out[...] = 0.0
        tops[...], factors[...] = -math.inf, 0.0
        return tops, factors
    _attend(False, [adjoining(q), adjoining(k), adjoining(v), out], mask, causal, scale, tops, factors)
    return tops, factors


def attention_backward(
    g: np.ndarray,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    tops: np.ndarray,
    factors: np.ndarray,
    gradients: tuple[np.ndarray, np.ndarray, np.ndarray],
    mask: np.ndarray | None = None,
    *,
    causal: bool = False,
    scale: float,
) -> None:
    """Write the gradients of q, k and v to ``gradients``, from ``g``, that of ``out``, (B, H, L, e).

    ``tops`` and ``factors`` are what `attention` returned; all else was given to it. ``gradients`` are arrays of the
    shapes of q, k and v, of any strides but with a last axis that adjoins.
    """
    if g.size == 0 or k.size == 0:
        for gradient in gradients:
            gradient[...] = 0.0
        return
    operands = [adjoining(q), adjoining(k), adjoining(v), adjoining(g), *gradients]
    _attend(True, operands, mask, causal, scale, tops, factors)


def adjoining(array: np.ndarray) -> np.ndarray:
    return array if array.strides[-1] == array.itemsize else np.ascontiguousarray(array)


def _attend(
    backward: bool,
    arrays: list[np.ndarray],
    mask: np.ndarray | None,
    causal: bool,
    scale: float,
    tops: np.ndarray,
    factors: np.ndarray,
) -> None:
    q, _, v = arrays[:3]
    batch, heads, queries, width = q.shape
    keys, value_width = v.shape[2:]
    table = np.array([(a.__array_interface__["data"][0], *a.strides[:3]) for a in arrays], np.int64)
    work = batch * heads * queries * keys * (width + value_width)
    workers = 1 if work <= _SERIAL_WORK else get_num_threads()
    rows = min(queries, _BLOCK_STRIPS * (SINGLE if q.itemsize == 4 else DOUBLE).tile_rows)
    arguments = (
        block_product_for(q.itemsize),
        backward,
        table,
        np.array((batch, heads, queries, keys, width, value_width), np.int64),
        causal,
        scale,
        *flat_mask(mask, keys),
        tops.reshape(-1),
        factors.reshape(-1),
        np.empty((workers, 2 * rows * keys), q.dtype),
        workspaces.get(),
    )
    if workers == 1:
        _attend_share(0, 1, *arguments)
    else:
        _attend_in_parallel(workers, *arguments)


def flat_mask(mask: np.ndarray | None, keys: int) -> tuple[np.ndarray, np.ndarray]:
    """The elements of a mask that broadcasts to (B, H, L, S), and the strides from batch to batch, head to head and
    query to query among them."""
    if mask is None:
        return _everything(keys)
    if mask.shape[-1:] != (keys,) or not mask.flags.c_contiguous:
        mask = np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:-1], keys)))
    mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    strides = [0 if n == 1 else s for n, s in zip(mask.shape[:3], mask.strides[:3], strict=True)]
    return mask.reshape(-1), np.array(strides, np.int64)


@functools.lru_cache(maxsize=64)
def _everything(keys: int) -> tuple[np.ndarray, np.ndarray]:
    """A mask of nothing."""
    return np.ones(keys, np.bool_), np.zeros(3, np.int64)
