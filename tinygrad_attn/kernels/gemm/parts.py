"""The parts of float32 that `kernels.gemm.bfloat16` multiplies: how numbers are split, and where tiles of parts lie.

A panel is 32 rows of A, or columns of B, of a block of the depth: the tiles of one step of the depth after the other,
of a step those of ``h``, ``m`` and ``l``, of each part those of the first 16 items and of the others. `split_in_numpy`
says what the parts are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature, signature
from numba.extending import intrinsic

from tinygrad_attn.kernels.gemm.operands import Matrix
from tinygrad_attn.kernels.runtime.jit import called_kernel
from tinygrad_attn.kernels.runtime.structs import row_at
from tinygrad_attn.kernels.simd.instructions import INT, Address, Emitter, define, flatten, fold
from tinygrad_attn.kernels.simd.vectors import emits

__all__ = [
    "PANEL_STEP", "PART", "SIDE", "SMALLEST_BITS", "STEP", "TILE", "emit_any", "emit_size", "pack_panels",
    "split_in_numpy", "store_depths", "store_items",
]  # fmt: skip

Array = np.ndarray[Any, Any]

SIDE = 32  # rows and columns of a square of C: two tiles' each
STEP = 32  # of the depth in one tile: pairs of bfloat16 in 16 columns
TILE = 1024  # bytes
PART = 2 * TILE  # of one of three parts of a step of a panel
PANEL_STEP = 3 * PART
SMALLEST_BITS = (127 - 100) << 23  # 2^-100, whose parts are no subnormal numbers, which count as zero on tiles


def split_in_numpy(x: Array) -> tuple[Array, Array, Array]:
    """``h``, ``m`` and ``l``, whose sum is ``x``: float32 whose lower halves are zero."""
    parts = []
    for _ in range(3):
        part = ((x.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)
        parts.append(part)
        x = x - part
    return parts[0], parts[1], parts[2]


# --- Emitted ----------------------------------------------------------------------------------------------------------


class _Panel(NamedTuple):
    """The arguments of `_pack`, as LLVM values."""

    panel: Address
    range: Address
    source: Address
    item_stride: ir.Value
    depth_stride: ir.Value
    items: ir.Value
    depth: ir.Value
    pairs_down: ir.Value


class _Range:
    """The smallest size that is not zero, less one, and the largest of the numbers that pass by."""

    def __init__(self, emit: Emitter) -> None:
        self._emit = emit
        integers = ir.VectorType(ir.IntType(32), 16)
        self._low = cgutils.alloca_once_value(emit.builder, ir.Constant(integers, [0xFFFFFFFF] * 16))
        self._high = cgutils.alloca_once_value(emit.builder, ir.Constant(integers, None))

    def note(self, x: ir.Value) -> None:
        builder, size = self._emit.builder, emit_size(self._emit, x)
        less = builder.sub(size, ir.Constant(size.type, [1] * 16))  # of zero it is the largest number
        builder.store(_smaller(builder, builder.load(self._low), less), self._low)
        builder.store(_larger(builder, builder.load(self._high), size), self._high)

    def write(self, address: Address) -> None:
        """Extend the range at an address, two int64."""
        builder = self._emit.builder
        for number, (slot, choose) in enumerate(((self._low, _smaller), (self._high, _larger))):
            pointer = self._emit.pointer(self._emit.offset(address, number, 8), INT)
            found = fold(builder, builder.load(slot), functools.partial(choose, builder))
            builder.store(choose(builder, builder.load(pointer), builder.zext(found, INT)), pointer)


def _smaller(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return builder.select(builder.icmp_unsigned("<", x, y), x, y)


def _larger(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return builder.select(builder.icmp_unsigned(">", x, y), x, y)


class _Tile(NamedTuple):
    """16 items and 32 steps of the depth in memory, as LLVM values."""

    source: Address
    item_stride: ir.Value
    depth_stride: ir.Value


def _emit_pack(emit: Emitter, *arguments: ir.Value) -> None:
    p, builder = _Panel(*arguments), emit.builder
    seen = _Range(emit)
    padded, turned = _emit_memory(emit), _emit_memory(emit)
    along_depth = builder.icmp_signed("==", p.depth_stride, emit.integer(4))
    by_depths = builder.icmp_signed("==", p.pairs_down, emit.integer(0))
    as_it_lies = builder.icmp_signed("==", builder.zext(along_depth, INT), builder.zext(by_depths, INT))
    steps = builder.sdiv(builder.add(p.depth, emit.integer(STEP - 1)), emit.integer(STEP))
    with (
        cgutils.for_range(builder, steps, intp=INT) as step,
        cgutils.for_range(builder, emit.integer(2), intp=INT) as group,
    ):
        k, first = builder.mul(step.index, emit.integer(STEP)), builder.mul(group.index, emit.integer(16))
        target = emit.offset(emit.offset(p.panel, step.index, PANEL_STEP), group.index, TILE)
        source = emit.offset(emit.offset(p.source, first, p.item_stride), k, p.depth_stride)
        tile = _emit_whole(
            emit, _Tile(source, p.item_stride, p.depth_stride), builder.sub(p.items, first), builder.sub(p.depth, k),
            along_depth, padded,
        )  # fmt: skip
        with builder.if_then(builder.not_(as_it_lies)):
            _emit_turned(emit, tile, along_depth, turned)
        source = builder.select(as_it_lies, tile.source, turned)
        with builder.if_else(by_depths) as (rows_of_depths, rows_of_items):
            with rows_of_depths:
                stride = builder.select(as_it_lies, tile.item_stride, emit.integer(4 * STEP))
                with cgutils.for_range(builder, emit.integer(16), intp=INT) as row:
                    at = emit.offset(target, row.index, 64)
                    _emit_row_of_depths(emit, seen, at, emit.offset(source, row.index, stride))
            with rows_of_items:
                stride = builder.select(as_it_lies, tile.depth_stride, emit.integer(64))
                with cgutils.for_range(builder, emit.integer(16), intp=INT) as row:
                    at, pair = emit.offset(target, row.index, 64), builder.mul(row.index, emit.integer(2))
                    _emit_row_of_items(emit, seen, at, emit.offset(source, pair, stride), stride)
    seen.write(p.range)


def _emit_memory(emit: Emitter) -> Address:
    """Memory of a function for 16 items and 32 steps of the depth."""
    memory = emit.builder.alloca(ir.ArrayType(emit.vector, 2 * 16))  # in its first block, and nobody fills it
    memory.align = 64
    return emit.builder.ptrtoint(memory, INT)


def _emit_whole(
    emit: Emitter, tile: _Tile, items: ir.Value, depth: ir.Value, along_depth: ir.Value, padded: Address
) -> _Tile:
    """The tile itself; of one with fewer items or steps of the depth a copy with zeros beside it."""
    builder = emit.builder
    whole = builder.and_(
        builder.icmp_signed(">=", items, emit.integer(16)), builder.icmp_signed(">=", depth, emit.integer(STEP))
    )
    with builder.if_then(builder.not_(whole)), cgutils.for_range(builder, emit.integer(32), intp=INT) as loop:
        # A vector of a row of items, or one of the two of a row of depths.
        row = builder.select(along_depth, builder.lshr(loop.index, emit.integer(1)), loop.index)
        before = builder.select(
            along_depth, builder.shl(builder.and_(loop.index, emit.integer(1)), emit.integer(4)), emit.integer(0)
        )
        rows, lanes = builder.select(along_depth, items, depth), builder.select(along_depth, depth, items)
        lanes = builder.select(builder.icmp_signed("<", row, rows), builder.sub(lanes, before), emit.integer(0))
        row_stride = builder.select(along_depth, tile.item_stride, tile.depth_stride)
        address = emit.offset(emit.offset(tile.source, row, row_stride), before, 4)
        emit.store(emit.load(address, emit.first_lanes(lanes)), emit.offset(padded, loop.index, 64))
    strides = ((tile.item_stride, 4 * STEP, 4), (tile.depth_stride, 4, 64))
    padded_strides = [builder.select(along_depth, *map(emit.integer, each[1:])) for each in strides]
    return _Tile(
        builder.select(whole, tile.source, padded),
        *[builder.select(whole, each[0], other) for each, other in zip(strides, padded_strides, strict=True)],
    )


def _emit_turned(emit: Emitter, tile: _Tile, along_depth: ir.Value, target: Address) -> None:
    """A tile with rows and columns exchanged."""
    builder = emit.builder
    row_stride = builder.select(along_depth, tile.item_stride, tile.depth_stride)
    with cgutils.for_range(builder, emit.integer(2), intp=INT) as half:
        before = builder.mul(half.index, emit.integer(16))
        start = emit.offset(tile.source, before, tile.depth_stride)
        rows = [emit.load(emit.offset(start, row, row_stride)) for row in range(16)]
        place = emit.offset(target, before, builder.select(along_depth, emit.integer(64), emit.integer(4)))
        stride = builder.select(along_depth, emit.integer(64), emit.integer(4 * STEP))
        for row, value in enumerate(emit.transpose(rows)):
            emit.store(value, emit.offset(place, row, stride))


def _emit_row_of_depths(emit: Emitter, seen: _Range, at: Address, source: Address) -> None:
    """32 steps of the depth of one item."""
    vectors = [emit.load(emit.vector_offset(source, v)) for v in range(2)]
    for vector in vectors:
        seen.note(vector)
    _emit_store_depths(emit, at, *vectors)


def _emit_store_depths(emit: Emitter, at: Address, x: ir.Value, y: ir.Value) -> None:
    """The parts of 32 steps of the depth of one item, to a row of three tiles."""
    builder = emit.builder
    halves, index = ir.VectorType(ir.IntType(16), 32), ir.VectorType(ir.IntType(32), 32)
    upper = ir.Constant(index, [2 * lane + 1 for lane in range(32)])
    for number, pair in enumerate(zip(_emit_parts(emit, x), _emit_parts(emit, y), strict=True)):
        both = builder.shuffle_vector(*[builder.bitcast(each, halves) for each in pair], upper)
        emit.store(builder.bitcast(both, emit.vector), emit.offset(at, number, PART))


def _emit_row_of_items(emit: Emitter, seen: _Range, at: Address, source: Address, stride: ir.Value) -> None:
    """Two steps of the depth of 16 items."""
    vectors = [emit.load(emit.offset(source, which, stride)) for which in range(2)]
    for vector in vectors:
        seen.note(vector)
    _emit_store_items(emit, at, *vectors)


def _emit_store_items(emit: Emitter, at: Address, x: ir.Value, y: ir.Value) -> None:
    """The parts of two steps of the depth of 16 items, to a row of three tiles."""
    builder, integers = emit.builder, ir.VectorType(ir.IntType(32), 16)
    shift, upper = (ir.Constant(integers, [value] * 16) for value in (16, 0xFFFF0000))
    for number, (first, second) in enumerate(zip(_emit_parts(emit, x), _emit_parts(emit, y), strict=True)):
        both = builder.or_(builder.lshr(first, shift), builder.and_(second, upper))
        emit.store(builder.bitcast(both, emit.vector), emit.offset(at, number, PART))


def _emit_parts(emit: Emitter, x: ir.Value) -> list[ir.Value]:
    """The three parts of a vector as integers, whose upper halves count."""
    builder, integers = emit.builder, ir.VectorType(ir.IntType(32), 16)
    half, upper = (ir.Constant(integers, [value] * 16) for value in (0x8000, 0xFFFF0000))
    parts = []
    for _ in range(2):
        parts.append(builder.and_(builder.add(builder.bitcast(x, integers), half), upper))
        x = builder.fsub(x, builder.bitcast(parts[-1], emit.vector))
    return [*parts, builder.bitcast(x, integers)]


@intrinsic
def _pack(typingctx: Any, panel: Any, range: Any, source: Any, items: Any, depth: Any, pairs_down: Any) -> Any:
    """Split up to 32 rows of A, or columns of B, whose source is given as (items, depth), into the parts' tiles.

    In a tile of A a row of pairs belongs to a row; in one of B, for which ``pairs_down`` is 1, a column to a column.
    Either the items or the steps of the depth adjoin in ``source``.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        emit = Emitter(builder, types.DType(types.float32), 16)
        values = flatten(builder, arguments)
        builder.call(define(_emit_pack, "pack_parts", emit, len(values)), values)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, source, types.int64, types.int64, types.int64), generate


def emit_size(emit: Emitter, x: ir.Value) -> ir.Value:
    """The bits of a vector without the signs: unsigned integers that are larger where the numbers are."""
    integers = ir.VectorType(ir.IntType(32), 16)
    return emit.builder.shl(emit.builder.bitcast(x, integers), ir.Constant(integers, [1] * 16))


def emit_any(emit: Emitter, mask: ir.Value) -> ir.Value:
    bits = emit.builder.bitcast(mask, ir.IntType(16))
    return emit.builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(16), 0))


@called_kernel
def pack_panels(panels: int, panel: int, ranges: int, source: Any, items: int, depth: int, pairs_down: int) -> None:
    """Panels of ``panel`` bytes of all items, and at ``ranges`` of each its range.

    Where items adjoin, a step of all panels is packed before the next: one panel alone takes two cache lines of each of
    many rows, which no prefetching sees. A range is two int64, the least size that is not zero, less one, and the
    largest; sizes are the bits of numbers without their signs, shifted to the left.
    """
    chunk = STEP if source.row == 4 else depth
    for i in range(0, items, SIDE):
        bounds = row_at(np.int64, ranges, i // SIDE, 2)
        bounds[0], bounds[1] = 0xFFFFFFFF, 0
    for k in range(0, depth, chunk):
        for i in range(0, items, SIDE):
            target = panels + i // SIDE * panel + k // STEP * PANEL_STEP
            part = Matrix(source.address + i * source.row + k * source.column, source.row, source.column)
            _pack(target, ranges + i // SIDE * 16, part, min(SIDE, items - i), min(chunk, depth - k), pairs_down)


# --- Vectors that a kernel holds --------------------------------------------------------------------------------------


def _write_parts(at: int, rows: Array) -> None:
    for number, part in enumerate(split_in_numpy(rows)):
        row_at(np.uint16, at + number * PART, 0, 32)[:] = part.view(np.uint32).ravel() >> np.uint32(16)


def store_depths(at: int, x: Any, y: Any) -> None:
    """Write the parts of 32 steps of the depth of one item, to a row of a panel's first tile and the same of others."""
    _write_parts(at, np.concatenate((x, y)))


def store_items(at: int, x: Any, y: Any) -> None:
    """The same of two steps of the depth of 16 items."""
    _write_parts(at, np.stack((x, y), 1))


def _register(store: Callable[..., None], emit_store: Callable[..., None]) -> None:
    @emits(store, lambda at, x, y: signature(types.none, types.int64, x, x))
    def emit(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
        emit_store(Emitter(builder, types.DType(types.float32), 16), *arguments)
        return context.get_dummy_value()


_register(store_depths, _emit_store_depths)
_register(store_items, _emit_store_items)
