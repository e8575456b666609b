"""Products of some rows with a matrix whose weights are 8-bit integers.

Each column of the matrix has a scale, so that its largest weight is 127; each row of x gets one when it is multiplied,
and is rounded to 8 bits too, or to 16 where the processor multiplies those as fast (Jacob et al., "Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, with a scale for each channel). Sums
are exact, in 32 bits::

    w ≈ scale[j] * q,   q = round(w / scale[j]) in -127 … 127,   scale[j] = max |w[:, j]| / 127

A quarter of the memory is read, which is what a step with few rows waits for. `multiply_int8_in_numpy` says what the
kernel computes. A panel of a packed matrix is its columns' scales, what each sum begins with, and the weights, those
next to each other of which one instruction adds the products (`tinygrad_attn.kernels.simd.dots`): 2 or 4 of a column.
Where the instruction takes x without a sign, x gets 128 more, and a sum begins with -128 times those of its weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing.templates import Signature, signature
from numba.extending import intrinsic

from tinygrad_attn.kernels.gemm.cache import packed_memory, packed_once
from tinygrad_attn.kernels.gemm.operands import Extent, Matrix, matrix_at
from tinygrad_attn.kernels.gemm.plan import CUTS, tile_shape
from tinygrad_attn.kernels.runtime.calls import address_of
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import row_at
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.simd.dots import Dots, dots, emit_dots
from tinygrad_attn.kernels.simd.instructions import INT, Emitter, define, flatten, load, repeat
from tinygrad_attn.kernels.simd.registers import registers

__all__ = ["Int8", "dequantized", "multiply_int8_in_numpy", "pack_int8"]

_MOST = 127  # the largest weight
_ROUNDED = np.float32(1.5 * 2**23)  # added and subtracted again, it leaves a float32 rounded


def dequantized(matrix: np.ndarray) -> np.ndarray:
    """The matrix (depth, columns) as its 8-bit weights have it."""
    scales = _scales(matrix)
    return (np.rint(matrix / scales) * scales).astype(matrix.dtype)


def multiply_int8_in_numpy(x: np.ndarray, matrix: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """x matrix + bias, float32, with the weights rounded, and each row of x."""
    limit = np.float32(_limit(len(matrix), dots().bits))
    top = np.abs(x).max(-1, keepdims=True, initial=0.0)
    with np.errstate(divide="ignore"):
        rounded = np.rint(x * np.where(top == 0.0, np.float32(0.0), limit / top)) * (top / limit)
    product = rounded @ dequantized(matrix)
    return product if bias is None else product + bias


def _scales(matrix: np.ndarray) -> np.ndarray:
    largest = np.abs(matrix).max(axis=0, initial=0.0)
    return np.where(largest == 0.0, 1.0, largest / _MOST).astype(np.float32)


def _limit(depth: int, bits: int) -> int:
    """The largest number of a row of x: of so many bits, and such that no sum over the depth leaves 32."""
    return min(2 ** (bits - 1) - 1, (2**31 - 1) // (_MOST * max(depth, 1)))


class Int8(NamedTuple):
    """A matrix (depth, columns) as 8-bit weights, packed."""

    panels: np.ndarray  # uint8 (number of panels, bytes of one)
    columns: int
    product: int  # the address of the kernel that multiplies by it
    depth: int
    width: int  # of a panel, in columns


def pack_int8(matrix: np.ndarray) -> Int8:
    """Round and pack a float32 matrix (depth, columns); once, if it is one of those of `kernels.gemm.cache`."""
    return packed_once(matrix, _pack)


def _pack(matrix: np.ndarray) -> Int8:
    (depth, columns), width, kind = matrix.shape, tile_shape(4).columns, dots()
    count, groups = -(-columns // width), -(-depth // kind.group)
    scales, weights = np.ones(count * width, np.float32), np.zeros((kind.group * groups, count * width), np.int8)
    scales[:columns] = _scales(matrix)
    weights[:depth, :columns] = np.rint(matrix / scales[:columns])
    starts = -kind.shift * weights.sum(0, dtype=np.int32)
    by_panel = weights.reshape(groups, kind.group, count, width).transpose(2, 0, 3, 1).reshape(count, -1)
    parts = [part.reshape(count, -1).view(np.uint8) for part in (scales, starts, by_panel)]
    panels = packed_memory(matrix, (count, width * (8 + kind.group * groups)), np.dtype(np.uint8))
    np.concatenate(parts, axis=1, out=panels)
    return Int8(panels, columns, address_of(_multiply_by(kind)), depth, width)


# --- Rows of x, rounded -----------------------------------------------------------------------------------------------


def store_rounded(array: Any, offset: int, vector: Any, shift: int) -> None:
    """Write a vector of float32, rounded, plus ``shift`` to ``array[offset : offset + lanes]``, of int16 or uint8."""
    array[offset : offset + vector.size] = np.rint(vector) + shift


def _store_rounded_typing(array: Any, offset: Any, vector: Any, shift: Any) -> Signature | None:
    return signature(types.none, array, types.intp, vector, types.intp) if isinstance(vector, simd.Vector) else None


@simd.emits(store_rounded, _store_rounded_typing)
def _emit_store_rounded(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    array, offset, vector, shift = arguments
    element, count = ir.IntType(sig.args[0].dtype.bitwidth), vector.type.count
    magic = repeat(builder, vector.type, ir.Constant(ir.FloatType(), float(_ROUNDED)))
    # The lowest bits of the sum are those of the rounded number.
    bits = builder.bitcast(builder.fadd(vector, magic), ir.VectorType(ir.IntType(32), count))
    short = ir.VectorType(element, count)
    shifts = repeat(builder, short, builder.trunc(shift, element))
    pointer = builder.gep(context.make_array(sig.args[0])(context, builder, array).data, [offset])
    written = builder.add(builder.trunc(bits, short), shifts)
    builder.store(written, builder.bitcast(pointer, short.as_pointer()), align=element.width // 8)
    return context.get_dummy_value()


@serial_kernel
def _round_row(x: Any, limit: float, rounded: Any, start: int, shift: int) -> Any:
    """Write a row as integers plus ``shift`` to ``rounded`` from ``start`` on; returns what they are to be multiplied
    by."""
    step = simd.lanes(x)
    whole = x.size - x.size % step
    largest = simd.splat(x, 0.0)
    for i in range(0, whole, step):
        part = simd.load(x, i)
        largest = simd.maximum(largest, simd.maximum(part, -part))
    top = simd.reduce_max(largest)
    for i in range(whole, x.size):
        top = max(top, abs(x[i]))
    factor = np.float32(top / limit)
    inverse = np.float32(limit / top) if top > 0.0 else np.float32(0.0)
    for i in range(0, whole, step):
        store_rounded(rounded, start + i, simd.load(x, i) * inverse, shift)
    for i in range(whole, x.size):
        rounded[start + i] = np.int32(np.rint(x[i] * inverse)) + shift
    return factor


# --- The tile ---------------------------------------------------------------------------------------------------------


class _Tile(NamedTuple):
    """Where a tile of C and its operands lie."""

    columns: Any
    groups: Any  # of elements of a row, 4 bytes each
    a: Any  # (rows, groups)
    factors: Any  # float32 (rows,)
    panel: Any
    c: Any
    c_row: Any
    bias: Any  # address of a row of C's length, or 0
    accumulate: Any


def _multiply_tile_in_numpy(extent: Extent, a: Any, factors: Any, panel: int, c: Matrix, bias: int, add: int) -> None:
    """C, or C +, = bias + A B with 16-bit A and 8-bit B, for the columns of one panel; the depth counts groups."""
    rows, columns, pairs = extent
    width = tile_shape(4).columns
    x = matrix_at(np.int16, Matrix(a, 4 * pairs, 2), (rows, 2 * pairs)).astype(np.int32)
    scales = matrix_at(np.float32, Matrix(panel, 0, 4), (1, columns))
    weights = matrix_at(np.int8, Matrix(panel + 8 * width, 2 * width, 1), (pairs, 2 * width))
    weights = weights.reshape(pairs, width, 2).transpose(0, 2, 1).reshape(2 * pairs, width)[:, :columns]
    sums = (x @ weights.astype(np.int32)).astype(np.float32)
    product = sums * (matrix_at(np.float32, Matrix(factors, 4, 0), (rows, 1)) * scales)
    if bias:
        product += matrix_at(np.float32, Matrix(bias, 0, 4), (1, columns))
    tile = matrix_at(np.float32, c, (rows, columns))
    tile[...] = tile + product if add else product


def _emit_tile(rows: int, vectors: int, kind: Dots, ahead: int) -> Callable[..., None]:
    """The tile for so many rows; it is ``vectors`` vectors wide, of which the last columns may not exist.

    ``ahead`` is `kernels.gemm.plan.Cut.ahead`.
    """

    def body(emit: Emitter, *arguments: ir.Value) -> None:
        tile = _Tile(*arguments)
        sums = _emit_sums(emit, tile, (rows, vectors), kind, ahead)
        for v in range(vectors):
            mask = emit.first_lanes(emit.builder.sub(tile.columns, emit.integer(v * emit.lanes)))
            _emit_write(emit, tile, v, mask, [sums[r, v] for r in range(rows)])

    return body


def _emit_sums(
    emit: Emitter, tile: _Tile, shape: tuple[int, int], kind: Dots, ahead: int
) -> dict[tuple[int, int], ir.Value]:
    """The integer sums of a row and a vector of columns."""
    (rows, vectors), builder, lanes = shape, emit.builder, emit.lanes
    wide, weights = ir.VectorType(ir.IntType(32), lanes), ir.VectorType(ir.IntType(8), kind.group * lanes)
    entry, loop, done = builder.block, builder.append_basic_block("groups"), builder.append_basic_block("done")
    starts = emit.offset(tile.panel, vectors * lanes, 4)
    first = emit.offset(starts, vectors * lanes, 4)
    begun = [load(builder, emit.pointer(emit.vector_offset(starts, v), wide), 1) for v in range(vectors)]
    row_bytes = builder.mul(tile.groups, emit.integer(4))
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(INT)
    positions = [(r, v) for r in range(rows) for v in range(vectors)]
    sums = {position: builder.phi(wide) for position in positions}
    row = emit.offset(first, k, kind.group * vectors * lanes)
    for line in range(0, kind.group * vectors * lanes if ahead else 0, 64):
        emit.prefetch(emit.offset(emit.offset(row, line, 1), ahead, 1), to_write=False)
    b = [load(builder, emit.pointer(emit.offset(row, v, kind.group * lanes), weights), 1) for v in range(vectors)]
    added = {}
    for r in range(rows):
        place = emit.pointer(emit.offset(emit.offset(tile.a, r, row_bytes), k, 4), ir.IntType(32))
        group = repeat(builder, wide, builder.load(place, align=1))
        for v in range(vectors):
            added[r, v] = emit_dots(builder, kind, sums[r, v], group, b[v])
    following = builder.add(k, emit.integer(1))
    for phi, start, after in [(k, emit.integer(0), following)] + [
        (sums[r, v], begun[v], added[r, v]) for r, v in positions
    ]:
        phi.add_incoming(start, entry)
        phi.add_incoming(after, loop)
    builder.cbranch(builder.icmp_signed("<", following, tile.groups), loop, done)
    builder.position_at_end(done)
    return added


def _emit_write(emit: Emitter, tile: _Tile, v: int, mask: ir.Value, sums: list[ir.Value]) -> None:
    """Write the columns of one vector, scaled, with the bias; or add them."""
    builder = emit.builder
    scales = emit.load(emit.vector_offset(tile.panel, v))
    biased = builder.icmp_signed("!=", tile.bias, emit.integer(0))
    adding = builder.icmp_signed("!=", tile.accumulate, emit.integer(0))
    no_lanes = ir.Constant(mask.type, None)
    # Nothing is read where there is no bias: all lanes are masked.
    bias = emit.load(emit.vector_offset(tile.bias, v), builder.select(biased, mask, no_lanes))
    for r, total in enumerate(sums):
        target = emit.vector_offset(emit.offset(tile.c, r, tile.c_row), v)
        factor = builder.fmul(emit.load_broadcast(emit.offset(tile.factors, r, 4)), scales)
        product = emit.multiply_add(builder.sitofp(total, emit.vector), factor, bias)
        before = emit.load(target, builder.select(adding, mask, no_lanes))
        emit.store(builder.fadd(product, before), target, mask)


@intrinsic
def _emitted_tile(typingctx: Any, extent: Any, a: Any, factors: Any, panel: Any, c: Any, bias: Any, add: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        rows, columns, groups, a, factors, panel, c, c_row, _, bias, add = flatten(builder, arguments)
        tile = _Tile(columns, groups, a, factors, panel, c, c_row, bias, add)
        shape, ahead = tile_shape(4), CUTS[registers().kind].ahead
        emit = Emitter(builder, types.DType(types.float32), shape.lanes)
        done = builder.append_basic_block("tile_done")
        switch = builder.switch(rows, done)
        for count in range(1, shape.rows + 1):
            name = f"int8_tile_{count}"
            body = _emit_tile(count, shape.columns // shape.lanes, dots(), ahead)
            function = define(body, name, emit, len(tile))
            block = builder.append_basic_block(name)
            switch.add_case(emit.integer(count), block)
            with builder.goto_block(block):
                builder.call(function, tile)
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    integer = types.int64
    return types.void(extent, integer, integer, integer, c, integer, integer), generate


_multiply_tile = _multiply_tile_in_numpy if numba.config.DISABLE_JIT else _emitted_tile


# --- The product ------------------------------------------------------------------------------------------------------


@functools.cache
def _multiply_by(kind: Dots) -> Any:
    """The kernel that multiplies as those of `kernels.gemm.packed`, for the panels of an `Int8`."""
    most_rows, group, bits, shift = tile_shape(4).rows, kind.group, kind.bits, kind.shift
    element, most = (np.uint8 if shift else np.int8) if bits == 8 else np.int16, 2 ** (bits - 1) - 1

    @serial_kernel
    def multiply_int8(
        extent: Extent, a: Matrix, panels: int, width: int, bias: int, c: Matrix, accumulate: int, backwards: int
    ) -> None:
        rows, columns, depth = extent
        groups = (depth + group - 1) // group
        limit = np.float32(min(most, 2147483647 // (127 * max(depth, 1))))
        # What fills up the last group is multiplied by weights of 0.
        rounded, factors = np.empty(rows * group * groups, element), np.empty(rows, np.float32)
        for row in range(rows):
            x = row_at(np.float32, a.address + row * a.row, 0, depth)
            factors[row] = _round_row(x, limit, rounded, row * group * groups, shift)
        panel_bytes, strips = width * (8 + group * groups), -(-rows // most_rows)
        for panel in range(-(-columns // width)):
            column, row = panel * width, 0
            for strip in range(strips):
                height = rows // strips + (strip < rows % strips)
                _multiply_tile(
                    Extent(height, min(width, columns - column), groups),
                    np.int64(rounded.ctypes.data) + row * 4 * groups,
                    np.int64(factors.ctypes.data) + row * 4,
                    panels + panel * panel_bytes,
                    Matrix(c.address + row * c.row + column * 4, c.row, 4),
                    bias + column * 4 if bias != 0 else 0,
                    accumulate,
                )
                row += height

    return multiply_int8
