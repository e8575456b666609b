"""Scaled dot-product attention of every head in one kernel, forward and backward, without a matrix of all weights.

For one head of one sequence, with queries Q (L, d), keys K (S, d) and values V (S, e)::

    P = softmax(scale Q Kᵀ),    O = P V

and backward, from G, the gradient of O::

    dV = Pᵀ G,    dP = G Vᵀ,    dS = scale P (dP - rowsum(P dP)),    dQ = dS K,    dK = dSᵀ Q

A block of queries at a time is scored against all keys, and its weights are gone when its output is written. Backward
computes them again from what forward keeps of each row: its largest score and the reciprocal of its sum of exponentials
(Dao et al., "FlashAttention", 2022, which cuts the keys into blocks too; here a row of them fits in the cache).

Queries, keys and values are read where they lie, with any strides except along the last axis, so that the heads of a
(batch, length, 3 · heads · d) projection need not be copied out of it. The products are those of `kernels.gemm.blocks`.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numba
import numpy as np

from tinygrad_attn.kernels.gemm.blocks import block_product_for, workspaces
from tinygrad_attn.kernels.gemm.operands import PLAIN, Epilogue, Extent, Matrix, transposed
from tinygrad_attn.kernels.gemm.plan import DOUBLE, SINGLE
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.calls import call
from tinygrad_attn.kernels.runtime.jit import inlined_kernel, kernel_part, parallel_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.subnormals import flush_subnormals, restore_subnormals
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.softmax import shift_of

__all__ = [
    "adjoining",
    "attention",
    "attention_backward",
    "attention_in_numpy",
    "flat_mask",
    "weigh_row",
]

_SERIAL_WORK = 80**3  # multiplications up to which waking the threads costs more than they save
_BLOCK_STRIPS = 4  # queries scored at a time, in tiles of the matrix product

# --- In NumPy: what the kernels are held to ---------------------------------------------------------------------------


def attention_in_numpy(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    g: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    causal: bool = False,
    scale: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """O, dQ, dK and dV of every head, with all weights in one matrix; arguments as of `attention_backward`."""
    scores = scale * q @ k.swapaxes(-1, -2)
    seen = np.broadcast_to(True if mask is None else mask, scores.shape)
    if causal:
        seen = seen & np.tri(*scores.shape[-2:], dtype=np.bool_)
    scores = np.where(seen, scores, -np.inf)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(scores - np.where(np.isinf(top), 0.0, top))
    total = p.sum(-1, keepdims=True)
    p /= np.where(total == 0.0, 1.0, total)  # a query that sees nothing has no weights
    dp = g @ v.swapaxes(-1, -2)
    ds = scale * p * (dp - (p * dp).sum(-1, keepdims=True))
    return p @ v, ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g


# --- What the kernels take --------------------------------------------------------------------------------------------

# Rows of the table of operands; each is an address and the strides in bytes from batch to batch, head to head and row
# to row. The table of backward has them all, that of forward those up to O, in whose place backward has G.
# They are int64s: for a number that numba knows to be constant it compiles what is called with it anew.
_Q, _K, _V, _O, _DQ, _DK, _DV = np.arange(7)


class _Task(NamedTuple):
    product: int  # from `kernels.gemm.blocks.block_product_for`
    backward: bool
    causal: bool
    scale: float
    batch: int
    heads: int
    queries: int
    keys: int
    width: int
    value_width: int
    mask_batch: int  # elements of the mask from batch to batch
    mask_head: int
    mask_query: int


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


# --- A block of queries of one head -----------------------------------------------------------------------------------


class _Block(NamedTuple):
    batch: int
    head: int  # of the sequence
    number: int  # of the head among those of all sequences
    first: int  # query
    rows: int  # queries
    seen: int  # keys that some of its queries may attend to
    p: Matrix  # where its weights are computed
    ds: Matrix  # and their gradients
    workspace: int  # address, for the products


@inlined_kernel
def _clear(scratch: Any, start: int, stop: int) -> None:
    for i in range(start, stop):  # a slice would take longer to compile than all the rest
        scratch[i] = 0.0


@inlined_kernel
def _rows_of(operands: Any, number: int, block: Any, first: int) -> Any:
    """The rows from ``first`` on of one operand, of the block's head."""
    start = operands[number, 0] + block.batch * operands[number, 1] + block.head * operands[number, 2]
    row = operands[number, 3]
    return Matrix(start + first * row, row, block.p.column)


@kernel_part
def _attend_block(task: Any, operands: Any, mask: Any, tops: Any, factors: Any, block: Any, scores: Any) -> None:
    """P = softmax(scale Q Kᵀ), O = P V; ``scores`` is the memory of P."""
    start, first = np.int64(0), block.first
    q, o = _rows_of(operands, _Q, block, first), _rows_of(operands, _O, block, first)
    k, v = _rows_of(operands, _K, block, start), _rows_of(operands, _V, block, start)
    rows, seen, own = block.rows, block.seen, block.workspace
    call(task.product, own, Extent(rows, seen, task.width), q, transposed(k), block.p, PLAIN)
    keys, scale, causal = task.keys, task.scale, task.causal
    number = block.number * task.queries + first
    mask_at = block.batch * task.mask_batch + block.head * task.mask_head + first * task.mask_query
    for row in range(rows):
        at = row * keys
        count = min(keys, first + row + 1) if causal else keys
        weigh_row(scores, at, count, scale, mask, mask_at + row * task.mask_query, tops, factors, number + row)
        if count < seen:
            _clear(scores, at + count, at + seen)
    call(task.product, own, Extent(rows, task.value_width, seen), block.p, v, o, PLAIN)


@kernel_part
def _differentiate_block(
    task: Any, operands: Any, mask: Any, tops: Any, factors: Any, block: Any, scores: Any, sums: Any
) -> None:
    """P again, dP = G Vᵀ and dS, then dQ = dS K, and the block's parts of dK = dSᵀ Q and dV = Pᵀ G.

    ``scores`` is the memory of P, and behind it of dS; ``sums`` says whether dK and dV are written or added to.
    """
    start, first = np.int64(0), block.first
    q, g = _rows_of(operands, _Q, block, first), _rows_of(operands, _O, block, first)
    dq = _rows_of(operands, _DQ, block, first)
    k, v = _rows_of(operands, _K, block, start), _rows_of(operands, _V, block, start)
    dk, dv = _rows_of(operands, _DK, block, start), _rows_of(operands, _DV, block, start)
    rows, seen, own, p, ds = block.rows, block.seen, block.workspace, block.p, block.ds
    call(task.product, own, Extent(rows, seen, task.width), q, transposed(k), p, PLAIN)
    call(task.product, own, Extent(rows, seen, task.value_width), g, transposed(v), ds, PLAIN)
    gradients, keys, scale, causal = scores.size // 2, task.keys, task.scale, task.causal
    number = block.number * task.queries + first
    mask_at = block.batch * task.mask_batch + block.head * task.mask_head + first * task.mask_query
    for row in range(rows):
        at, of_weights = row * keys, gradients + row * keys
        count = min(keys, first + row + 1) if causal else keys
        in_mask = mask_at + row * task.mask_query
        _differentiate_row(scores, at, of_weights, count, scale, mask, in_mask, tops, factors, number + row)
        if count < seen:
            _clear(scores, of_weights + count, of_weights + seen)
            _clear(scores, at + count, at + seen)
    call(task.product, own, Extent(rows, task.width, seen), ds, k, dq, PLAIN)
    call(task.product, own, Extent(seen, task.width, rows), transposed(ds), q, dk, sums)
    call(task.product, own, Extent(seen, task.value_width, rows), transposed(p), g, dv, sums)


# --- A share of the heads ---------------------------------------------------------------------------------------------


@serial_kernel
def _attend_share(
    worker: int,
    workers: int,
    task: Any,
    operands: Any,
    mask: Any,
    tops: Any,
    factors: Any,
    scratch: Any,
    workspace: Any,
) -> None:
    """One worker's share: some heads of some sequences. ``scratch`` has a row for each worker, which holds a block of
    weights, and backward, behind it, their gradients."""
    state = flush_subnormals()
    size, keys, queries = scratch.itemsize, task.keys, task.queries
    own = np.int64(workspace.ctypes.data) + worker * workspace.strides[0]
    block_rows = _BLOCK_STRIPS * (SINGLE.tile_rows if size == 4 else DOUBLE.tile_rows)
    scores = scratch[worker]
    p = Matrix(np.int64(scores.ctypes.data), keys * size, size)  # type: ignore[arg-type]
    ds = Matrix(p.address + scores.size // 2 * size, keys * size, size)
    heads = task.batch * task.heads
    # From the last block, which all keys have a part in, causal or not: it starts the sums over blocks.
    final = (queries - 1) // block_rows * block_rows
    for head in range(heads * worker // workers, heads * (worker + 1) // workers):
        batch, member = head // task.heads, head % task.heads
        for first in range(final, -1, -block_rows):
            rows = min(block_rows, queries - first)
            narrow = task.causal and (first < final or not task.backward)
            seen = min(keys, first + rows) if narrow else keys
            block = _Block(batch, member, head, first, rows, seen, p, ds, own)
            if task.backward:
                sums = Epilogue(0, 1 if first < final else 0, -1)
                _differentiate_block(task, operands, mask, tops, factors, block, scores, sums)
            else:
                _attend_block(task, operands, mask, tops, factors, block, scores)
    restore_subnormals(state)


@parallel_kernel
def _attend_in_parallel(
    workers: int, task: Any, operands: Any, mask: Any, tops: Any, factors: Any, scratch: Any, workspace: Any
) -> None:
    for worker in numba.prange(workers):
        _attend_share(np.int64(worker), workers, task, operands, mask, tops, factors, scratch, workspace)


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
    _attend(False, [adjoining(q), adjoining(k), adjoining(v), out], mask, causal, scale, (tops, factors))
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
    _attend(True, operands, mask, causal, scale, (tops, factors))


def adjoining(array: np.ndarray) -> np.ndarray:
    return array if array.strides[-1] == array.itemsize else np.ascontiguousarray(array)


def _attend(
    backward: bool,
    arrays: list[np.ndarray],
    mask: np.ndarray | None,
    causal: bool,
    scale: float,
    scales: tuple[np.ndarray, np.ndarray],
) -> None:
    q, _, v = arrays[:3]
    batch, heads, queries, width = q.shape
    keys, value_width = v.shape[2:]
    table = np.array([(data_address(a), *a.strides[:3]) for a in arrays], np.int64)
    work = batch * heads * queries * keys * (width + value_width)
    workers = 1 if work <= _SERIAL_WORK else get_num_threads()
    rows = min(queries, _BLOCK_STRIPS * (SINGLE if q.itemsize == 4 else DOUBLE).tile_rows)
    elements, *strides = flat_mask(mask, keys)
    sizes = (batch, heads, queries, keys, width, value_width, *strides)
    arguments = (
        _Task(block_product_for(q.itemsize), backward, causal, scale, *sizes),
        table,
        elements,
        *(array.reshape(-1) for array in scales),
        np.empty((workers, 2 * rows * keys), q.dtype),
        workspaces.get(),
    )
    if workers == 1:
        _attend_share(0, 1, *arguments)
    else:
        _attend_in_parallel(workers, *arguments)


def flat_mask(mask: np.ndarray | None, keys: int) -> tuple[np.ndarray, int, int, int]:
    """The elements of a mask that broadcasts to (B, H, L, S), and how many of them lie from batch to batch, head to
    head and query to query, 0 along an axis that is broadcast; those of a row of keys adjoin."""
    if mask is None:
        return _everything(keys), 0, 0, 0
    if mask.shape[-1:] != (keys,) or not mask.flags.c_contiguous:
        mask = np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:-1], keys)))
    mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    batch, head, query = (0 if n == 1 else s for n, s in zip(mask.shape[:3], mask.strides[:3], strict=True))
    return mask.reshape(-1), batch, head, query


@functools.lru_cache(maxsize=64)
def _everything(keys: int) -> np.ndarray:
    """A row of a mask that is True throughout."""
    return np.ones(keys, np.bool_)
