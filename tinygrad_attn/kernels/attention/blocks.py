"""Blocks of queries of one head, each with one block of keys after the other: the kernels of `kernels.attention.tiled`.

What all blocks of a head read is packed once for the head, what all keys of a block read once for the block. Scores and
weights exist for one block of queries and keys at a time, in memory that stays in the cache.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.kernels.attention.rows import add_to_row, differentiate_row, hide, scale_row, weigh_row
from tinygrad_attn.kernels.attention.task import (
    GRADIENT,
    KEY,
    OF_KEY,
    OF_QUERY,
    OF_VALUE,
    OUTPUT,
    QUERY,
    VALUE,
    Task,
    below,
    is_read_in_place,
    rows_of,
    seen_of_row,
)  # fmt: skip
from tinygrad_attn.kernels.gemm.operands import Extent, Matrix, transposed
from tinygrad_attn.kernels.runtime.calls import call
from tinygrad_attn.kernels.runtime.jit import called_kernel, inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import read_struct, row_at
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = [
    "add_bias", "differentiate_weights", "make_backward", "make_forward", "normalize_block", "scale_gradients",
    "scale_rows", "weigh_block",
]  # fmt: skip

# --- What both passes do ----------------------------------------------------------------------------------------------


@called_kernel
def add_bias(dtype: Any, task: int, own: int, head: int, first: int, last: int, j: int, count: int) -> None:
    """Add to the scores of the queries from ``first`` to ``last`` with ``count`` keys what they are biased by."""
    s = read_struct(Task, task)
    scores = row_at(dtype, own + s.scores, 0, (last - first) * s.stride)
    bias = row_at(dtype, s.bias, 0, s.bias_size)
    at = head // s.heads * s.bias_batch + head % s.heads * s.bias_head + j
    for row in range(max(0, j - first) if s.causal else 0, last - first):
        seen = seen_of_row(s, first + row, j, count)
        add_to_row(scores, row * s.stride, seen, bias, at + (first + row) * s.bias_query)


@called_kernel
def scale_rows(dtype: Any, source: Any, target: int, rows: int, width: int, scale: float) -> None:
    """Rows of ``width`` elements at ``target``: those of ``source`` times ``scale``."""
    for row in range(rows):
        x, y = row_at(dtype, source.address + row * source.row, 0, width), row_at(dtype, target, row, width)
        step = simd.lanes(x)
        whole = width - width % step
        for i in range(0, whole, step):
            simd.store(y, i, simd.load(x, i) * scale)
        if whole < width:
            simd.store_part(y, whole, width - whole, simd.load_part(x, whole, width - whole, 0.0) * scale)


@inlined_kernel
def _keys_at_once(s: Any, first: int, j: int, seen: int) -> int:
    """How many keys from ``j`` on to take; fewer where a causal mask cuts through, since some rows see none of them."""
    count = min(s.key_block, seen - j)
    if s.causal:
        clear = (first + 1) // s.corner * s.corner - j
        count = min(count, max(clear, s.corner))
    return count


@called_kernel
def _keep_weights(task: int, own: int, head: int, first: int, last: int, j: int, count: int) -> None:
    """Write which weights of the queries from ``first`` to ``last`` with ``count`` keys dropout keeps.

    A weight's number is its place in (B, H, L, S), so where ``count`` is all keys the numbers of the rows adjoin: many
    are then decided on at once, which for short sentences takes a quarter of the time.
    """
    s = read_struct(Task, task)
    runs = 1 if count == s.keys else last - first
    length = (last - first) * count // runs
    number = (head * s.queries + first) * s.keys + j
    for run in range(runs):
        call(s.keep, own + s.kept + run * length, number + run * s.keys, length, s.key, s.threshold)


# --- Forward ----------------------------------------------------------------------------------------------------------


@called_kernel
def weigh_block(
    dtype: Any, task: int, own: int, head: int, first: int, last: int, j: int, count: int, out: Any
) -> None:
    """Scores of the queries from ``first`` to ``last`` with ``count`` keys become weights of the rows of ``out``."""
    s = read_struct(Task, task)
    rows = last - first
    if s.keep != 0:
        _keep_weights(task, own, head, first, last, j, count)
    kept = row_at(np.bool_, own + s.kept, 0, rows * count)
    scores = row_at(dtype, own + s.scores, 0, rows * s.stride)
    sums = row_at(dtype, own + s.sums, 0, rows * simd.lanes(scores))
    tops = row_at(dtype, s.tops, head, s.queries)
    mask = row_at(np.bool_, s.mask, 0, s.mask_size)
    mask_at = head // s.heads * s.mask_batch + head % s.heads * s.mask_head + j
    for row in range(max(0, j - first) if s.causal else 0, rows):
        query = first + row
        seen = seen_of_row(s, query, j, count)
        if s.mask != 0:
            hide(scores, row * s.stride, seen, mask, mask_at + query * s.mask_query, -math.inf)
        o = row_at(dtype, out.address + row * out.row, 0, s.value_width)
        sums_at = row * simd.lanes(scores)
        weigh_row(scores, row * s.stride, seen, count, tops, query, sums, sums_at, o, j == 0)
        if s.keep != 0:
            hide(scores, row * s.stride, seen, kept, row * count, 0.0)


@called_kernel
def normalize_block(dtype: Any, task: int, own: int, head: int, first: int, last: int, out: Any) -> None:
    """Outputs are divided by the sums of their weights; rows without weights are zero already."""
    s = read_struct(Task, task)
    factors = row_at(dtype, s.factors, head, s.queries)
    for row in range(last - first):
        o = row_at(dtype, out.address + row * out.row, 0, s.value_width)
        total = simd.reduce_sum(simd.load(row_at(dtype, own + s.sums, row, simd.lanes(o)), 0))
        factor = 0.0 if total == 0.0 else 1.0 / total
        factors[first + row] = factor
        scale_row(o, simd.splat(o, factors[first + row]) * s.kept_scale)


@called_kernel
def _attend_block(dtype: Any, task: int, own: int, head: int, first: int, last: int) -> None:
    """The outputs of the queries from ``first`` to ``last`` of a head."""
    s = read_struct(Task, task)
    size, rows, batch, member = s.itemsize, last - first, head // s.heads, head % s.heads
    q = below(rows_of(task, s.strides, QUERY, batch, member, size), first)
    out = below(rows_of(task, s.strides, OUTPUT, batch, member, size), first)
    query, scores = Matrix(own + s.query, s.width * size, size), Matrix(own + s.scores, s.stride * size, size)
    across = Matrix(own + s.across, s.panel * size, s.panel * s.width * size)
    values = Matrix(own + s.values, s.panel * size, s.panel * s.keys * size)
    if is_read_in_place(s, s.value_width):
        v = rows_of(task, s.strides, VALUE, batch, member // s.group, size)
        values = Matrix(v.address, v.row, s.panel * size)
    scale_rows(dtype, q, query.address, rows, s.width, s.scale)
    tops = row_at(dtype, s.tops, head, s.queries)
    for i in range(first, last):
        tops[i] = -math.inf
    seen = min(s.keys, last) if s.causal else s.keys
    j: Any = np.int64(0)  # the type of a bare 0 would have what it is given to compiled twice
    while j < seen:
        count = _keys_at_once(s, first, j, seen)
        blind = max(0, j - first) if s.causal else 0
        panels = Matrix(across.address + j // s.panel * across.column, across.row, across.column)
        extent = Extent(rows - blind, count, s.width)
        call(s.product, extent, below(query, blind), panels, below(scores, blind), 0)
        if s.bias != 0:
            add_bias(dtype, task, own, head, first, last, j, count)
        weigh_block(dtype, task, own, head, first, last, j, count, out)
        extent = Extent(rows - blind, s.value_width, count)
        call(s.product, extent, below(scores, blind), below(values, j), below(out, blind), 0 if j == 0 else 1)
        j += count
    normalize_block(dtype, task, own, head, first, last, out)


def make_forward(dtype: Any) -> Any:
    """Attention, a kernel ``(task, own, first, last)`` for some items: blocks of queries, one after the other."""

    @serial_kernel
    def forward(task: int, own: int, first: int, last: int) -> None:
        s = read_struct(Task, task)
        size, packed = s.itemsize, -1
        for item in range(first, last):
            head, block = item // s.blocks, item % s.blocks
            if head // s.group != packed:
                packed = head // s.group
                k = rows_of(task, s.strides, KEY, head // s.heads, head % s.heads // s.group, size)
                v = rows_of(task, s.strides, VALUE, head // s.heads, head % s.heads // s.group, size)
                call(s.pack, Extent(s.width, s.keys, 0), transposed(k), own + s.across)
                if not is_read_in_place(s, s.value_width):
                    call(s.pack, Extent(s.keys, s.value_width, 0), v, own + s.values)
            start, stop = s.queries * block // s.blocks, s.queries * (block + 1) // s.blocks
            _attend_block(dtype, task, own, head, start, stop)

    return forward


# --- Backward ---------------------------------------------------------------------------------------------------------


@called_kernel
def scale_gradients(dtype: Any, task: int, own: int, head: int, first: int, last: int, g: Any, out: Any) -> None:
    """G times each row's factor, and to the same scale the mean of dP over its weights, rowsum(G O) = rowsum(P dP)."""
    s = read_struct(Task, task)
    factors, width = row_at(dtype, s.factors, head, s.queries), s.value_width
    means = row_at(dtype, own + s.means, 0, last - first)
    for row in range(last - first):
        x, o = row_at(dtype, g.address + row * g.row, 0, width), row_at(dtype, out.address + row * out.row, 0, width)
        y = row_at(dtype, own + s.gradient, row, width)
        factor, step = factors[first + row], simd.lanes(x)
        total = simd.splat(x, 0.0)
        for i in range(0, width, step):
            rest = min(step, width - i)
            scaled = simd.load_part(x, i, rest, 0.0) * factor
            simd.store_part(y, i, rest, scaled * s.kept_scale)
            total = simd.fma(scaled, simd.load_part(o, i, rest, 0.0), total)
        means[row] = simd.reduce_sum(total)


@called_kernel
def differentiate_weights(
    dtype: Any, task: int, own: int, head: int, first: int, last: int, j: int, count: int
) -> None:
    """Scores of the queries from ``first`` to ``last`` with ``count`` keys become weights, and dP becomes dS."""
    s = read_struct(Task, task)
    rows = last - first
    if s.keep != 0:
        _keep_weights(task, own, head, first, last, j, count)
    kept = row_at(np.bool_, own + s.kept, 0, rows * count)
    scores = row_at(dtype, own + s.scores, 0, rows * s.stride)
    gradient = row_at(dtype, own + s.dscores, 0, rows * s.stride)
    means, tops = row_at(dtype, own + s.means, 0, rows), row_at(dtype, s.tops, head, s.queries)
    mask = row_at(np.bool_, s.mask, 0, s.mask_size)
    mask_at = head // s.heads * s.mask_batch + head % s.heads * s.mask_head + j
    for row in range(max(0, j - first) if s.causal else 0, rows):
        query = first + row
        seen = seen_of_row(s, query, j, count)
        if s.mask != 0:
            hide(scores, row * s.stride, seen, mask, mask_at + query * s.mask_query, -math.inf)
        at = row * s.stride
        if s.keep != 0:
            hide(gradient, at, seen, kept, row * count, 0.0)
        differentiate_row(scores, gradient, at, seen, count, tops[query], means[row])
        if s.keep != 0:
            hide(scores, at, seen, kept, row * count, 0.0)


@inlined_kernel
def _panels(s: Any, rows_at: int, packed_at: int, rows: int, width: int) -> Any:
    """Rows that adjoin, as panels: where they lie if they are whole vectors, or packed."""
    size = s.itemsize
    if width * size % 64 == 0:
        return Matrix(rows_at, width * size, s.panel * size)
    return Matrix(packed_at, s.panel * size, s.panel * rows * size)


@called_kernel
def _multiply_gradients(task: int, own: int, head: int, first: int, last: int, j: int, count: int) -> None:
    """The parts that a block of queries and ``count`` keys have in dQ = dS K, dK = dSᵀ Q and dV = Pᵀ G."""
    s = read_struct(Task, task)
    size, rows, batch, member = s.itemsize, last - first, head // s.heads, head % s.heads
    blind = max(0, j - first) if s.causal else 0
    p, ds = Matrix(own + s.scores, s.stride * size, size), Matrix(own + s.dscores, s.stride * size, size)
    p, ds = below(p, blind), below(ds, blind)
    dq = below(rows_of(task, s.strides, OF_QUERY, batch, member, size), first + blind)
    dk = below(rows_of(task, s.strides, OF_KEY, batch, member // s.group, size), j)
    dv = below(rows_of(task, s.strides, OF_VALUE, batch, member // s.group, size), j)
    k = Matrix(own + s.keys_down, s.panel * size, s.panel * s.keys * size)
    if is_read_in_place(s, s.width):
        of_keys = rows_of(task, s.strides, KEY, batch, member // s.group, size)
        k = Matrix(of_keys.address, of_keys.row, s.panel * size)
    q = _panels(s, own + s.query, own + s.query_panels, rows, s.width)
    g = _panels(s, own + s.gradient, own + s.gradient_panels, rows, s.value_width)
    # The last block of queries, which sees all keys, comes first, and so does the first head that shares the keys.
    started = 0 if last == s.queries and member % s.group == 0 else 1
    call(s.product, Extent(rows - blind, s.width, count), ds, below(k, j), dq, 0 if j == 0 else 1)
    call(s.product, Extent(count, s.width, rows - blind), transposed(ds), below(q, blind), dk, started)
    call(s.product, Extent(count, s.value_width, rows - blind), transposed(p), below(g, blind), dv, started)


@called_kernel
def _differentiate_block(dtype: Any, task: int, own: int, head: int, first: int, last: int) -> None:
    """dQ of the queries from ``first`` to ``last`` of a head, and their parts of dK and dV."""
    s = read_struct(Task, task)
    size, rows, batch, member = s.itemsize, last - first, head // s.heads, head % s.heads
    q = below(rows_of(task, s.strides, QUERY, batch, member, size), first)
    g = below(rows_of(task, s.strides, GRADIENT, batch, member, size), first)
    out = below(rows_of(task, s.strides, OUTPUT, batch, member, size), first)
    query, gradient = (
        Matrix(own + s.query, s.width * size, size),
        Matrix(own + s.gradient, s.value_width * size, size),
    )
    scores, dscores = Matrix(own + s.scores, s.stride * size, size), Matrix(own + s.dscores, s.stride * size, size)
    across = Matrix(own + s.across, s.panel * size, s.panel * s.width * size)
    values = Matrix(own + s.values, s.panel * size, s.panel * s.value_width * size)
    scale_rows(dtype, q, query.address, rows, s.width, s.scale)
    scale_gradients(dtype, task, own, head, first, last, g, out)
    if s.width * size % 64 != 0:
        call(s.pack, Extent(rows, s.width, 0), query, own + s.query_panels)
    if s.value_width * size % 64 != 0:
        call(s.pack, Extent(rows, s.value_width, 0), gradient, own + s.gradient_panels)
    seen = min(s.keys, last) if s.causal else s.keys
    j: Any = np.int64(0)
    while j < seen:
        count = _keys_at_once(s, first, j, seen)
        blind = max(0, j - first) if s.causal else 0
        panels = Matrix(across.address + j // s.panel * across.column, across.row, across.column)
        extent = Extent(rows - blind, count, s.width)
        call(s.product, extent, below(query, blind), panels, below(scores, blind), 0)
        panels = Matrix(values.address + j // s.panel * values.column, values.row, values.column)
        extent = Extent(rows - blind, count, s.value_width)
        call(s.product, extent, below(gradient, blind), panels, below(dscores, blind), 0)
        if s.bias != 0:
            add_bias(dtype, task, own, head, first, last, j, count)
        differentiate_weights(dtype, task, own, head, first, last, j, count)
        _multiply_gradients(task, own, head, first, last, j, count)
        j += count
    dq = below(rows_of(task, s.strides, OF_QUERY, batch, member, size), first)
    for row in range(rows):
        x = row_at(dtype, dq.address + row * dq.row, 0, s.width)
        scale_row(x, simd.splat(x, s.scale))


def make_backward(dtype: Any) -> Any:
    """The gradients, a kernel ``(task, own, first, last)`` for some items: heads of keys, and those that share them."""

    @serial_kernel
    def backward(task: int, own: int, first: int, last: int) -> None:
        s = read_struct(Task, task)
        size = s.itemsize
        for head in range(first * s.group, last * s.group):
            if head % s.group == 0:
                k = rows_of(task, s.strides, KEY, head // s.heads, head % s.heads // s.group, size)
                v = rows_of(task, s.strides, VALUE, head // s.heads, head % s.heads // s.group, size)
                call(s.pack, Extent(s.width, s.keys, 0), transposed(k), own + s.across)
                call(s.pack, Extent(s.value_width, s.keys, 0), transposed(v), own + s.values)
                if not is_read_in_place(s, s.width):
                    call(s.pack, Extent(s.keys, s.width, 0), k, own + s.keys_down)
            for block in range(s.blocks - 1, -1, -1):
                start, stop = s.queries * block // s.blocks, s.queries * (block + 1) // s.blocks
                _differentiate_block(dtype, task, own, head, start, stop)

    return backward
