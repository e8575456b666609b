"""The product of float32 on the tiles of AMX, which multiply bfloat16: every number as the sum of three of them.

A bfloat16 is the upper half of a float32: its sign, exponent and first 8 bits. So a float32, which has 24 bits, is the
sum ``h + m + l`` of three, and a product of two is, but for terms below 2^-25 of it::

    (h + m + l) (h' + m' + l')  =  h h' + (h m' + m h') + (h l' + m m' + l h')

Six products on tiles, which add in float32, take less time than one of float32 in other registers. The small terms are
summed first, of some steps of the depth, and the large ones, of which the processor adds two at once, after them: the
sums are nearer to the exact ones than those of `kernels.gemm.tile`. On tiles subnormal numbers count as zero, and
rounding may end in infinity. Where numbers of a row of A and of a column of B are so small or large that this may
happen (`_fit`), elements of C that are not finite, or so small that it counts (`_least`), are taken from
`kernels.gemm.blocks`.

Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations",
ARITH 2019. `split_in_numpy` and `multiply_in_numpy` say what the kernels compute.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_attn.kernels.gemm.operands import Epilogue, Extent, Matrix, transposed
from tinygrad_attn.kernels.gemm.parts import (
    PANEL_STEP,
    SIDE,
    SMALLEST_BITS,
    STEP,
    emit_any,
    emit_size,
    pack_panels,
    split_in_numpy,
)  # fmt: skip
from tinygrad_attn.kernels.gemm.tile import activate_tile
from tinygrad_attn.kernels.gemm.tiles import begin_tiles, end_tiles, multiply_tiles
from tinygrad_attn.kernels.runtime.calls import call
from tinygrad_attn.kernels.runtime.jit import called_kernel, inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import row_at
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.simd.instructions import INT, Address, Emitter, repeat

__all__ = ["MEMORY", "add_square", "multiply_by_parts", "multiply_in_numpy", "write_square"]

Array = np.ndarray[Any, Any]

# Steps of the depth of which a square is summed at a time: panels of 24 KB each, of which A's stays in the first-level
# cache of 48 while all of B's pass by, and both are there when their large parts' turn comes.
_CHUNK = 4
# The blocks: steps of the depth, columns of B, rows of A. Where the depth adjoins in A, rows are read from end to end,
# and a panel alone stays in the first-level cache; where rows adjoin, several panels share the lines that are read.
# The parts of a block of B have at most 1.2 MB, of 2 in the second-level cache.
_ALONG_DEPTH, _ALONG_ROWS = (3 * _CHUNK, 512, SIDE), (_CHUNK, 1024, 4 * SIDE)
_MOST_STEPS = max(steps * (columns + rows) // SIDE for steps, columns, rows in (_ALONG_DEPTH, _ALONG_ROWS))
_MOST_PANELS = max((columns + rows) // SIDE for _, columns, rows in (_ALONG_DEPTH, _ALONG_ROWS))

# Where panels begin: after the settings of the tiles, two squares, and the ranges of a square's items and of panels.
_PANELS = -(-(128 + 2 * 4 * SIDE * SIDE + (2 * SIDE + _MOST_PANELS) * 16) // 64) * 64
MEMORY = _PANELS + _MOST_STEPS * PANEL_STEP
"""Bytes of a worker's scratch memory that `multiply_by_parts` uses before what the ordinary product needs."""


# --- In NumPy ---------------------------------------------------------------------------------------------------------


def multiply_in_numpy(a: Array, b: Array) -> Array:
    """A B of float32 matrices, some steps of the depth after the other."""
    c = np.zeros((len(a), b.shape[1]), np.float32)
    for k in range(0, len(b), STEP):
        h, m, low = split_in_numpy(a[:, k : k + STEP])
        h_b, m_b, low_b = split_in_numpy(b[k : k + STEP])
        c = c + ((h @ low_b + m @ m_b + low @ h_b + h @ m_b + m @ h_b) + h @ h_b)
    return c


# --- What is right ----------------------------------------------------------------------------------------------------


def _emit_is_ordinary(
    emit: Emitter, square: Address, square_row: ir.Value, rows: ir.Value, least: ir.Value
) -> ir.Value:
    builder, integers = emit.builder, ir.VectorType(ir.IntType(32), 16)
    slot = cgutils.alloca_once_value(builder, ir.Constant(ir.VectorType(ir.IntType(1), 16), None))
    least = builder.shl(builder.trunc(least, ir.IntType(32)), ir.Constant(ir.IntType(32), 24))
    range_ = repeat(builder, integers, builder.sub(ir.Constant(ir.IntType(32), 0xFF000000), least))
    least = repeat(builder, integers, least)
    with cgutils.for_range(builder, rows, intp=INT) as loop:
        row, odd = emit.offset(square, loop.index, square_row), builder.load(slot)
        for v in range(2):
            size = emit_size(emit, emit.load(emit.vector_offset(row, v)))
            odd = builder.or_(odd, builder.icmp_unsigned(">=", builder.sub(size, least), range_))
        builder.store(odd, slot)
    return builder.not_(emit_any(emit, builder.load(slot)))


@intrinsic
def _is_ordinary(typingctx: Any, square: Any, square_row: Any, rows: Any, least: Any) -> Any:
    """Whether all elements of some rows of a square are finite, with an exponent of at least ``least``."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return _emit_is_ordinary(Emitter(builder, types.DType(types.float32), 16), *arguments)

    return types.boolean(types.int64, types.int64, types.int64, types.int64), generate


# --- The loops --------------------------------------------------------------------------------------------------------


class _Scratch(NamedTuple):
    """Where the parts of a worker's memory begin."""

    ordinary: int  # the address of the product of `kernels.gemm.blocks`
    square: int  # sums of a square, and the same by the ordinary product
    other: int
    of_rows: int  # the ranges of a square's rows and columns
    of_columns: int
    blocks: int  # memory of the ordinary product


# Sizes are the bits of numbers without their signs, shifted to the left: the uppermost eight are the exponent.
_LEAST_EXPONENT = SMALLEST_BITS >> 23
_LEAST_SUM, _MOST, _MOST_SUM = 2 * 127 - 100, 127 + 120, 2 * 127 + 100
_LEAST_OF_SUM, _LEAST_SHARE = 127 - 95, 95


@inlined_kernel
def _fit(low: int, high: int, other_low: int, other_high: int) -> bool:
    """Whether all products of numbers in two ranges, and all their parts' products that count, are ordinary numbers."""
    a, b, c, d = low >> 24, other_low >> 24, high >> 24, other_high >> 24
    return min(a, b) >= _LEAST_EXPONENT and a + b >= _LEAST_SUM and max(c, d) <= _MOST and c + d <= _MOST_SUM


@inlined_kernel
def _size(bits: int) -> Any:
    return (np.int64(bits) & 0x7FFFFFFF) << 1


@inlined_kernel
def _lower(low: int, size: int) -> Any:
    return min(low, (size - 1) & 0xFFFFFFFF)  # which of zero is the largest number


@called_kernel
def _note_ranges(ranges: int, source: Any, items: int, depth: int) -> None:
    """The range of each item, as of a panel: all lows, and then all highs. Every loop runs along the memory."""
    lows, highs = row_at(np.int64, ranges, 0, SIDE), row_at(np.int64, ranges, 1, SIDE)
    if source.column == 4:
        for i in range(items):
            low, high = 0xFFFFFFFF, 0
            for bits in row_at(np.int32, source.address + i * source.row, 0, depth):
                low, high = _lower(low, _size(bits)), max(high, _size(bits))
            lows[i], highs[i] = low, high
        return
    lows[:], highs[:] = 0xFFFFFFFF, 0
    for k in range(depth):
        row = row_at(np.int32, source.address + k * source.column, 0, items)
        for i in range(items):
            lows[i], highs[i] = _lower(lows[i], _size(row[i])), max(highs[i], _size(row[i]))


@inlined_kernel
def _least(high: int, other_high: int) -> int:
    """The exponent from which on an element of C is right, whatever has counted as zero.

    Of a number that is less than 2^-126, times the largest on the other side; or of 2^-126 itself. Of each there may be
    some hundred.
    """
    return max(_LEAST_OF_SUM, (max(high, other_high) >> 24) - _LEAST_SHARE)


@inlined_kernel
def _is_wrong(size: int, low: int, high: int, other_low: int, other_high: int) -> bool:
    """Whether an element is not to be trusted; it is zero where a row or column is."""
    if _fit(low, high, other_low, other_high):
        return False
    if size >= 0xFF000000:
        return True
    return high != 0 and other_high != 0 and size >> 24 < _least(high, other_high)


@called_kernel
def _correct(square: int, square_row: int, least: int, a: Any, b: Any, extent: Any, s: Any) -> None:
    """Exchange the elements of a square that are wrong for those of the ordinary product.

    Of rows all of whose elements have an exponent of ``least``, as `_least` of the panels, none is.
    """
    rows, columns, depth = extent
    of_row = row_at(np.int64, s.of_rows, 0, 2 * SIDE)
    other_lows, other_highs = row_at(np.int64, s.of_columns, 0, SIDE), row_at(np.int64, s.of_columns, 1, SIDE)
    _note_ranges(s.of_columns, transposed(b), columns, depth)
    for i in range(rows):
        if _is_ordinary(square + i * square_row, square_row, 1, least):
            continue
        row = Matrix(a.address + i * a.row, a.row, a.column)
        _note_ranges(s.of_rows, row, 1, depth)
        sums, others = row_at(np.float32, square + i * square_row, 0, columns), row_at(np.float32, s.other, 0, SIDE)
        sizes = row_at(np.int32, square + i * square_row, 0, columns)
        known = False
        for j in range(columns):
            if _is_wrong(_size(sizes[j]), of_row[0], of_row[SIDE], other_lows[j], other_highs[j]):
                if not known:
                    known = True
                    target = Matrix(s.other, 4 * SIDE, 4)
                    call(s.ordinary, s.blocks, Extent(1, columns, depth), row, b, target, Epilogue(0, 0, -1))
                sums[j] = others[j]


@called_kernel
def add_square(square: int, c: Any) -> None:
    """C + = the square, which is whole."""
    for i in range(SIDE):
        sums, target = row_at(np.float32, square, i, SIDE), row_at(np.float32, c.address + i * c.row, 0, SIDE)
        simd.store(target, 0, simd.load(target, 0) + simd.load(sums, 0))
        simd.store(target, 16, simd.load(target, 16) + simd.load(sums, 16))


@called_kernel
def write_square(square: int, c: Any, extent: Any, bias: int, accumulate: int) -> None:
    """C, or C +, = the square + bias."""
    rows, columns, _ = extent
    for i in range(rows):
        sums = row_at(np.float32, square, i, SIDE)
        target = row_at(np.float32, c.address + i * c.row, 0, columns)
        for j in range(0, columns, 16):
            count = min(16, columns - j)
            x = simd.load(sums, j)
            if bias != 0:
                x = x + simd.load_part(row_at(np.float32, bias, 0, columns), j, count, 0.0)
            if accumulate != 0:
                x = simd.load_part(target, j, count, 0.0) + x
            if count == 16:
                simd.store(target, j, x)
            else:
                simd.store_part(target, j, count, x)


@called_kernel
def _multiply_square(panels: Any, extent: Any, a: Any, b: Any, c: Any, bias: int, accumulate: int, s: Any) -> None:
    """A square of C, or what there is of it.

    Args:
        panels: the addresses of the parts of A and of B, and of their ranges.
        extent, a, b, c: of the square.
        bias, accumulate: as in `Epilogue`.
        s: a `_Scratch`.
    """
    rows, columns, depth = extent
    whole = rows == SIDE and columns == SIDE and bias == 0
    direct = whole and accumulate == 0
    square, square_row = (c.address, c.row) if direct else (s.square, 4 * SIDE)
    multiply_tiles(panels[0], panels[1], -(-depth // STEP), square, square_row)
    of_a, of_b = row_at(np.int64, panels[2], 0, 2), row_at(np.int64, panels[3], 0, 2)
    if not _fit(of_a[0], of_a[1], of_b[0], of_b[1]):
        least = _least(of_a[1], of_b[1])
        if not _is_ordinary(square, square_row, SIDE, least):
            _correct(square, square_row, least, a, b, extent, s)
    if direct:
        return
    if whole:
        add_square(square, c)
    else:
        write_square(square, c, extent, bias, accumulate)


class _Panels(NamedTuple):
    """A panel of A and those of a block of B, with their ranges, and how many bytes lie from one of B to the next."""

    a: int
    a_range: int
    b: int
    b_ranges: int
    step: int


@called_kernel
def _multiply_band(panels: Any, extent: Any, a: Any, b: Any, c: Any, epilogue: Any, s: Any) -> None:
    """All squares side by side that a panel of A has with a block of B, some steps of the depth after the other."""
    rows, columns, depth = extent
    for here in range(0, depth, _CHUNK * STEP):
        a_part = Matrix(a.address + here * a.column, a.row, a.column)
        for j in range(0, columns, SIDE):
            part = Extent(rows, min(SIDE, columns - j), min(_CHUNK * STEP, depth - here))
            b_part = Matrix(b.address + j * b.column + here * b.row, b.row, b.column)
            target, at = Matrix(c.address + j * 4, c.row, 4), here // STEP * PANEL_STEP
            b_panel, b_range = panels.b + j // SIDE * panels.step, panels.b_ranges + j // SIDE * 16
            bias = epilogue.bias + j * 4 if epilogue.bias != 0 and here == 0 else 0
            accumulate = epilogue.accumulate if here == 0 else 1
            places = (panels.a + at, b_panel + at, panels.a_range, b_range)
            _multiply_square(places, part, a_part, b_part, target, bias, accumulate, s)
    if epilogue.activation >= 0:
        activate_tile(np.float32, epilogue.activation, c, rows, columns)


@serial_kernel
def multiply_by_parts(scratch: int, extent: Extent, a: Matrix, b: Matrix, c: Matrix, epilogue: Epilogue) -> None:
    """As what `kernels.gemm.blocks.block_product_for` gives, whose address lies where ``scratch`` begins.

    Rows or columns of A and of B adjoin.
    """
    rows, columns, depth = extent
    block_steps, block_columns, block_rows = _ALONG_ROWS if a.row == 4 else _ALONG_DEPTH
    panel = min(-(-depth // STEP), block_steps) * PANEL_STEP
    square, a_panels = scratch + 128, scratch + _PANELS
    other, b_panels = square + 4 * SIDE * SIDE, a_panels + block_rows // SIDE * panel
    of_rows = other + 4 * SIDE * SIDE
    of_columns, a_ranges = of_rows + 16 * SIDE, of_rows + 2 * 16 * SIDE
    b_ranges, after = a_ranges + block_rows // SIDE * 16, b_panels + block_columns // SIDE * panel
    s = _Scratch(row_at(np.int64, scratch, 0, 1)[0], square, other, of_rows, of_columns, after)
    begin_tiles(scratch + 64)
    for j in range(0, columns, block_columns):
        width = min(block_columns, columns - j)
        for k in range(0, depth, block_steps * STEP):
            ks = min(block_steps * STEP, depth - k)
            b_block = Matrix(b.address + k * b.row + j * b.column, b.row, b.column)
            pack_panels(b_panels, panel, b_ranges, transposed(b_block), width, ks, 1)
            of_block = Epilogue(
                epilogue.bias + j * 4 if epilogue.bias != 0 and k == 0 else 0,
                epilogue.accumulate if k == 0 else 1,
                epilogue.activation if k + ks == depth else -1,
            )
            for i in range(0, rows, SIDE):
                at = i % block_rows // SIDE
                a_rows = Matrix(a.address + i * a.row + k * a.column, a.row, a.column)
                if at == 0:
                    pack_panels(a_panels, panel, a_ranges, a_rows, min(block_rows, rows - i), ks, 0)
                panels = _Panels(a_panels + at * panel, a_ranges + at * 16, b_panels, b_ranges, panel)
                band, target = Extent(min(SIDE, rows - i), width, ks), Matrix(c.address + i * c.row + j * 4, c.row, 4)
                _multiply_band(panels, band, a_rows, b_block, target, of_block, s)
    end_tiles()
