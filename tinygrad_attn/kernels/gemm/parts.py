"""The parts of float32 that `kernels.gemm.bfloat16` multiplies: how numbers are split, and where tiles of parts lie.

A panel is 32 rows of A, or columns of B, of a block of the depth: the tiles of one step of the depth after the other,
of a step those of ``h``, ``m`` and ``l``, of each part those of the first 16 items and of the others. `split_in_numpy`
says what the parts are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_attn.kernels.gemm.operands import Matrix
from tinygrad_attn.kernels.runtime.jit import called_kernel
from tinygrad_attn.kernels.simd.instructions import INT, Address, Emitter, define, flatten

__all__ = [
    "PANEL_STEP", "PART", "SIDE", "SMALLEST", "SMALLEST_BITS", "STEP", "TILE", "emit_any", "emit_size", "look_for_tiny",
    "pack_panels", "split_in_numpy",
]  # fmt: skip

Array = np.ndarray[Any, Any]

SIDE = 32  # rows and columns of a square of C: two tiles' each
STEP = 32  # of the depth in one tile: pairs of bfloat16 in 16 columns
TILE = 1024  # bytes
PART = 2 * TILE  # of one of three parts of a step of a panel
PANEL_STEP = 3 * PART
SMALLEST = 2.0**-100  # whose parts are no subnormal numbers, which count as zero on tiles
SMALLEST_BITS = (127 - 100) << 23


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
    source: Address
    item_stride: ir.Value
    depth_stride: ir.Value
    items: ir.Value
    depth: ir.Value
    pairs_down: ir.Value


def _emit_pack(emit: Emitter, *arguments: ir.Value) -> None:
    p, builder = _Panel(*arguments), emit.builder
    along_depth = builder.icmp_signed("==", p.depth_stride, emit.integer(4))
    steps = builder.sdiv(builder.add(p.depth, emit.integer(STEP - 1)), emit.integer(STEP))
    with (
        cgutils.for_range(builder, steps, intp=INT) as step,
        cgutils.for_range(builder, emit.integer(2), intp=INT) as group,
    ):
        k, first = builder.mul(step.index, emit.integer(STEP)), builder.mul(group.index, emit.integer(16))
        target = emit.offset(emit.offset(p.panel, step.index, PANEL_STEP), group.index, TILE)
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
            _emit_transposed(emit, emit.offset(target, part.index, PART))


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
        emit.store(builder.bitcast(both, emit.vector), emit.offset(at, number, PART))


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


def emit_size(emit: Emitter, x: ir.Value) -> ir.Value:
    """The bits of a vector without the signs: unsigned integers that are larger where the numbers are."""
    integers = ir.VectorType(ir.IntType(32), 16)
    return emit.builder.shl(emit.builder.bitcast(x, integers), ir.Constant(integers, [1] * 16))


def emit_any(emit: Emitter, mask: ir.Value) -> ir.Value:
    bits = emit.builder.bitcast(mask, ir.IntType(16))
    return emit.builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(16), 0))


def _emit_look(
    emit: Emitter, flags: Address, source: Address, item_stride: ir.Value, depth_stride: ir.Value, items: ir.Value,
    depth: ir.Value,
) -> None:  # fmt: skip
    builder, none = emit.builder, ir.Constant(ir.VectorType(ir.IntType(1), 16), None)
    tiny, some = (cgutils.alloca_once_value(builder, none) for _ in range(2))

    def note(x: ir.Value) -> None:
        size = emit_size(emit, x)
        zero, one = (ir.Constant(size.type, [value] * 16) for value in (0, 1))
        least = ir.Constant(size.type, [2 * SMALLEST_BITS - 1] * 16)
        builder.store(builder.or_(builder.load(some), builder.icmp_unsigned("!=", size, zero)), some)
        below = builder.icmp_unsigned("<", builder.sub(size, one), least)  # zero less one is the largest
        builder.store(builder.or_(builder.load(tiny), below), tiny)

    with builder.if_else(builder.icmp_signed("==", depth_stride, emit.integer(4))) as (depths_adjoin, items_adjoin):
        with depths_adjoin, cgutils.for_range(builder, items, intp=INT) as item:
            row = emit.offset(source, item.index, item_stride)
            builder.store(none, tiny)
            builder.store(none, some)
            with cgutils.for_range_slice(builder, emit.integer(0), depth, emit.integer(16), intp=INT) as (k, _):
                note(emit.load(emit.offset(row, k, 4), emit.first_lanes(builder.sub(depth, k))))
            found = [builder.zext(emit_any(emit, builder.load(slot)), ir.IntType(32)) for slot in (tiny, some)]
            flag = builder.or_(found[0], builder.shl(found[1], ir.Constant(ir.IntType(32), 1)))
            builder.store(flag, emit.pointer(emit.offset(flags, item.index, 4), ir.IntType(32)))
        with (
            items_adjoin,
            cgutils.for_range_slice(builder, emit.integer(0), items, emit.integer(16), intp=INT) as (item, _),
        ):
            mask, integers = emit.first_lanes(builder.sub(items, item)), ir.VectorType(ir.IntType(32), 16)
            builder.store(none, tiny)
            builder.store(none, some)
            with cgutils.for_range(builder, depth, intp=INT) as k:
                note(emit.load(emit.offset(emit.offset(source, k.index, depth_stride), item, 4), mask))
            found = [builder.zext(builder.load(slot), integers) for slot in (tiny, some)]
            flag = builder.or_(found[0], builder.shl(found[1], ir.Constant(integers, [1] * 16)))
            builder.store(flag, emit.pointer(emit.offset(flags, item, 4), integers), align=4)


@intrinsic
def look_for_tiny(typingctx: Any, flags: Any, source: Any, items: Any, depth: Any) -> Any:
    """Write of each item an int32: 1 for a number below 2^-100, 2 for one that is not zero, or both.

    ``source`` is given as (items, depth), one of which adjoins. Whole vectors of flags are written.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        emit = Emitter(builder, types.DType(types.float32), 16)
        values = flatten(builder, arguments)
        builder.call(define(_emit_look, "look", emit, len(values)), values)
        return context.get_dummy_value()

    return types.void(types.int64, source, types.int64, types.int64), generate


@called_kernel
def pack_panels(panels: int, panel: int, source: Any, items: int, depth: int, pairs_down: int) -> None:
    """Panels of ``panel`` bytes of all items. Where items adjoin, a step of all panels is packed before the next: one
    panel alone takes two cache lines of each of many rows, which no prefetching sees."""
    chunk = STEP if source.row == 4 else depth
    for k in range(0, depth, chunk):
        for i in range(0, items, SIDE):
            target = panels + i // SIDE * panel + k // STEP * PANEL_STEP
            part = Matrix(source.address + i * source.row + k * source.column, source.row, source.column)
            _pack(target, part, min(SIDE, items - i), min(chunk, depth - k), pairs_down)
