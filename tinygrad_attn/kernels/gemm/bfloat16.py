"""The product of float32 on the tiles of AMX, which multiply bfloat16: every number as the sum of three of them.

A bfloat16 is the upper half of a float32: its sign, exponent and first 8 bits. So a float32, which has 24 bits, is the
sum ``h + m + l`` of three, and a product of two is, but for terms below 2^-25 of it::

    (h + m + l) (h' + m' + l')  =  h h' + (h m' + m h') + (h l' + m m' + l h')

Six products on tiles, which add in float32, take less time than one of float32 in other registers. The small terms are
summed first, of all steps of a block of the depth, and the large ones, of which the processor adds two at once, after
them: the sums are nearer to the exact ones than those of `kernels.gemm.tile`. On tiles subnormal numbers count as zero,
and rounding may end in infinity. So elements of C that are not finite or below 2^-100, and all of a row of A, or a
column of B, with numbers below 2^-100, whose parts may be subnormal, are taken from `kernels.gemm.blocks`.

Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations",
ARITH 2019. `split_in_numpy` and `multiply_in_numpy` say what the kernels compute.
"""

from __future__ import annotations

import ctypes
import functools
import math
import platform
import sys
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_attn.kernels.gemm.operands import Epilogue, Extent, Matrix
from tinygrad_attn.kernels.gemm.parts import (
    PANEL_STEP,
    PART,
    SIDE,
    SMALLEST,
    SMALLEST_BITS,
    STEP,
    TILE,
    emit_any,
    emit_size,
    look_for_tiny,
    pack_panels,
    split_in_numpy,
)  # fmt: skip
from tinygrad_attn.kernels.gemm.tile import activate_tile
from tinygrad_attn.kernels.runtime.calls import call
from tinygrad_attn.kernels.runtime.jit import called_kernel, inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import row_at
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.simd.instructions import INT, Address, Emitter, define
from tinygrad_attn.kernels.simd.registers import has_tiles

__all__ = ["MEMORY", "multiply_by_parts", "multiply_in_numpy", "tiles_are_there"]

Array = np.ndarray[Any, Any]

# A block of B in parts has at most 1.2 MB, of 2 in the second-level cache, and one of A 0.3.
_BLOCK_DEPTH, _BLOCK_COLUMNS, _BLOCK_ROWS = 384, 512, 128

MEMORY = (
    128
    + 2 * 4 * SIDE * SIDE
    + (_BLOCK_ROWS + _BLOCK_COLUMNS) * 4
    + (_BLOCK_ROWS + _BLOCK_COLUMNS) // SIDE * (_BLOCK_DEPTH // STEP) * PANEL_STEP
)
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


# --- Whether there are tiles ------------------------------------------------------------------------------------------

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18  # of Linux on x86-64


@functools.cache
def tiles_are_there() -> bool:
    """Whether numba compiles for a processor with tiles of bfloat16, and the system lets this process use them."""
    if numba.config.DISABLE_JIT or sys.platform != "linux" or platform.machine() != "x86_64" or not has_tiles():
        return False
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0  # type: ignore[no-any-return]


# --- Emitted ----------------------------------------------------------------------------------------------------------


def _call(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


def _number(tile: int) -> ir.Constant:
    return ir.Constant(ir.IntType(8), tile)


@intrinsic
def _begin_tiles(typingctx: Any, memory: Any) -> Any:
    """Eight tiles of 16 rows of 64 bytes from now on; at ``memory`` 64 bytes are written."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        settings = [1, *[0] * 15, *[64, 0] * 8, *[0] * 16, *[16] * 8, *[0] * 8]
        bytes_ = ir.ArrayType(ir.IntType(8), 64)
        builder.store(ir.Constant(bytes_, settings), builder.inttoptr(arguments[0], bytes_.as_pointer()))
        _call(builder, "ldtilecfg", builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def _end_tiles(typingctx: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


# The tiles: 0 to 3 hold sums of C, 4 and 5 parts of A, 6 and 7 of B. In which order parts meet, so that each time only
# one side is loaded anew; the numbers are those of the parts.
_SMALL_TERMS = ((0, 2), (0, 1), (1, 1), (1, 0), (2, 0))
_LARGE_TERMS = ((0, 0),)


def _emit_multiply(
    emit: Emitter, a: Address, b: Address, steps: ir.Value, square: Address, square_row: ir.Value
) -> None:
    builder = emit.builder
    for tile in range(4):
        _call(builder, "tilezero", _number(tile))
    for terms in (_SMALL_TERMS, _LARGE_TERMS):
        with cgutils.for_range(builder, steps, intp=INT) as step:
            a_step, b_step = (emit.offset(side, step.index, PANEL_STEP) for side in (a, b))
            before: tuple[int | None, int | None] = None, None
            for part in terms:
                for side, address, tile in ((0, a_step, 4), (1, b_step, 6)):
                    if part[side] != before[side]:
                        for half in range(2):
                            place = emit.offset(address, 1, part[side] * PART + half * TILE)
                            pointer = emit.pointer(place, ir.IntType(8))
                            _call(builder, "tileloadd64", _number(tile + half), pointer, emit.integer(64))
                for tile in range(4):
                    _call(builder, "tdpbf16ps", _number(tile), _number(4 + tile // 2), _number(6 + tile % 2))
                before = part
    for tile in range(4):
        place = emit.offset(emit.offset(square, tile // 2 * 16, square_row), 1, tile % 2 * 64)
        _call(builder, "tilestored64", _number(tile), emit.pointer(place, ir.IntType(8)), square_row)


@intrinsic
def _multiply_tiles(typingctx: Any, a: Any, b: Any, steps: Any, square: Any, square_row: Any) -> Any:
    """Write the product of two panels of so many steps to a square, whose rows begin every so many bytes."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        emit = Emitter(builder, types.DType(types.float32), 16)
        builder.call(define(_emit_multiply, "multiply_tiles", emit, 5), arguments)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64, types.int64), generate


def _emit_is_ordinary(emit: Emitter, square: Address, square_row: ir.Value) -> ir.Value:
    builder, integers = emit.builder, ir.VectorType(ir.IntType(32), 16)
    slot = cgutils.alloca_once_value(builder, ir.Constant(ir.VectorType(ir.IntType(1), 16), None))
    least = ir.Constant(integers, [2 * SMALLEST_BITS] * 16)
    range_ = ir.Constant(integers, [0xFF000000 - 2 * SMALLEST_BITS] * 16)
    with cgutils.for_range(builder, emit.integer(SIDE), intp=INT) as loop:
        row, odd = emit.offset(square, loop.index, square_row), builder.load(slot)
        for v in range(2):
            size = emit_size(emit, emit.load(emit.vector_offset(row, v)))
            odd = builder.or_(odd, builder.icmp_unsigned(">=", builder.sub(size, least), range_))
        builder.store(odd, slot)
    return builder.not_(emit_any(emit, builder.load(slot)))


@intrinsic
def _is_ordinary(typingctx: Any, square: Any, square_row: Any) -> Any:
    """Whether all elements of a square are finite and at least 2^-100."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return _emit_is_ordinary(Emitter(builder, types.DType(types.float32), 16), *arguments)

    return types.boolean(types.int64, types.int64), generate


@intrinsic
def _prefetch(typingctx: Any, address: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        Emitter(builder, types.DType(types.float32), 16).prefetch(arguments[0], to_write=True)
        return context.get_dummy_value()

    return types.void(types.int64), generate


# --- The loops --------------------------------------------------------------------------------------------------------


class _Scratch(NamedTuple):
    """Where the parts of a worker's memory begin, and what is known of a block."""

    ordinary: int  # the address of the product of `kernels.gemm.blocks`
    square: int  # sums of a square, and the same by the ordinary product
    other: int
    a_flags: int  # of `look_for_tiny`, of a panel's rows or columns
    b_flags: int
    blocks: int  # memory of the ordinary product


@inlined_kernel
def _is_wrong(x: Any, of_row: int, of_column: int) -> bool:
    """Whether an element is not to be trusted; it is zero where a row or column is."""
    if of_row & of_column & 2 == 0:
        return not abs(x) < math.inf or (of_row | of_column) & 1 != 0
    return (of_row | of_column) & 1 != 0 or not SMALLEST <= abs(x) < math.inf


@called_kernel
def _correct(square: int, square_row: int, a: Any, b: Any, extent: Any, s: Any) -> None:
    """Exchange the elements of a square that are wrong for those of the ordinary product."""
    rows, columns, _ = extent
    of_rows, of_columns = row_at(np.int32, s.a_flags, 0, rows), row_at(np.int32, s.b_flags, 0, columns)
    known = False
    for i in range(rows):
        sums, others = row_at(np.float32, square + i * square_row, 0, columns), row_at(np.float32, s.other, i, SIDE)
        for j in range(columns):
            if _is_wrong(sums[j], of_rows[i], of_columns[j]):
                if not known:
                    known = True
                    target = Matrix(s.other, 4 * SIDE, 4)
                    call(s.ordinary, s.blocks, extent, a, b, target, Epilogue(0, 0, -1))
                sums[j] = others[j]


@called_kernel
def _all_ordinary(flags: int, count: int) -> bool:
    found = row_at(np.int32, flags, 0, count)
    tiny = np.int32(0)
    for i in range(count):
        tiny |= found[i]
    return tiny & 1 == 0


@called_kernel
def _write_square(square: int, c: Any, extent: Any, bias: int, accumulate: int) -> None:
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
def _multiply_square(
    panels: Any, extent: Any, a: Any, b: Any, c: Any, bias: int, accumulate: int, trusted: bool, s: Any
) -> None:
    """A square of C, or what there is of it.

    Args:
        panels: the addresses of the parts of A and of B.
        extent, a, b, c: of the square.
        bias, accumulate: as in `Epilogue`.
        trusted: whether neither A nor B has numbers below 2^-100.
        s: a `_Scratch`.
    """
    rows, columns, depth = extent
    for i in range(rows):
        _prefetch(c.address + i * c.row)
        _prefetch(c.address + i * c.row + 4 * columns - 4)
    direct = rows == SIDE and columns == SIDE and bias == 0 and accumulate == 0
    square, square_row = (c.address, c.row) if direct else (s.square, 4 * SIDE)
    _multiply_tiles(panels[0], panels[1], -(-depth // STEP), square, square_row)
    if not trusted or not _is_ordinary(square, square_row):
        _correct(square, square_row, a, b, extent, s)
    if not direct:
        _write_square(square, c, extent, bias, accumulate)


@serial_kernel
def multiply_by_parts(scratch: int, extent: Extent, a: Matrix, b: Matrix, c: Matrix, epilogue: Epilogue) -> None:
    """As what `kernels.gemm.blocks.block_product_for` gives, whose address lies where ``scratch`` begins.

    Rows or columns of A and of B adjoin.
    """
    rows, columns, depth = extent
    block_depth = -(-depth // -(-depth // _BLOCK_DEPTH) // STEP) * STEP
    panel = block_depth // STEP * PANEL_STEP
    ordinary = row_at(np.int64, scratch, 0, 1)[0]
    square = scratch + 128
    a_flags = square + 2 * 4 * SIDE * SIDE
    b_flags = a_flags + 4 * _BLOCK_ROWS
    a_panels = b_flags + 4 * _BLOCK_COLUMNS
    b_panels = a_panels + _BLOCK_ROWS // SIDE * panel
    blocks = b_panels + _BLOCK_COLUMNS // SIDE * panel
    block_rows = _BLOCK_ROWS if a.row == 4 else SIDE  # a panel alone stays in the first-level cache
    _begin_tiles(scratch + 64)
    for k in range(0, depth, block_depth):
        ks = min(block_depth, depth - k)
        bias, activation = epilogue.bias if k == 0 else 0, epilogue.activation if k + ks == depth else -1
        accumulate = 1 if epilogue.accumulate != 0 or k > 0 else 0
        for j0 in range(0, columns, _BLOCK_COLUMNS):
            width = min(_BLOCK_COLUMNS, columns - j0)
            b_block = Matrix(b.address + k * b.row + j0 * b.column, b.column, b.row)
            pack_panels(b_panels, panel, b_block, width, ks, 1)
            look_for_tiny(b_flags, b_block, width, ks)
            b_trusted = _all_ordinary(b_flags, width)
            for i in range(0, rows, SIDE):
                height, at = min(SIDE, rows - i), i % block_rows
                a_rows = Matrix(a.address + i * a.row + k * a.column, a.row, a.column)
                if at == 0:
                    pack_panels(a_panels, panel, a_rows, min(block_rows, rows - i), ks, 0)
                    look_for_tiny(a_flags, a_rows, min(block_rows, rows - i), ks)
                trusted = b_trusted and _all_ordinary(a_flags + 4 * at, height)
                for j in range(0, width, SIDE):
                    part = Extent(height, min(SIDE, width - j), ks)
                    b_columns = Matrix(b_block.address + j * b.column, b.row, b.column)
                    target = Matrix(c.address + i * c.row + (j0 + j) * 4, c.row, 4)
                    added = bias + (j0 + j) * 4 if bias != 0 else 0
                    panels = a_panels + at // SIDE * panel, b_panels + j // SIDE * panel
                    s = _Scratch(ordinary, square, square + 4 * SIDE * SIDE, a_flags + 4 * at, b_flags + 4 * j, blocks)
                    _multiply_square(panels, part, a_rows, b_columns, target, added, accumulate, trusted, s)
                    if activation >= 0:
                        activate_tile(np.float32, activation, target, part.rows, part.columns)
    _end_tiles()
