"""The transpose of a matrix of float32, square by square."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_attn.kernels.simd.instructions import INT, Address, Emitter, define

__all__ = ["turn"]


def _emit_turn(
    emit: Emitter, source: Address, source_row: ir.Value, target: Address, target_row: ir.Value, rows: ir.Value,
    columns: ir.Value,
) -> None:  # fmt: skip
    builder, lanes = emit.builder, emit.integer(emit.lanes)

    def count(items: ir.Value) -> ir.Value:
        return builder.sdiv(builder.add(items, emit.integer(emit.lanes - 1)), lanes)

    with (
        cgutils.for_range(builder, count(rows), intp=INT) as down,
        cgutils.for_range(builder, count(columns), intp=INT) as across,
    ):
        row, column = builder.mul(down.index, lanes), builder.mul(across.index, lanes)
        at = emit.offset(emit.offset(source, row, source_row), column, emit.itemsize)
        to = emit.offset(emit.offset(target, column, target_row), row, emit.itemsize)
        square = emit.transpose([emit.load(emit.offset(at, i, source_row)) for i in range(emit.lanes)])
        for i, vector in enumerate(square):
            inside = builder.icmp_signed("<", builder.add(column, emit.integer(i)), columns)
            mask = emit.first_lanes(builder.select(inside, builder.sub(rows, row), emit.integer(0)))
            emit.store(vector, emit.offset(to, i, target_row), mask)


@intrinsic
def turn(typingctx: Any, source: Any, source_row: Any, target: Any, target_row: Any, rows: Any, columns: Any) -> Any:
    """Write the transpose of (rows, columns) floats; of the source there are whole squares."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        emit = Emitter(builder, types.DType(types.float32), 16)
        builder.call(define(_emit_turn, "turn", emit, 6), arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate
