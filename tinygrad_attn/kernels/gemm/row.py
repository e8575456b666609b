"""One row times a matrix that lies by rows: every step of decoding one sentence.

The micro-kernel would walk down a strip of the matrix, one or two cache lines of each row, which no prefetching sees.
Here rows are read from end to end, eight at a time, and added to the result, which stays in the first-level cache. An
element is the same sum in the same order, so the bits are those of the micro-kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_attn.kernels.gemm.operands import Extent, Matrix
from tinygrad_attn.kernels.gemm.plan import tile_shape
from tinygrad_attn.kernels.gemm.tile import multiply_tile_in_numpy
from tinygrad_attn.kernels.simd.instructions import INT, Address, Emitter, define, flatten

__all__ = ["multiply_row"]

_TOGETHER = 8  # rows of B


def multiply_row_in_numpy(dtype: Any, extent: Extent, a: Matrix, b: Matrix, c: Matrix, bias: int, sums: int) -> None:
    """C, or C +, = A B + bias, for one row of A and C; elements of a row of B and C adjoin.

    Args:
        dtype: of all elements.
        extent: the sizes, of one row.
        a, b, c: the matrices.
        bias: address of a row of C's length, or 0.
        sums: 0 to write, or the address of scratch memory for a row of C, to add to what C holds.
    """
    multiply_tile_in_numpy(dtype, extent, a, b, c, bias, int(sums != 0))


# --- Emitted ----------------------------------------------------------------------------------------------------------

_At = Callable[[Address], Address]  # from where a row begins to where the vector of the loop lies


def _emit_row(
    emit: Emitter, columns: ir.Value, depth: ir.Value, a: Address, a_column: ir.Value, b: Address, b_row: ir.Value,
    c: Address, bias: Address, scratch: Address,
) -> None:  # fmt: skip
    builder, together = emit.builder, emit.integer(_TOGETHER)
    adding = builder.icmp_signed("!=", scratch, emit.integer(0))
    sums = builder.select(adding, scratch, c)
    with builder.if_else(builder.icmp_signed("!=", bias, emit.integer(0))) as (biased, plain):
        with biased:
            _for_vectors(emit, columns, lambda at, mask: emit.store(emit.load(at(bias), mask), at(sums), mask))
        with plain:
            _for_vectors(emit, columns, lambda at, mask: emit.store(emit.zero, at(sums), mask))
    groups = builder.sdiv(depth, together)

    def add(k: ir.Value, count: int) -> None:
        elements = [
            emit.load_broadcast(emit.offset(a, builder.add(k, emit.integer(i)), a_column)) for i in range(count)
        ]
        rows = [emit.offset(b, builder.add(k, emit.integer(i)), b_row) for i in range(count)]

        def add_vectors(at: _At, mask: ir.Value | None) -> None:
            total = emit.load(at(sums), mask)
            for element, row in zip(elements, rows, strict=True):
                total = emit.multiply_add(element, emit.load(at(row), mask), total)
            emit.store(total, at(sums), mask)

        _for_vectors(emit, columns, add_vectors)

    with cgutils.for_range(builder, groups, intp=INT) as loop:
        add(builder.mul(loop.index, together), _TOGETHER)
    with cgutils.for_range(builder, builder.srem(depth, together), intp=INT) as loop:
        add(builder.add(builder.mul(groups, together), loop.index), 1)

    def add_sums(at: _At, mask: ir.Value | None) -> None:
        emit.store(builder.fadd(emit.load(at(c), mask), emit.load(at(sums), mask)), at(c), mask)

    with builder.if_then(adding):
        _for_vectors(emit, columns, add_sums)


def _for_vectors(emit: Emitter, columns: ir.Value, emit_body: Callable[[_At, ir.Value | None], None]) -> None:
    """A loop over the vectors of a row; the body of the last, if it is a part of one, gets its mask."""
    builder, lanes = emit.builder, emit.integer(emit.lanes)
    whole, rest = builder.sdiv(columns, lanes), builder.srem(columns, lanes)

    def at(index: ir.Value) -> _At:
        return lambda row: emit.offset(row, index, emit.lanes * emit.itemsize)

    with cgutils.for_range(builder, whole, intp=INT) as loop:
        emit_body(at(loop.index), None)
    with builder.if_then(builder.icmp_signed(">", rest, emit.integer(0))):
        emit_body(at(whole), emit.first_lanes(rest))


@intrinsic
def _multiply_row(typingctx: Any, dtype: Any, extent: Any, a: Any, b: Any, c: Any, bias: Any, sums: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, columns, depth, a, _, a_column, b, b_row, _, c, _, _, bias, sums = flatten(builder, arguments[1:])
        emit = Emitter(builder, dtype, tile_shape(dtype.dtype.bitwidth // 8).lanes)
        values = [columns, depth, a, a_column, b, b_row, c, bias, sums]
        builder.call(define(_emit_row, f"gemm_row_{emit.suffix}", emit, len(values)), values)
        return context.get_dummy_value()

    return types.void(dtype, extent, a, b, c, types.int64, types.int64), generate


multiply_row = multiply_row_in_numpy if numba.config.DISABLE_JIT else _multiply_row
