"""Blocks of queries and keys as in `kernels.attention.blocks`, their products on AMX's tiles of bfloat16.

How a product of float32 is made of products of bfloat16 says `kernels.gemm.bfloat16`. Queries, keys, values and the
gradient of the outputs are split into parts once a block or head, weights and the gradients of scores once in a block
of queries and keys. A tile holds pairs of steps of the depth, which is the keys in dQ = dS K and the queries in
dK = dSᵀ Q and dV = Pᵀ G. These two are computed as dKᵀ = Qᵀ dS and dVᵀ = Gᵀ P, so that neither P nor dS is transposed,
and are turned when all queries have come.

What is smaller than 2^-100 loses bits on tiles, and what is near infinity overflows: a head with such a number in Q, K,
V or G goes to the ordinary kernel, the field ``items`` of `Parts`. Weights and gradients of scores that are so small
lose their lower bits, as those below 2^-126 lose all of them in either kernel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.attention.blocks import (
    add_bias,
    differentiate_weights,
    normalize_block,
    scale_gradients,
    scale_rows,
    weigh_block,
)  # fmt: skip
from tinygrad_attn.kernels.attention.rows import scale_row
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
    rows_of,
    seen_of_row,
)  # fmt: skip
from tinygrad_attn.kernels.gemm.bfloat16 import add_square, write_square
from tinygrad_attn.kernels.gemm.operands import Extent, Matrix, transposed
from tinygrad_attn.kernels.gemm.parts import PANEL_STEP, SIDE, STEP, TILE, pack_panels, store_depths, store_items
from tinygrad_attn.kernels.gemm.tiles import begin_tiles, end_tiles, multiply_tiles, tiles_are_there
from tinygrad_attn.kernels.runtime.calls import call
from tinygrad_attn.kernels.runtime.jit import called_kernel, inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import read_struct, row_at
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.simd.turn import turn

__all__ = ["BLOCKS", "Parts", "attend_on_tiles", "differentiate_on_tiles", "pays", "sizes_of_parts"]

BLOCKS = {True: (64, 256), False: (128, 128)}  # queries and keys of a block, forward and backward
# With fewer queries or keys than these, splitting costs what multiplying gains.
_LEAST = 192
_MOST_IN_VAIN = 1.25  # elements of panels for each of a row
_CHUNK = 4  # steps of the depth that stay in the first-level cache, as in `kernels.gemm.bfloat16`


class Parts(NamedTuple):
    """Where, in bytes from the start of a worker's scratch memory, the parts of matrices lie. A is what stands on a
    product's left, B what stands on its right."""

    items: int  # the ordinary kernel
    settings: int  # of the tiles
    ranges: int  # that `pack_panels` writes
    square: int
    query: int  # A, scale Q
    keys: int  # B, Kᵀ
    values: int  # B: forward V, backward Vᵀ
    weights: int = 0  # forward: A, P
    gradient: int = 0  # backward: A, G
    query_across: int = 0  # A, Qᵀ
    gradient_across: int = 0  # A, Gᵀ
    keys_down: int = 0  # B, K
    dscores: int = 0  # A, dS
    weight_pairs: int = 0  # B, P
    dscore_pairs: int = 0  # B, dS
    dk: int = 0  # dKᵀ, whole squares of float32
    dv: int = 0  # dVᵀ


def pays(dtype: np.dtype[Any], sizes: tuple[int, int, int, int], scale: float) -> bool:
    """Whether attention of these queries, keys, width and value width is to be computed on tiles."""
    queries, keys, *widths = sizes
    return (
        dtype == np.float32
        and min(queries, keys) >= _LEAST
        and all(_panels(width) * SIDE <= _MOST_IN_VAIN * width for width in widths)
        and 2.0**-20 <= abs(scale) <= 2.0**20
        and tiles_are_there()
    )


def _panels(items: int) -> int:
    return -(-items // SIDE)


def sizes_of_parts(forward: bool, rows: int, key_block: int, sizes: tuple[int, int, int, int]) -> dict[str, int]:
    """The bytes of each place in `Parts`, for blocks of so many rows."""
    _, keys, width, value_width = sizes
    step, across, of_values = PANEL_STEP, _panels(width), _panels(value_width)
    all_keys, queries, some_keys = _panels(keys), _panels(rows), _panels(min(key_block, keys))
    parts = {"settings": 64, "ranges": 16 * max(all_keys, queries, across, of_values), "square": 4 * SIDE * SIDE}
    parts |= {"query": queries * across * step, "keys": all_keys * across * step}
    parts["values"] = all_keys * of_values * step
    if forward:
        return parts | {"weights": queries * some_keys * step}
    parts |= {"gradient": queries * of_values * step, "query_across": across * queries * step}
    parts |= {"gradient_across": of_values * queries * step, "keys_down": across * all_keys * step}
    parts |= dict.fromkeys(("dscores", "weight_pairs", "dscore_pairs"), queries * some_keys * step)
    return parts | {"dk": across * all_keys * 4 * SIDE * SIDE, "dv": of_values * all_keys * 4 * SIDE * SIDE}


# --- What both passes do ----------------------------------------------------------------------------------------------

_SMALLEST, _LARGEST = 2.0**-100, 2.0**60


@called_kernel
def _fit(source: Any, rows: int, width: int) -> bool:
    """Whether all numbers are zero, or neither too small nor too large for tiles."""
    odd = simd.splat(row_at(np.float32, source.address, 0, 16), 0.0)
    for row in range(rows):
        x = row_at(np.float32, source.address + row * source.row, 0, width)
        for i in range(0, width, 16):
            value = simd.load_part(x, i, min(16, width - i), 0.0)
            size = simd.maximum(value, -value)
            wrong = simd.select(size >= _SMALLEST, simd.select(size <= _LARGEST, odd, 1.0), 1.0)
            odd = simd.select(value == 0.0, odd, wrong)
    return simd.reduce_max(odd) == 0.0


@inlined_kernel
def _visible(s: Any, query: int, j: int, count: int) -> int:
    """Panels of the ``count`` keys from ``j`` on of which a query may attend to some."""
    return -(-max(0, seen_of_row(s, query, j, count)) // SIDE)


@called_kernel
def _multiply_scores(task: int, places: Any, width: int, first: int, last: int, j: int, count: int) -> None:
    """C = A B, for A = Q or G and B = Kᵀ or Vᵀ; ``places`` are those of A, B and C.

    Rows are those of the queries from ``first`` to ``last``, columns those of the ``count`` keys from ``j`` on. Squares
    of which nothing may be seen are left out.
    """
    s = read_struct(Task, task)
    a, b, scores = places
    steps = -(-width // STEP)
    panel = steps * PANEL_STEP
    for row in range(0, last - first, SIDE):
        keys = b + j // SIDE * panel
        for k in range(_visible(s, min(first + row + SIDE, last) - 1, j, count)):
            target = scores + (row * s.stride + k * SIDE) * 4
            multiply_tiles(a + row // SIDE * panel, keys + k * panel, steps, target, s.stride * 4)


@called_kernel
def _add_rows(square: int, a: int, b: int, steps: int, hidden: int, c: Any, extent: Any, accumulate: int) -> None:
    """C, or C +, = the product of two panels, without its ``hidden`` first rows."""
    whole = extent.rows == SIDE and extent.columns == SIDE
    for step in range(0, steps, _CHUNK):
        at, count, add = step * PANEL_STEP, min(_CHUNK, steps - step), accumulate != 0 or step > 0
        if whole and not add:
            multiply_tiles(a + at, b + at, count, c.address, c.row)
            continue
        multiply_tiles(a + at, b + at, count, square, 4 * SIDE)
        if whole:
            add_square(square, c)
        else:
            write_square(square + hidden * 4 * SIDE, c, extent, 0, 1 if add else 0)


@called_kernel
def _multiply_rows(task: int, places: Any, first: int, last: int, j: int, count: int, c: Any, width: int) -> None:
    """Rows of C, or C +, = A B, for A = P or dS in parts, and B = V or K; ``places`` are those of the square, A and B.

    Rows of C are those of the queries from ``first`` to ``last``; B has panels of all keys.
    """
    s = read_struct(Task, task)
    square, a, b = places
    blind = max(0, j - first) if s.causal else 0
    panel, depth = -(-min(s.key_block, s.keys) // STEP) * PANEL_STEP, -(-s.keys // STEP) * PANEL_STEP
    for row in range(0, last - first, SIDE):
        steps = _visible(s, min(first + row + SIDE, last) - 1, j, count)
        hidden = max(0, blind - row)
        if steps > 0:
            for column in range(0, width, SIDE):
                extent = Extent(min(SIDE, last - first - row) - hidden, min(SIDE, width - column), 0)
                target = Matrix(c.address + (row + hidden) * c.row + column * 4, c.row, 4)
                b_panel = b + column // SIDE * depth + j // STEP * PANEL_STEP
                a_panel = a + row // SIDE * panel
                _add_rows(square, a_panel, b_panel, steps, hidden, target, extent, 0 if j == 0 else 1)


# --- Forward ----------------------------------------------------------------------------------------------------------


@called_kernel
def _split_weights(task: int, scores: int, weights: int, first: int, last: int, j: int, count: int) -> None:
    """P in parts, as A."""
    s = read_struct(Task, task)
    panel = -(-min(s.key_block, s.keys) // STEP) * PANEL_STEP
    for row in range(max(0, j - first) if s.causal else 0, last - first):
        x = row_at(np.float32, scores, row, s.stride)
        at = weights + row // SIDE * panel + row % SIDE * 64
        for step in range(_visible(s, min(first + row // SIDE * SIDE + SIDE, last) - 1, j, count)):
            store_depths(at + step * PANEL_STEP, simd.load(x, step * STEP), simd.load(x, step * STEP + 16))


@called_kernel
def _attend_block(task: int, own: int, head: int, first: int, last: int) -> None:
    """The outputs of the queries from ``first`` to ``last`` of a head, whose scaled queries are there."""
    s = read_struct(Task, task)
    p = read_struct(Parts, s.parts)
    rows = last - first
    out = below(rows_of(task, s.strides, OUTPUT, head // s.heads, head % s.heads, 4), first)
    query = Matrix(own + s.query, s.width * 4, 4)
    pack_panels(own + p.query, -(-s.width // STEP) * PANEL_STEP, own + p.ranges, query, rows, s.width, 0)
    tops = row_at(np.float32, s.tops, head, s.queries)
    for i in range(first, last):
        tops[i] = -np.inf
    seen = min(s.keys, -(-last // SIDE) * SIDE) if s.causal else s.keys
    j: Any = np.int64(0)
    while j < seen:
        count = min(s.key_block, seen - j)
        places = (own + p.query, own + p.keys, own + s.scores)
        _multiply_scores(task, places, s.width, first, last, j, count)
        if s.bias != 0:
            add_bias(np.float32, task, own, head, first, last, j, count)
        weigh_block(np.float32, task, own, head, first, last, j, count, out)
        _split_weights(task, own + s.scores, own + p.weights, first, last, j, count)
        places = (own + p.square, own + p.weights, own + p.values)
        _multiply_rows(task, places, first, last, j, count, out, s.value_width)
        j += count
    normalize_block(np.float32, task, own, head, first, last, out)


@serial_kernel
def attend_on_tiles(task: int, own: int, first: int, last: int) -> None:
    """As what `kernels.attention.blocks.make_forward` makes."""
    s = read_struct(Task, task)
    p = read_struct(Parts, s.parts)
    packed, fit = -1, False
    begin_tiles(own + p.settings)
    for item in range(first, last):
        head, block = item // s.blocks, item % s.blocks
        batch, member = head // s.heads, head % s.heads
        if head // s.group != packed:
            packed = head // s.group
            k = rows_of(task, s.strides, KEY, batch, member // s.group, 4)
            v = rows_of(task, s.strides, VALUE, batch, member // s.group, 4)
            fit = _fit(k, s.keys, s.width) and _fit(v, s.keys, s.value_width)
            pack_panels(own + p.keys, -(-s.width // STEP) * PANEL_STEP, own + p.ranges, k, s.keys, s.width, 1)
            panel = -(-s.keys // STEP) * PANEL_STEP
            pack_panels(own + p.values, panel, own + p.ranges, transposed(v), s.value_width, s.keys, 1)
        start, stop = s.queries * block // s.blocks, s.queries * (block + 1) // s.blocks
        q = below(rows_of(task, s.strides, QUERY, batch, member, 4), start)
        scale_rows(np.float32, q, own + s.query, stop - start, s.width, s.scale)
        if fit and _fit(Matrix(own + s.query, s.width * 4, 4), stop - start, s.width):
            _attend_block(task, own, head, start, stop)
        else:
            call(p.items, task, own, item, item + 1)
    end_tiles()


# --- Backward ---------------------------------------------------------------------------------------------------------


@called_kernel
def _clear_hidden(task: int, scores: int, first: int, last: int, j: int, count: int) -> None:
    """Zeros in the rows of queries that see none of the keys from ``j`` on, where others of their panel see some."""
    s = read_struct(Task, task)
    for row in range(min(max(0, j - first), last - first)):
        x = row_at(np.float32, scores, row, s.stride)
        for k in range(_visible(s, min(first + row // SIDE * SIDE + SIDE, last) - 1, j, count)):
            simd.store(x, k * SIDE, simd.splat(x, 0.0))
            simd.store(x, k * SIDE + 16, simd.splat(x, 0.0))


@called_kernel
def _split_pairs(task: int, own: int, first: int, last: int, j: int, count: int) -> None:
    """P in parts, as B, and dS, as A and as B; two queries at a time."""
    s = read_struct(Task, task)
    p = read_struct(Parts, s.parts)
    rows = -(-(last - first) // SIDE) * SIDE
    down, across = -(-min(s.key_block, s.keys) // STEP) * PANEL_STEP, rows // STEP * PANEL_STEP
    size = rows * s.stride
    x, y = row_at(np.float32, own + s.scores, 0, size), row_at(np.float32, own + s.dscores, 0, size)
    for k in range(-(-count // SIDE)):
        blind = max(0, j + k * SIDE - first) // SIDE * SIDE if s.causal else 0
        for row in range(blind, rows, 2):
            i = row * s.stride + k * SIDE
            i_2 = i + s.stride
            at = own + k * across + row // SIDE * PANEL_STEP + row % SIDE // 2 * 64
            of_row = own + p.dscores + row // SIDE * down + k * PANEL_STEP + row % SIDE * 64
            a, b, a_2, b_2 = simd.load(y, i), simd.load(y, i + 16), simd.load(y, i_2), simd.load(y, i_2 + 16)
            store_depths(of_row, a, b)
            store_depths(of_row + 64, a_2, b_2)
            store_items(p.dscore_pairs + at, a, a_2)
            store_items(p.dscore_pairs + at + TILE, b, b_2)
            store_items(p.weight_pairs + at, simd.load(x, i), simd.load(x, i_2))
            store_items(p.weight_pairs + at + TILE, simd.load(x, i + 16), simd.load(x, i_2 + 16))


@called_kernel
def _multiply_across(task: int, places: Any, first: int, last: int, j: int, count: int, width: int, add: bool) -> None:
    """Columns of C, or C +, = A B, for A = Qᵀ or Gᵀ and B = dS or P; ``places`` are those of the square, A, B and C.

    Columns of C are those of the ``count`` keys from ``j`` on.
    """
    s = read_struct(Task, task)
    square, a, b, c = places
    steps = -(-(last - first) // STEP)
    c_row = -(-s.keys // SIDE) * SIDE * 4
    for k in range(-(-count // SIDE)):
        blind = 0  # steps of queries of which none sees this panel
        if s.causal:
            blind = max(0, j + k * SIDE - first) // STEP
        from_ = blind * PANEL_STEP
        b_panel = b + k * steps * PANEL_STEP + from_
        for column in range(0, width, SIDE):
            a_panel = a + column // SIDE * steps * PANEL_STEP + from_
            target = Matrix(c + column * c_row + (j + k * SIDE) * 4, c_row, 4)
            if add:
                multiply_tiles(a_panel, b_panel, steps - blind, square, 4 * SIDE)
                add_square(square, target)
            else:
                multiply_tiles(a_panel, b_panel, steps - blind, target.address, c_row)


@called_kernel
def _differentiate_block(task: int, own: int, head: int, first: int, last: int) -> None:
    """dQ of the queries from ``first`` to ``last`` of a head, and their parts of dKᵀ and dVᵀ."""
    s = read_struct(Task, task)
    p = read_struct(Parts, s.parts)
    rows, batch, member = last - first, head // s.heads, head % s.heads
    q = below(rows_of(task, s.strides, QUERY, batch, member, 4), first)
    g = below(rows_of(task, s.strides, GRADIENT, batch, member, 4), first)
    out = below(rows_of(task, s.strides, OUTPUT, batch, member, 4), first)
    dq = below(rows_of(task, s.strides, OF_QUERY, batch, member, 4), first)
    scale_rows(np.float32, q, own + s.query, rows, s.width, s.scale)
    scale_gradients(np.float32, task, own, head, first, last, g, out)
    query, gradient = Matrix(own + s.query, s.width * 4, 4), Matrix(own + s.gradient, s.value_width * 4, 4)
    ranges, steps = own + p.ranges, -(-rows // STEP) * PANEL_STEP
    pack_panels(own + p.query, -(-s.width // STEP) * PANEL_STEP, ranges, query, rows, s.width, 0)
    pack_panels(own + p.gradient, -(-s.value_width // STEP) * PANEL_STEP, ranges, gradient, rows, s.value_width, 0)
    pack_panels(own + p.query_across, steps, ranges, transposed(query), s.width, rows, 0)
    pack_panels(own + p.gradient_across, steps, ranges, transposed(gradient), s.value_width, rows, 0)
    # The last block of queries, which sees all keys, comes first, and so does the first head that shares the keys.
    add = last != s.queries or member % s.group != 0
    seen = min(s.keys, -(-last // SIDE) * SIDE) if s.causal else s.keys
    j: Any = np.int64(0)
    while j < seen:
        count = min(s.key_block, seen - j)
        places = (own + p.query, own + p.keys, own + s.scores)
        _multiply_scores(task, places, s.width, first, last, j, count)
        places = (own + p.gradient, own + p.values, own + s.dscores)
        _multiply_scores(task, places, s.value_width, first, last, j, count)
        if s.bias != 0:
            add_bias(np.float32, task, own, head, first, last, j, count)
        differentiate_weights(np.float32, task, own, head, first, last, j, count)
        if s.causal:
            _clear_hidden(task, own + s.scores, first, last, j, count)
            _clear_hidden(task, own + s.dscores, first, last, j, count)
        _split_pairs(task, own, first, last, j, count)
        places = (own + p.square, own + p.dscores, own + p.keys_down)
        _multiply_rows(task, places, first, last, j, count, dq, s.width)
        across = (own + p.square, own + p.query_across, own + p.dscore_pairs, own + p.dk)
        _multiply_across(task, across, first, last, j, count, s.width, add)
        across = (own + p.square, own + p.gradient_across, own + p.weight_pairs, own + p.dv)
        _multiply_across(task, across, first, last, j, count, s.value_width, add)
        j += count
    for row in range(rows):
        x = row_at(np.float32, dq.address + row * dq.row, 0, s.width)
        scale_row(x, simd.splat(x, s.scale))


@serial_kernel
def differentiate_on_tiles(task: int, own: int, first: int, last: int) -> None:
    """As what `kernels.attention.blocks.make_backward` makes."""
    s = read_struct(Task, task)
    p = read_struct(Parts, s.parts)
    begin_tiles(own + p.settings)
    for shared in range(first, last):
        heads = s.heads // s.group
        batch, of_keys = shared // heads, shared % heads
        k, v = rows_of(task, s.strides, KEY, batch, of_keys, 4), rows_of(task, s.strides, VALUE, batch, of_keys, 4)
        fit = _fit(k, s.keys, s.width) and _fit(v, s.keys, s.value_width)
        for head in range(shared * s.group, (shared + 1) * s.group):
            q = rows_of(task, s.strides, QUERY, batch, head % s.heads, 4)
            g = rows_of(task, s.strides, GRADIENT, batch, head % s.heads, 4)
            fit = fit and _fit(q, s.queries, s.width) and _fit(g, s.queries, s.value_width)
        if not fit:
            call(p.items, task, own, shared, shared + 1)
            continue
        ranges, down = own + p.ranges, -(-s.keys // STEP) * PANEL_STEP
        pack_panels(own + p.keys, -(-s.width // STEP) * PANEL_STEP, ranges, k, s.keys, s.width, 1)
        pack_panels(own + p.values, -(-s.value_width // STEP) * PANEL_STEP, ranges, v, s.keys, s.value_width, 1)
        pack_panels(own + p.keys_down, down, ranges, transposed(k), s.width, s.keys, 1)
        for head in range(shared * s.group, (shared + 1) * s.group):
            for block in range(s.blocks - 1, -1, -1):
                start, stop = s.queries * block // s.blocks, s.queries * (block + 1) // s.blocks
                _differentiate_block(task, own, head, start, stop)
        seen, row = min(s.keys, s.queries) if s.causal else s.keys, -(-s.keys // SIDE) * SIDE * 4
        dk, dv = (
            rows_of(task, s.strides, OF_KEY, batch, of_keys, 4),
            rows_of(task, s.strides, OF_VALUE, batch, of_keys, 4),
        )
        turn(own + p.dk, row, dk.address, dk.row, s.width, seen)
        turn(own + p.dv, row, dv.address, dv.row, s.value_width, seen)
    end_tiles()
