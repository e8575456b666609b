"""Copies of panels of A and B for the matrix product, which its micro-kernel reads with unit stride.

A packed panel of ``items`` rows of A, or columns of B, is an array (depth, width) of adjoining elements; what is behind
the last item is never used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_attn.kernels.gemm.operands import Matrix, matrix_at
from tinygrad_attn.kernels.gemm.plan import TileShape, tile_shape
from tinygrad_attn.kernels.simd.instructions import INT, Address, Emitter, define, flatten

__all__ = ["pack_a", "pack_b"]


# --- In NumPy: what runs under NUMBA_DISABLE_JIT=1, and what the compiled functions are held to -----------------------


def _pack_in_numpy(width_of: Callable[[TileShape], int]) -> Callable[..., None]:
    def pack(dtype: Any, panel: int, source: Matrix, items: int, depth: int) -> None:
        """panel[k, i] = source[i, k]; the rows of ``source`` are rows of A, or columns of B."""
        itemsize = np.dtype(dtype).itemsize
        width = width_of(tile_shape(itemsize))
        packed = matrix_at(dtype, (panel, width * itemsize, itemsize), (depth, items))
        packed[...] = matrix_at(dtype, source, (items, depth)).T

    return pack


# --- Emitted ----------------------------------------------------------------------------------------------------------


class _Panel(NamedTuple):
    """The arguments of the packing, as LLVM values."""

    panel: Address
    source: Address
    item_stride: ir.Value
    depth_stride: ir.Value
    items: ir.Value
    depth: ir.Value


def _emit_pack(width: int) -> Callable[..., None]:
    """Copies panels ``width`` elements wide, by vectors along the items or along the depth if either adjoin."""

    def body(emit: Emitter, *arguments: ir.Value) -> None:
        p, builder = _Panel(*arguments), emit.builder
        itemsize, none = emit.integer(emit.itemsize), emit.integer(0)
        with builder.if_else(builder.icmp_signed("==", p.item_stride, itemsize)) as (adjoining_items, otherwise):
            with (
                adjoining_items,
                builder.if_else(builder.icmp_signed("==", p.items, emit.integer(width))) as (full, part),
            ):
                with full:
                    _emit_row_copies(emit, p, width, masked=False)
                with part:
                    _emit_row_copies(emit, p, width, masked=True)
            with otherwise:
                adjoining_depths = builder.icmp_signed("==", p.depth_stride, itemsize)
                squares = builder.select(adjoining_depths, builder.sdiv(p.depth, emit.integer(emit.lanes)), none)
                _emit_transposed_squares(emit, p, width, squares)
                _emit_element_copies(emit, p, width, builder.mul(squares, emit.integer(emit.lanes)))

    return body


def _emit_row_copies(emit: Emitter, p: _Panel, width: int, masked: bool) -> None:
    """Each depth's items, which adjoin, to a row of the panel; ``masked`` if they are fewer than ``width``."""
    builder, vectors = emit.builder, width // emit.lanes
    counts = [builder.sub(p.items, emit.integer(v * emit.lanes)) for v in range(vectors)]
    masks = [emit.first_lanes(count) if masked else None for count in counts]
    with cgutils.for_range(builder, p.depth, intp=INT) as loop:
        row = emit.offset(p.source, loop.index, p.depth_stride)
        target = emit.offset(p.panel, loop.index, width * emit.itemsize)
        for v in range(vectors):
            emit.store(emit.load(emit.vector_offset(row, v), masks[v]), emit.vector_offset(target, v))


def _emit_transposed_squares(emit: Emitter, p: _Panel, width: int, count: ir.Value) -> None:
    """The first ``count`` vectors of the depth of each item, whose elements adjoin along it, square by square."""
    builder, size = emit.builder, emit.itemsize
    with cgutils.for_range(builder, count, intp=INT) as loop:
        k = builder.mul(loop.index, emit.integer(emit.lanes))
        for v in range(width // emit.lanes):
            rows = []
            for lane in range(emit.lanes):
                wanted = emit.integer(v * emit.lanes + lane)
                # Past the last item, the first again: what it yields is never read.
                item = builder.select(builder.icmp_signed("<", wanted, p.items), wanted, emit.integer(0))
                rows.append(emit.load(emit.offset(emit.offset(p.source, item, p.item_stride), k, size)))
            for lane, value in enumerate(emit.transpose(rows)):
                target = emit.offset(p.panel, builder.add(k, emit.integer(lane)), width * size)
                emit.store(value, emit.vector_offset(target, v))


def _emit_element_copies(emit: Emitter, p: _Panel, width: int, first_depth: ir.Value) -> None:
    """From ``first_depth`` on, one element after the other."""
    builder = emit.builder
    with cgutils.for_range(builder, builder.sub(p.depth, first_depth), intp=INT) as outer:
        k = builder.add(first_depth, outer.index)
        column = emit.offset(p.source, k, p.depth_stride)
        target = emit.offset(p.panel, k, width * emit.itemsize)
        with cgutils.for_range(builder, p.items, intp=INT) as inner:
            source = emit.offset(column, inner.index, p.item_stride)
            emit.copy_element(source, emit.offset(target, inner.index, emit.itemsize))


def _pack_intrinsic(width_of: Callable[[TileShape], int], name: str) -> Any:
    @intrinsic
    def pack(typingctx: Any, dtype: Any, panel: Any, source: Any, items: Any, depth: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            shape = tile_shape(dtype.dtype.bitwidth // 8)
            emit, width = Emitter(builder, dtype, shape.lanes), width_of(shape)
            panel = _Panel(*flatten(builder, arguments[1:]))
            builder.call(define(_emit_pack(width), f"gemm_{name}_{emit.suffix}_{width}", emit, len(panel)), panel)
            return context.get_dummy_value()

        return types.void(dtype, types.int64, source, types.int64, types.int64), generate

    return pack


if numba.config.DISABLE_JIT:
    pack_a = _pack_in_numpy(lambda shape: shape.a_width)
    pack_b = _pack_in_numpy(lambda shape: shape.columns)
else:
    pack_a = _pack_intrinsic(lambda shape: shape.a_width, "pack_a")
    pack_b = _pack_intrinsic(lambda shape: shape.columns, "pack_b")
