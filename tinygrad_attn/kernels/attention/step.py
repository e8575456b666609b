"""Scaled dot-product attention of one query per head: a decoder's step, which is too small for tiles of products.

The formulas and the operands are those of `kernels.attention.tiled`, whose `attention_in_numpy` says what is computed;
the sums are in another order.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.attention.tiled import adjoining, flat_mask
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.jit import inlined_kernel, kernel_part, serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, launch, read_struct, row_at
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.softmax import shift_of

__all__ = ["single_query_attention"]

_SERIAL_WORK = 100_000  # multiplications up to which waking the threads costs more than they save

# Rows of the table of operands; each is an address, and the strides in elements from batch to batch, head to head and
# row to row.
_Q, _K, _V, _O = np.arange(4)


class _Task(NamedTuple):
    heads: int  # of a sequence
    group: int  # heads that share the keys and values of one head
    keys: int
    width: int
    value_width: int
    scale: float
    operands: Address  # the table
    mask: Address
    mask_size: int
    mask_batch: int  # elements of the mask from batch to batch
    mask_head: int
    bias: Address  # added to the scores, or None
    bias_size: int
    bias_batch: int
    bias_head: int
    tops: Address  # a number for each head
    factors: Address
    scratch: Address  # a row of weights for each head
    itemsize: int


@inlined_kernel
def _masked(x: Any, mask: Any, at: int, scale: float) -> Any:
    return simd.select(simd.load_mask(mask, at, x), x * scale, -math.inf)


@inlined_kernel
def _masked_tail(x: Any, mask: Any, at: int, rest: int, scale: float) -> Any:
    """A row's last ``rest`` elements, and -inf behind them."""
    return simd.select(simd.load_mask_part(mask, at, rest, x), x * scale, -math.inf)


@serial_kernel
def _weigh_row(scratch: Any, scale: float, mask: Any, at: int, tops: Any, factors: Any, row: int) -> None:
    """Products of a query with the keys become weights; their largest and 1 / sum are kept at ``row``.

    The mask of the keys begins at ``at``.
    """
    step = simd.lanes(scratch)
    rest = scratch.size % step
    whole = scratch.size - rest
    highest = simd.splat(scratch, -math.inf)
    for i in range(0, whole, step):
        x = _masked(simd.load(scratch, i), mask, at + i, scale)
        simd.store(scratch, i, x)
        highest = simd.maximum(highest, x)
    tail = _masked_tail(simd.load_part(scratch, whole, rest, 0.0), mask, at + whole, rest, scale)
    top = simd.reduce_max(simd.maximum(highest, tail))
    shift = shift_of(scratch, top)
    tail = simd_math.exp(tail - shift)
    total = tail
    for i in range(0, whole, step):
        grown = simd_math.exp(simd.load(scratch, i) - shift)
        simd.store(scratch, i, grown)
        total = total + grown
    sum_of_all = simd.reduce_sum(total)
    factor = 0.0 if sum_of_all == 0.0 else 1.0 / sum_of_all
    tops[row], factors[row] = top, factor
    for i in range(0, whole, step):
        simd.store(scratch, i, simd.load(scratch, i) * factors[row])
    simd.store_part(scratch, whole, rest, tail * factors[row])


@kernel_part
def _scale_and_add(scratch: Any, scale: float, bias: Any, at: int) -> None:
    """Products of a query with the keys become scores, to which the bias from ``at`` on is added."""
    for s in range(scratch.size):
        scratch[s] = scratch[s] * scale + bias[at + s]


@inlined_kernel
def _head_of(operands: int, number: int, batch: int, head: int, itemsize: int) -> int:
    """The address of the rows of one operand that belong to a head."""
    entry = row_at(np.int64, operands, number, 4)
    return entry[0] + (batch * entry[1] + head * entry[2]) * itemsize


@kernel_part
def _score_keys(q: Any, k: Any, k_row: Any, scratch: Any) -> None:
    """The products of a query with the keys, whose rows are ``k_row`` elements apart, to ``scratch``."""
    step, width = simd.lanes(scratch), q.size
    for s in range(scratch.size):
        total = simd.splat(scratch, 0.0)
        for c in range(0, width, step):
            count = min(step, width - c)
            key = simd.load_part(k, s * k_row + c, count, 0.0)
            total = simd.fma(simd.load_part(q, c, count, 0.0), key, total)
        scratch[s] = simd.reduce_sum(total)


@kernel_part
def _mix_values(scratch: Any, v: Any, v_row: Any, out: Any) -> None:
    """The sum of the values, whose rows are ``v_row`` elements apart, each times its weight."""
    step = simd.lanes(scratch)
    for c in range(0, out.size, step):
        count = min(step, out.size - c)
        total = simd.splat(scratch, 0.0)
        for s in range(scratch.size):
            value = simd.load_part(v, s * v_row + c, count, 0.0)
            total = simd.fma(simd.splat(scratch, scratch[s]), value, total)
        simd.store_part(out, c, count, total)


def _make_attend(dtype: Any) -> Any:
    @serial_kernel
    def attend(task: int, first: int, last: int) -> None:
        s = read_struct(_Task, task)
        keys, width, value_width, size = s.keys, s.width, s.value_width, s.itemsize
        table = row_at(np.int64, s.operands, 0, 4 * 4)
        k_row, v_row = table[4 * _K + 3], table[4 * _V + 3]
        mask = row_at(np.bool_, s.mask, 0, s.mask_size)
        tops, factors = row_at(dtype, s.tops, 0, last), row_at(dtype, s.factors, 0, last)
        for head in range(first, last):
            i, j = head // s.heads, head % s.heads
            q = row_at(dtype, _head_of(s.operands, _Q, i, j, size), 0, width)
            k = row_at(dtype, _head_of(s.operands, _K, i, j // s.group, size), 0, (keys - 1) * k_row + width)
            v = row_at(dtype, _head_of(s.operands, _V, i, j // s.group, size), 0, (keys - 1) * v_row + value_width)
            out = row_at(dtype, _head_of(s.operands, _O, i, j, size), 0, value_width)
            scratch = row_at(dtype, s.scratch, head, keys)
            _score_keys(q, k, k_row, scratch)
            scale = s.scale
            if s.bias != 0:
                _scale_and_add(
                    scratch, scale, row_at(dtype, s.bias, 0, s.bias_size), i * s.bias_batch + j * s.bias_head
                )
                scale = 1.0
            mask_at = i * s.mask_batch + j * s.mask_head
            _weigh_row(scratch, scale, mask, mask_at, tops, factors, head)
            _mix_values(scratch, v, v_row, out)

    return attend


def single_query_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, out: np.ndarray, mask: np.ndarray | None = None,
    bias: np.ndarray | None = None, *, scale: float,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """`attention` where L is 1, with the same arguments and result, for all but a causal mask."""
    (batch, heads, _, width), (keys, value_width) = q.shape, v.shape[2:]
    tops, factors = np.empty((2, batch, heads, 1), q.dtype)
    if out.size == 0 or k.size == 0:
        out[...] = 0.0
        tops[...], factors[...] = -math.inf, 0.0
        return tops, factors
    arrays = [adjoining(q), adjoining(k), adjoining(v), out]
    size = q.itemsize
    table = np.array([(data_address(a), *[stride // size for stride in a.strides[:3]]) for a in arrays], np.int64)
    elements, mask_size, mask_batch, mask_head, _ = flat_mask(mask, keys)
    terms, bias_size, bias_batch, bias_head, _ = (None, 0, 0, 0, 0) if bias is None else flat_mask(bias, keys)
    task = _Task(
        heads=heads,
        group=heads // k.shape[1],
        keys=keys,
        width=width,
        value_width=value_width,
        scale=scale,
        operands=table,
        mask=elements,
        mask_size=mask_size,
        mask_batch=mask_batch,
        mask_head=mask_head,
        bias=terms,
        bias_size=bias_size,
        bias_batch=bias_batch,
        bias_head=bias_head,
        tops=tops,
        factors=factors,
        scratch=np.empty((batch * heads, keys), q.dtype),
        itemsize=size,
    )
    many = batch * heads * keys * (width + value_width) > _SERIAL_WORK
    shares = min(get_num_threads(), batch * heads) if many else 1
    dtype: Any = q.dtype.type
    launch(kernel_for(_make_attend, dtype), Struct(task), batch * heads, shares)
    return tops, factors
