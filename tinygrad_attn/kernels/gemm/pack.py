"""Copies of panels of A and B for the matrix product, which its micro-kernel reads with unit stride.

A packed panel of ``items`` rows of A, or columns of B, is an array (depth, width) of adjoining elements; what is behind
the last item is never used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_attn.kernels.gemm.emitter import INT, Address, Emitter, TileShape, define, tile_shape, view

__all__ = ["pack_a", "pack_b"]


def _emit_pack(width: int) -> Callable[..., None]:
    def body(
        emit: Emitter,
        panel: Address,
        source: Address,
        item_stride: ir.Value,
        depth_stride: ir.Value,
        items: ir.Value,
        depth: ir.Value,
    ) -> None:
        builder, size = emit.builder, emit.itemsize
        itemsize, vectors = emit.integer(size), width // emit.lanes

        def copy_rows(masked: bool) -> None:
            counts = [builder.sub(items, emit.integer(v * emit.lanes)) for v in range(vectors)]
            masks = [emit.first_lanes(count) if masked else None for count in counts]
            with cgutils.for_range(builder, depth, intp=INT) as loop:
                row = emit.offset(source, loop.index, depth_stride)
                target = emit.offset(panel, loop.index, width * size)
                for v in range(vectors):
                    value = emit.load(emit.offset(row, v, emit.lanes * size), masks[v])
                    emit.store(value, emit.offset(target, v, emit.lanes * size))

        def transpose_squares(count: ir.Value) -> None:
            with cgutils.for_range(builder, count, intp=INT) as loop:
                k = builder.mul(loop.index, emit.integer(emit.lanes))
                for v in range(vectors):
                    rows = []
                    for lane in range(emit.lanes):
                        wanted = emit.integer(v * emit.lanes + lane)
                        # Past the last item, the first again: what it yields is never read.
                        item = builder.select(builder.icmp_signed("<", wanted, items), wanted, emit.integer(0))
                        rows.append(emit.load(emit.offset(emit.offset(source, item, item_stride), k, size)))
                    for lane, value in enumerate(emit.transpose(rows)):
                        target = emit.offset(panel, builder.add(k, emit.integer(lane)), width * size)
                        emit.store(value, emit.offset(target, v, emit.lanes * size))

        def copy_elements(first_depth: ir.Value) -> None:
            with cgutils.for_range(builder, builder.sub(depth, first_depth), intp=INT) as outer:
                k = builder.add(first_depth, outer.index)
                column = emit.offset(source, k, depth_stride)
                target = emit.offset(panel, k, width * size)
                with cgutils.for_range(builder, items, intp=INT) as inner:
                    place = emit.pointer(emit.offset(target, inner.index, size), emit.element)
                    element = emit.pointer(emit.offset(column, inner.index, item_stride), emit.element)
                    builder.store(builder.load(element, align=1), place, align=1)

        with builder.if_else(builder.icmp_signed("==", item_stride, itemsize)) as (adjoining_items, otherwise):
            with (
                adjoining_items,
                builder.if_else(builder.icmp_signed("==", items, emit.integer(width))) as (full, part),
            ):
                with full:
                    copy_rows(masked=False)
                with part:
                    copy_rows(masked=True)
            with otherwise:
                adjoining_depths = builder.icmp_signed("==", depth_stride, itemsize)
                squares = builder.select(
                    adjoining_depths, builder.sdiv(depth, emit.integer(emit.lanes)), emit.integer(0)
                )
                transpose_squares(squares)
                copy_elements(builder.mul(squares, emit.integer(emit.lanes)))

    return body


def _pack_intrinsic(width_of: Callable[[TileShape], int], name: str) -> Any:
    @intrinsic
    def pack(
        typingctx: Any,
        dtype: Any,
        panel: Any,
        source: Any,
        item_stride: Any,
        depth_stride: Any,
        items: Any,
        depth: Any,
    ) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            emit = Emitter(builder, dtype)
            width = width_of(emit.shape)
            function = define(_emit_pack(width), f"gemm_{name}_{emit.suffix}_{width}", emit, 6)
            builder.call(function, arguments[1:])
            return context.get_dummy_value()

        return types.void(dtype, *[types.int64] * 6), generate

    return pack


_pack_a = _pack_intrinsic(lambda shape: shape.a_width, "pack_a")
_pack_b = _pack_intrinsic(lambda shape: shape.columns, "pack_b")


def _pack_in_numpy(width_of: Callable[[TileShape], int]) -> Callable[..., None]:
    def pack(dtype: Any, panel: int, source: int, item_stride: int, depth_stride: int, items: int, depth: int) -> None:
        itemsize = np.dtype(dtype).itemsize
        packed = view(dtype, panel, (depth, items), (width_of(tile_shape(itemsize)) * itemsize, itemsize))
        packed[...] = view(dtype, source, (depth, items), (depth_stride, item_stride))

    return pack


if numba.config.DISABLE_JIT:
    pack_a = _pack_in_numpy(lambda shape: shape.a_width)
    pack_b = _pack_in_numpy(lambda shape: shape.columns)
else:
    pack_a, pack_b = _pack_a, _pack_b
