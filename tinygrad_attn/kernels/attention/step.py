"""Scaled dot-product attention of one query per head: a decoder's step, which is too small for tiles of products.

The formulas and the operands are those of `kernels.attention.tiled`, whose `attention_in_numpy` says what is computed;
the sums are in another order.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np

from tinygrad_attn.kernels.attention.tiled import adjoining, flat_mask
from tinygrad_attn.kernels.runtime.addresses import elements_at
from tinygrad_attn.kernels.runtime.jit import inlined_kernel, kernel_part, parallel_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.softmax import shift_of

__all__ = ["single_query_attention"]

_SERIAL_WORK = 100_000  # multiplications up to which waking the threads costs more than they save

# Rows of the table of operands; each is an address, and the strides in elements from batch to batch, head to head and
# row to row.
_Q, _K, _V, _O = range(4)


class _Task(NamedTuple):
    batch: int
    heads: int
    keys: int
    width: int
    value_width: int
    scale: float
    mask_batch: int  # elements of the mask from batch to batch
    mask_head: int


@inlined_kernel
def _masked(x: Any, mask: Any, at: int, scale: float) -> Any:
    return simd.select(simd.load_mask(mask, at, x), x * scale, -math.inf)


@inlined_kernel
def _masked_tail(x: Any, mask: Any, at: int, rest: int, scale: float) -> Any:
    """A row's last ``rest`` elements, and -inf behind them."""
    return simd.select(simd.load_mask_part(mask, at, rest, x), x * scale, -math.inf)


@serial_kernel
def _weigh_row(
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


@kernel_part
def _head_of(operands: Any, number: int, batch: int, head: int, itemsize: int) -> int:
    """The address of the rows of one operand that belong to a head."""
    return operands[number, 0] + (batch * operands[number, 1] + head * operands[number, 2]) * itemsize


@kernel_part
def _score_keys(q: Any, k: Any, k_row: int, keys: int, scratch: Any, start: int) -> None:
    """The products of a query with the keys, whose rows are ``k_row`` elements apart, to ``scratch`` from ``start``."""
    step, width = simd.lanes(scratch), q.size
    for s in range(keys):
        total = simd.splat(scratch, 0.0)
        for c in range(0, width, step):
            count = min(step, width - c)
            key = simd.load_part(k, s * k_row + c, count, 0.0)
            total = simd.fma(simd.load_part(q, c, count, 0.0), key, total)
        scratch[start + s] = simd.reduce_sum(total)


@kernel_part
def _mix_values(scratch: Any, start: int, keys: int, v: Any, v_row: int, out: Any) -> None:
    """The sum of the values, whose rows are ``v_row`` elements apart, each times its weight."""
    step = simd.lanes(scratch)
    for c in range(0, out.size, step):
        count = min(step, out.size - c)
        total = simd.splat(scratch, 0.0)
        for s in range(keys):
            value = simd.load_part(v, s * v_row + c, count, 0.0)
            total = simd.fma(simd.splat(scratch, scratch[start + s]), value, total)
        simd.store_part(out, c, count, total)


@serial_kernel
def _attend_share(
    worker: int, workers: int, task: Any, operands: Any, mask: Any, tops: Any, factors: Any, scratch: Any
) -> None:
    """One worker's share: some heads of some sequences. ``scratch`` has a row of weights for each worker."""
    heads, keys, width, value_width = task.batch * task.heads, task.keys, task.width, task.value_width
    size, start = scratch.itemsize, worker * keys
    k_row, v_row = operands[_K, 3], operands[_V, 3]
    for head in range(heads * worker // workers, heads * (worker + 1) // workers):
        i, j = head // task.heads, head % task.heads
        q = elements_at(scratch, _head_of(operands, _Q, i, j, size), width)
        k = elements_at(scratch, _head_of(operands, _K, i, j, size), (keys - 1) * k_row + width)
        v = elements_at(scratch, _head_of(operands, _V, i, j, size), (keys - 1) * v_row + value_width)
        out = elements_at(scratch, _head_of(operands, _O, i, j, size), value_width)
        _score_keys(q, k, k_row, keys, scratch, start)
        mask_at = i * task.mask_batch + j * task.mask_head
        _weigh_row(scratch, start, keys, task.scale, mask, mask_at, tops, factors, head)
        _mix_values(scratch, start, keys, v, v_row, out)


@parallel_kernel
def _attend_in_parallel(
    workers: int, task: Any, operands: Any, mask: Any, tops: Any, factors: Any, scratch: Any
) -> None:
    for worker in numba.prange(workers):
        _attend_share(np.int64(worker), workers, task, operands, mask, tops, factors, scratch)


def single_query_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, out: np.ndarray, mask: np.ndarray | None = None, *, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """`attention` where L is 1, with the same arguments and result, for all but a causal mask."""
    (batch, heads, _, width), (keys, value_width) = q.shape, v.shape[2:]
    tops, factors = np.empty((2, batch, heads, 1), q.dtype)
    if out.size == 0 or k.size == 0:
        out[...] = 0.0
        tops[...], factors[...] = -math.inf, 0.0
        return tops, factors
    arrays = [adjoining(q), adjoining(k), adjoining(v), out]
    size = q.itemsize
    table = np.array(
        [(a.__array_interface__["data"][0], *[stride // size for stride in a.strides[:3]]) for a in arrays], np.int64
    )
    work = batch * heads * keys * (width + value_width)
    workers = 1 if work <= _SERIAL_WORK else get_num_threads()
    elements, mask_batch, mask_head, _ = flat_mask(mask, keys)
    task = _Task(batch, heads, keys, width, value_width, scale, mask_batch, mask_head)
    arguments = (task, table, elements, tops.reshape(-1), factors.reshape(-1), np.empty(workers * keys, q.dtype))
    if workers == 1:
        _attend_share(0, 1, *arguments)
    else:
        _attend_in_parallel(workers, *arguments)
    return tops, factors
