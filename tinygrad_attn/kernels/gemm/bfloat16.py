"""The product of float32 on the tiles of AMX, which multiply bfloat16: every number as the sum of three of them.

A bfloat16 is the upper half of a float32: its sign, exponent and first 8 bits. So a float32, which has 24 bits, is the
sum ``h + m + l`` of three, and a product of two is, but for terms below 2^-25 of it::

    (h + m + l) (h' + m' + l')  =  h h' + (h m' + m h') + (h l' + m m' + l h')

Six products on tiles, which add in float32, take less time than one of float32 in other registers. The small terms are
summed first, of all steps of a block of the depth, and the large ones, of which the processor adds two at once, after
them: the sums are nearer to the exact ones than those of `kernels.gemm.tile`. Where an element is not finite, or nearly
subnormal, its parts may not be what they should, and it is computed anew, as a sum in float32.

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
from tinygrad_attn.kernels.gemm.tile import activate_tile
from tinygrad_attn.kernels.runtime.jit import called_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import row_at
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.simd.instructions import INT, Address, Emitter, define, flatten
from tinygrad_attn.kernels.simd.registers import has_tiles

__all__ = ["SIDE", "multiply_by_parts", "multiply_in_numpy", "split_in_numpy", "tiles_are_there"]

Array = np.ndarray[Any, Any]

SIDE = 32  # rows and columns of a square of C: two tiles' each
_STEP = 32  # of the depth in one tile: pairs of bfloat16 in 16 columns
_TILE = 1024  # bytes
_PART = 2 * _TILE  # of one of three parts of a step of a panel
_PANEL_STEP = 3 * _PART
# A block of B in parts has at most 1.2 MB, of 2 in the second-level cache, and one of A 0.3.
_BLOCK_DEPTH, _BLOCK_COLUMNS, _BLOCK_ROWS = 384, 512, 128
_SMALLEST = 2.0**-100  # whose parts are no subnormal numbers, which count as zero on tiles


# --- In NumPy ---------------------------------------------------------------------------------------------------------


def split_in_numpy(x: Array) -> tuple[Array, Array, Array]:
    """``h``, ``m`` and ``l``, whose sum is ``x``: float32 whose lower halves are zero."""
    parts = []
    for _ in range(3):
        part = ((x.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)
        parts.append(part)
        x = x - part
    return parts[0], parts[1], parts[2]


def multiply_in_numpy(a: Array, b: Array) -> Array:
    """A B of float32 matrices, some steps of the depth after the other."""
    c = np.zeros((len(a), b.shape[1]), np.float32)
    for k in range(0, len(b), _STEP):
        h, m, low = split_in_numpy(a[:, k : k + _STEP])
        h_b, m_b, low_b = split_in_numpy(b[k : k + _STEP])
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


class _Panel(NamedTuple):
    """The arguments of `_pack`, as LLVM values."""

    panel: Address
    source: Address
    item_stride: ir.Value
    depth_stride: ir.Value
    items: ir.Value
    depth: ir.Value
    pairs_down: ir.Value


def _emit_pack(emit: Emitter, *arguments: ir.Value) -> None:
    p, builder = _Panel(*arguments), emit.builder
    along_depth = builder.icmp_signed("==", p.depth_stride, emit.integer(4))
    steps = builder.sdiv(builder.add(p.depth, emit.integer(_STEP - 1)), emit.integer(_STEP))
    with (
        cgutils.for_range(builder, steps, intp=INT) as step,
        cgutils.for_range(builder, emit.integer(2), intp=INT) as group,
    ):
        k, first = builder.mul(step.index, emit.integer(_STEP)), builder.mul(group.index, emit.integer(16))
        target = emit.offset(emit.offset(p.panel, step.index, _PANEL_STEP), group.index, _TILE)
        items, depth = builder.sub(p.items, first), builder.sub(p.depth, k)
        source = emit.offset(emit.offset(p.source, first, p.item_stride), k, p.depth_stride)
        with cgutils.for_range(builder, emit.integer(16), intp=INT) as row:
            at = emit.offset(target, row.index, 64)
            with builder.if_else(along_depth) as (depths_adjoin, items_adjoin):
                with depths_adjoin:
                    _emit_row_of_depths(emit, p, at, source, row.index, items, depth)
                with items_adjoin:
                    _emit_row_of_items(emit, p, at, source, row.index, items, depth)
        with (
            builder.if_then(builder.icmp_signed("==", builder.zext(along_depth, INT), p.pairs_down)),
            cgutils.for_range(builder, emit.integer(3), intp=INT) as part,
        ):
            _emit_transposed(emit, emit.offset(target, part.index, _PART))


def _emit_row_of_depths(
    emit: Emitter, p: _Panel, at: Address, source: Address, item: ir.Value, items: ir.Value, depth: ir.Value
) -> None:
    """32 steps of the depth of one item, or zeros past the last item."""
    builder = emit.builder
    depth = builder.select(builder.icmp_signed("<", item, items), depth, emit.integer(0))
    row = emit.offset(source, item, p.item_stride)
    masks = [emit.first_lanes(builder.sub(depth, emit.integer(16 * v))) for v in range(2)]
    parts = [_emit_parts(emit, emit.load(emit.vector_offset(row, v), mask)) for v, mask in enumerate(masks)]
    halves, index = ir.VectorType(ir.IntType(16), 32), ir.VectorType(ir.IntType(32), 32)
    upper = ir.Constant(index, [2 * lane + 1 for lane in range(32)])
    for number, pair in enumerate(zip(*parts, strict=True)):
        both = builder.shuffle_vector(*[builder.bitcast(each, halves) for each in pair], upper)
        emit.store(builder.bitcast(both, emit.vector), emit.offset(at, number, _PART))


def _emit_row_of_items(
    emit: Emitter, p: _Panel, at: Address, source: Address, pair: ir.Value, items: ir.Value, depth: ir.Value
) -> None:
    """Two steps of the depth of 16 items, or zeros past the last step."""
    builder, integers = emit.builder, ir.VectorType(ir.IntType(32), 16)
    parts = []
    for which in range(2):
        k = builder.add(builder.mul(pair, emit.integer(2)), emit.integer(which))
        count = builder.select(builder.icmp_signed("<", k, depth), items, emit.integer(0))
        parts.append(_emit_parts(emit, emit.load(emit.offset(source, k, p.depth_stride), emit.first_lanes(count))))
    shift, upper = (ir.Constant(integers, [value] * 16) for value in (16, 0xFFFF0000))
    for number, (first, second) in enumerate(zip(*parts, strict=True)):
        both = builder.or_(builder.lshr(first, shift), builder.and_(second, upper))
        emit.store(builder.bitcast(both, emit.vector), emit.offset(at, number, _PART))


def _emit_parts(emit: Emitter, x: ir.Value) -> list[ir.Value]:
    """The three parts of a vector as integers, whose upper halves count."""
    builder, integers = emit.builder, ir.VectorType(ir.IntType(32), 16)
    half, upper = (ir.Constant(integers, [value] * 16) for value in (0x8000, 0xFFFF0000))
    parts = []
    for _ in range(2):
        parts.append(builder.and_(builder.add(builder.bitcast(x, integers), half), upper))
        x = builder.fsub(x, builder.bitcast(parts[-1], emit.vector))
    return [*parts, builder.bitcast(x, integers)]


def _emit_transposed(emit: Emitter, tile: Address) -> None:
    """Exchange rows and columns of a tile, of pairs."""
    rows = [emit.load(emit.vector_offset(tile, row)) for row in range(16)]
    for row, value in enumerate(emit.transpose(rows)):
        emit.store(value, emit.vector_offset(tile, row))


@intrinsic
def _pack(typingctx: Any, panel: Any, source: Any, items: Any, depth: Any, pairs_down: Any) -> Any:
    """Split up to 32 rows of A, or columns of B, whose source is given as (items, depth), into the parts' tiles.

    In a tile of A a row of pairs belongs to a row; in one of B, for which ``pairs_down`` is 1, a column to a column.
    Either the items or the steps of the depth adjoin in ``source``.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        emit = Emitter(builder, types.DType(types.float32), 16)
        values = flatten(builder, arguments)
        builder.call(define(_emit_pack, "pack_parts", emit, len(values)), values)
        return context.get_dummy_value()

    return types.void(types.int64, source, types.int64, types.int64, types.int64), generate


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
            a_step, b_step = (emit.offset(side, step.index, _PANEL_STEP) for side in (a, b))
            before: tuple[int | None, int | None] = None, None
            for part in terms:
                for side, address, tile in ((0, a_step, 4), (1, b_step, 6)):
                    if part[side] != before[side]:
                        for half in range(2):
                            place = emit.offset(address, 1, part[side] * _PART + half * _TILE)
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
    """Numbers of the bits without the sign: those of what is not finite are the largest, zero less one wraps around."""
    builder, integers = emit.builder, ir.VectorType(ir.IntType(32), 16)
    one, infinite = (ir.Constant(integers, [value] * 16) for value in (1, 0xFF000000))
    tiny = ir.Constant(integers, [2 * int(np.float32(_SMALLEST).view(np.uint32)) - 1] * 16)
    slot = cgutils.alloca_once_value(builder, ir.Constant(ir.VectorType(ir.IntType(1), 16), None))
    with cgutils.for_range(builder, emit.integer(SIDE), intp=INT) as loop:
        row, odd = emit.offset(square, loop.index, square_row), builder.load(slot)
        for v in range(2):
            size = builder.shl(builder.bitcast(emit.load(emit.vector_offset(row, v)), integers), one)
            odd = builder.or_(odd, builder.icmp_unsigned(">=", size, infinite))
            odd = builder.or_(odd, builder.icmp_unsigned("<", builder.sub(size, one), tiny))
        builder.store(odd, slot)
    return builder.icmp_unsigned(
        "==", builder.bitcast(builder.load(slot), ir.IntType(16)), ir.Constant(ir.IntType(16), 0)
    )


@intrinsic
def _is_ordinary(typingctx: Any, square: Any, square_row: Any) -> Any:
    """Whether all elements of a square are zero, or finite and not tiny, so that `_correct` has nothing to do."""

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


@called_kernel
def _correct(square: int, square_row: int, a: Any, b: Any, extent: Any) -> None:
    """Compute anew, in float32, the elements of a square that are not finite or nearly subnormal."""
    rows, columns, depth = extent
    for i in range(rows):
        sums = row_at(np.float32, square + i * square_row, 0, columns)
        for j in range(columns):
            size = abs(sums[j])
            if size == 0.0 or _SMALLEST <= size < math.inf:
                continue
            total = np.float32(0.0)
            for k in range(depth):
                x = row_at(np.float32, a.address + i * a.row + k * a.column, 0, 1)[0]
                total += x * row_at(np.float32, b.address + k * b.row + j * b.column, 0, 1)[0]
            sums[j] = total


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
    panels: Any, extent: Any, a: Any, b: Any, c: Any, bias: int, accumulate: int, scratch: int
) -> None:
    """A square of C, or what there is of it; ``panels`` are the addresses of the parts of A and of B."""
    rows, columns, depth = extent
    for i in range(rows):
        _prefetch(c.address + i * c.row)
        _prefetch(c.address + i * c.row + 4 * columns - 4)
    direct = rows == SIDE and columns == SIDE and bias == 0 and accumulate == 0
    square, square_row = (c.address, c.row) if direct else (scratch, 4 * SIDE)
    _multiply_tiles(panels[0], panels[1], -(-depth // _STEP), square, square_row)
    if not _is_ordinary(square, square_row):
        _correct(square, square_row, a, b, extent)
    if not direct:
        _write_square(square, c, extent, bias, accumulate)


@called_kernel
def _pack_panels(panels: int, panel: int, source: Any, items: int, depth: int, pairs_down: int) -> None:
    """Panels of ``panel`` bytes of all items. Where items adjoin, a step of all panels is packed before the next: one
    panel alone takes two cache lines of each of many rows, which no prefetching sees."""
    chunk = _STEP if source.row == 4 else depth
    for k in range(0, depth, chunk):
        for i in range(0, items, SIDE):
            target = panels + i // SIDE * panel + k // _STEP * _PANEL_STEP
            part = Matrix(source.address + i * source.row + k * source.column, source.row, source.column)
            _pack(target, part, min(SIDE, items - i), min(chunk, depth - k), pairs_down)


@serial_kernel
def multiply_by_parts(scratch: int, extent: Extent, a: Matrix, b: Matrix, c: Matrix, epilogue: Epilogue) -> None:
    """As what `kernels.gemm.blocks.block_product_for` gives; rows or columns of A and of B adjoin."""
    rows, columns, depth = extent
    block_depth = -(-depth // -(-depth // _BLOCK_DEPTH) // _STEP) * _STEP
    panel = block_depth // _STEP * _PANEL_STEP
    sums, a_panels = scratch + 64, scratch + 4096 + 64
    b_panels = a_panels + _BLOCK_ROWS // SIDE * panel
    block_rows = _BLOCK_ROWS if a.row == 4 else SIDE  # a panel alone stays in the first-level cache
    _begin_tiles(scratch)
    for k in range(0, depth, block_depth):
        ks = min(block_depth, depth - k)
        bias, activation = epilogue.bias if k == 0 else 0, epilogue.activation if k + ks == depth else -1
        accumulate = 1 if epilogue.accumulate != 0 or k > 0 else 0
        for j0 in range(0, columns, _BLOCK_COLUMNS):
            width = min(_BLOCK_COLUMNS, columns - j0)
            b_block = Matrix(b.address + k * b.row + j0 * b.column, b.column, b.row)
            _pack_panels(b_panels, panel, b_block, width, ks, 1)
            for i in range(0, rows, SIDE):
                height = min(SIDE, rows - i)
                a_rows = Matrix(a.address + i * a.row + k * a.column, a.row, a.column)
                if i % block_rows == 0:
                    _pack_panels(a_panels, panel, a_rows, min(block_rows, rows - i), ks, 0)
                for j in range(0, width, SIDE):
                    square = Extent(height, min(SIDE, width - j), ks)
                    b_columns = Matrix(b_block.address + j * b.column, b.row, b.column)
                    target = Matrix(c.address + i * c.row + (j0 + j) * 4, c.row, 4)
                    added = bias + (j0 + j) * 4 if bias != 0 else 0
                    panels = a_panels + i % block_rows // SIDE * panel, b_panels + j // SIDE * panel
                    _multiply_square(panels, square, a_rows, b_columns, target, added, accumulate, sums)
                    if activation >= 0:
                        activate_tile(np.float32, activation, target, square.rows, square.columns)
    _end_tiles()
