"""Scaled dot-product attention of one query per head: a decoder's step, which is too small for tiles of products.

The formulas and the operands are those of `tinygrad_attn.kernels.attention.tiled`; the sums are in another order.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from tinygrad_attn.kernels.attention.tiled import adjoining, flat_mask, weigh_row
from tinygrad_attn.kernels.runtime.addresses import elements_at
from tinygrad_attn.kernels.runtime.jit import get_num_threads, parallel_kernel, serial_kernel
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["attention_of_one"]

_SERIAL_WORK = 100_000  # multiplications up to which waking the threads costs more than they save

# Rows of the table of operands; each is an address, and the strides in elements from batch to batch, head to head and
# row to row.
_Q, _K, _V, _O = range(4)


@serial_kernel
def _attend_share(
    worker: int,
    workers: int,
    operands: Any,
    batch: int,
    heads: int,
    keys: int,
    width: int,
    value_width: int,
    scale: float,
    mask: Any,
    mask_strides: Any,
    tops: Any,
    factors: Any,
    scratch: Any,
) -> None:
    """One worker's share: some heads of some sequences. ``scratch`` has a row of weights for each worker."""
    step, size, start = simd.lanes(scratch), scratch.itemsize, worker * keys
    at = np.empty(4, np.int64)
    for head in range(batch * heads * worker // workers, batch * heads * (worker + 1) // workers):
        i, j = head // heads, head % heads
        for operand in range(4):
            at[operand] = operands[operand, 0] + (i * operands[operand, 1] + j * operands[operand, 2]) * size
        k_row, v_row = operands[_K, 3], operands[_V, 3]
        q, out = elements_at(scratch, at[_Q], width), elements_at(scratch, at[_O], value_width)
        k = elements_at(scratch, at[_K], (keys - 1) * k_row + width)
        v = elements_at(scratch, at[_V], (keys - 1) * v_row + value_width)
        for s in range(keys):
            total = simd.splat(scratch, 0.0)
            for c in range(0, width, step):
                count = min(step, width - c)
                key = simd.load_part(k, s * k_row + c, count, 0.0)
                total = simd.fma(simd.load_part(q, c, count, 0.0), key, total)
            scratch[start + s] = simd.reduce_sum(total)
        weigh_row(scratch, start, keys, scale, mask, i * mask_strides[0] + j * mask_strides[1], tops, factors, head)
        for c in range(0, value_width, step):
            count = min(step, value_width - c)
            total = simd.splat(scratch, 0.0)
            for s in range(keys):
                value = simd.load_part(v, s * v_row + c, count, 0.0)
                total = simd.fma(simd.splat(scratch, scratch[start + s]), value, total)
            simd.store_part(out, c, count, total)


@parallel_kernel
def _attend_in_parallel(
    workers: int,
    operands: Any,
    batch: int,
    heads: int,
    keys: int,
    width: int,
    value_width: int,
    scale: float,
    mask: Any,
    mask_strides: Any,
    tops: Any,
    factors: Any,
    scratch: Any,
) -> None:
    for worker in numba.prange(workers):
        _attend_share(
            np.int64(worker), workers, operands, batch, heads, keys, width, value_width, scale, mask, mask_strides,
            tops, factors, scratch,
        )  # fmt: skip


def attention_of_one(
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
    arguments = (
        table, batch, heads, keys, width, value_width, scale, *flat_mask(mask, keys), tops.reshape(-1),
        factors.reshape(-1), np.empty(workers * keys, q.dtype),
    )  # fmt: skip
    if workers == 1:
        _attend_share(0, 1, *arguments)
    else:
        _attend_in_parallel(workers, *arguments)
    return tops, factors
