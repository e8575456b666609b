"""Products of some rows with a matrix whose weights are 8-bit integers.

Each column of the matrix has a scale, so that its largest weight is 127; each row of x gets one when it is multiplied,
and is rounded to 16 bits (Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2018, with a scale for each channel). Sums are exact, in 32 bits::

    w ≈ scale[j] * q,   q = round(w / scale[j]) in -127 … 127,   scale[j] = max |w[:, j]| / 127

A quarter of the memory is read, which is what a step with few rows waits for. `multiply_int8_in_numpy` says what the
kernel computes. A panel of a packed matrix is its columns' scales, followed by the weights, two depths next to each
other: one instruction multiplies both and adds the two products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing.templates import Signature, signature
from numba.extending import intrinsic

from tinygrad_attn.kernels.gemm.cache import packed_once
from tinygrad_attn.kernels.gemm.operands import Extent, Matrix, matrix_at
from tinygrad_attn.kernels.gemm.plan import tile_shape
from tinygrad_attn.kernels.runtime.calls import address_of
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import row_at
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.simd.instructions import INT, Emitter, define, flatten, load, repeat

__all__ = ["Int8", "dequantized", "multiply_int8_in_numpy", "pack_int8"]

_MOST = 127  # the largest weight
_ROUNDED = np.float32(1.5 * 2**23)  # added and subtracted again, it leaves a float32 rounded


def dequantized(matrix: np.ndarray) -> np.ndarray:
    """The matrix (depth, columns) as its 8-bit weights have it."""
    scales = _scales(matrix)
    return (np.rint(matrix / scales) * scales).astype(matrix.dtype)


def multiply_int8_in_numpy(x: np.ndarray, matrix: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """x matrix + bias with weights of 8 bits, and rows of x of 16."""
    depth = len(matrix)
    factors = np.abs(x).max(-1, keepdims=True) / np.float32(_limit(depth))
    rounded = np.rint(x / np.where(factors == 0.0, 1.0, factors)) * factors
    product = rounded @ dequantized(matrix)
    return product if bias is None else product + bias


def _scales(matrix: np.ndarray) -> np.ndarray:
    largest = np.abs(matrix).max(axis=0, initial=0.0)
    return np.where(largest == 0.0, 1.0, largest / _MOST).astype(np.float32)


def _limit(depth: int) -> int:
    """The largest number of a row of x: of 16 bits, and such that no sum over the depth leaves 32."""
    return min(32767, (2**31 - 1) // (_MOST * max(depth, 1)))


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
    (depth, columns), width = matrix.shape, tile_shape(4).columns
    count, pairs = -(-columns // width), -(-depth // 2)
    scales, weights = np.ones(count * width, np.float32), np.zeros((2 * pairs, count * width), np.int8)
    scales[:columns] = _scales(matrix)
    weights[:depth, :columns] = np.rint(matrix / scales[:columns])
    by_panel = weights.reshape(pairs, 2, count, width).transpose(2, 0, 3, 1).reshape(count, -1)
    panels = np.concatenate([scales.reshape(count, width).view(np.uint8), by_panel.view(np.uint8)], axis=1)
    return Int8(np.ascontiguousarray(panels), columns, address_of(_multiply), depth, width)


# --- Rows of x, rounded -----------------------------------------------------------------------------------------------


def store_rounded(array: Any, offset: int, vector: Any) -> None:
    """Write a vector of float32, rounded, to ``array[offset : offset + lanes]`` of int16."""
    array[offset : offset + vector.size] = np.rint(vector)


def _store_rounded_typing(array: Any, offset: Any, vector: Any) -> Signature | None:
    return signature(types.none, array, types.intp, vector) if isinstance(vector, simd.Vector) else None


@simd.emits(store_rounded, _store_rounded_typing)
def _emit_store_rounded(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    array, offset, vector = arguments
    magic = repeat(builder, vector.type, ir.Constant(ir.FloatType(), float(_ROUNDED)))
    rounded = builder.fsub(builder.fadd(vector, magic), magic)
    whole = builder.fptosi(rounded, ir.VectorType(ir.IntType(32), vector.type.count))
    short = ir.VectorType(ir.IntType(16), vector.type.count)
    pointer = builder.gep(context.make_array(sig.args[0])(context, builder, array).data, [offset])
    builder.store(builder.trunc(whole, short), builder.bitcast(pointer, short.as_pointer()), align=2)
    return context.get_dummy_value()


@serial_kernel
def _round_row(x: Any, limit: float, rounded: Any, start: int) -> Any:
    """Write a row as integers to ``rounded`` from ``start`` on; returns what they are to be multiplied by."""
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
        store_rounded(rounded, start + i, simd.load(x, i) * inverse)
    for i in range(whole, x.size):
        rounded[start + i] = np.int16(np.rint(x[i] * inverse))
    return factor


# --- The tile ---------------------------------------------------------------------------------------------------------


class _Tile(NamedTuple):
    """Where a tile of C and its operands lie."""

    columns: Any
    pairs: Any
    a: Any  # int16 (rows, 2 * pairs)
    factors: Any  # float32 (rows,)
    panel: Any
    c: Any
    c_row: Any
    bias: Any  # address of a row of C's length, or 0
    accumulate: Any


def _multiply_tile_in_numpy(extent: Extent, a: Any, factors: Any, panel: int, c: Matrix, bias: int, add: int) -> None:
    """C, or C +, = bias + A B with 16-bit A and 8-bit B, for the columns of one panel; the depth counts pairs."""
    rows, columns, pairs = extent
    width = tile_shape(4).columns
    x = matrix_at(np.int16, Matrix(a, 4 * pairs, 2), (rows, 2 * pairs)).astype(np.int32)
    scales = matrix_at(np.float32, Matrix(panel, 0, 4), (1, columns))
    weights = matrix_at(np.int8, Matrix(panel + 4 * width, 2 * width, 1), (pairs, 2 * width))
    weights = weights.reshape(pairs, width, 2).transpose(0, 2, 1).reshape(2 * pairs, width)[:, :columns]
    sums = (x @ weights.astype(np.int32)).astype(np.float32)
    product = sums * (matrix_at(np.float32, Matrix(factors, 4, 0), (rows, 1)) * scales)
    if bias:
        product += matrix_at(np.float32, Matrix(bias, 0, 4), (1, columns))
    tile = matrix_at(np.float32, c, (rows, columns))
    tile[...] = tile + product if add else product


def _emit_tile(rows: int, vectors: int) -> Callable[..., None]:
    """The tile for so many rows; it is ``vectors`` vectors wide, of which the last columns may not exist."""

    def body(emit: Emitter, *arguments: ir.Value) -> None:
        tile = _Tile(*arguments)
        sums = _emit_sums(emit, tile, rows, vectors)
        for v in range(vectors):
            mask = emit.first_lanes(emit.builder.sub(tile.columns, emit.integer(v * emit.lanes)))
            _emit_write(emit, tile, v, mask, [sums[r, v] for r in range(rows)])

    return body


def _emit_sums(emit: Emitter, tile: _Tile, rows: int, vectors: int) -> dict[tuple[int, int], ir.Value]:
    """The integer sums of a row and a vector of columns."""
    builder, lanes = emit.builder, emit.lanes
    wide, weights = ir.VectorType(ir.IntType(32), lanes), ir.VectorType(ir.IntType(8), 2 * lanes)
    entry, loop, done = builder.block, builder.append_basic_block("pairs"), builder.append_basic_block("done")
    first = emit.offset(tile.panel, vectors * lanes, 4)
    row_bytes = builder.mul(tile.pairs, emit.integer(4))
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(INT)
    positions = [(r, v) for r in range(rows) for v in range(vectors)]
    sums = {position: builder.phi(wide) for position in positions}
    row = emit.offset(first, k, 2 * vectors * lanes)
    b = [load(builder, emit.pointer(emit.offset(row, v, 2 * lanes), weights), 1) for v in range(vectors)]
    added = {}
    for r in range(rows):
        pair = builder.load(emit.pointer(emit.offset(emit.offset(tile.a, r, row_bytes), k, 4), ir.IntType(32)), align=2)
        a = builder.bitcast(repeat(builder, wide, pair), ir.VectorType(ir.IntType(16), 2 * lanes))
        for v in range(vectors):
            added[r, v] = builder.add(sums[r, v], _multiply_pairs(builder, a, b[v]))
    following = builder.add(k, emit.integer(1))
    for phi, start, after in [(k, emit.integer(0), following)] + [
        (sums[position], ir.Constant(wide, None), added[position]) for position in positions
    ]:
        phi.add_incoming(start, entry)
        phi.add_incoming(after, loop)
    builder.cbranch(builder.icmp_signed("<", following, tile.pairs), loop, done)
    builder.position_at_end(done)
    return added


def _multiply_pairs(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """The sum of the two products of each pair of 16- and 8-bit elements, for which LLVM finds one instruction."""
    count = a.type.count
    wide, index = ir.VectorType(ir.IntType(32), count), ir.VectorType(ir.IntType(32), count // 2)
    products = builder.mul(builder.sext(a, wide), builder.sext(b, wide), flags=("nsw",))
    even, odd = (ir.Constant(index, list(range(start, count, 2))) for start in (0, 1))
    undefined = ir.Constant(wide, ir.Undefined)
    return builder.add(
        builder.shuffle_vector(products, undefined, even), builder.shuffle_vector(products, undefined, odd)
    )


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
        rows, columns, pairs, a, factors, panel, c, c_row, _, bias, add = flatten(builder, arguments)
        tile, shape = _Tile(columns, pairs, a, factors, panel, c, c_row, bias, add), tile_shape(4)
        emit = Emitter(builder, types.DType(types.float32), shape.lanes)
        done = builder.append_basic_block("tile_done")
        switch = builder.switch(rows, done)
        for count in range(1, shape.rows + 1):
            name = f"int8_tile_{count}"
            function = define(_emit_tile(count, shape.columns // shape.lanes), name, emit, len(tile))
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

_ROWS = tile_shape(4).rows


@serial_kernel
def _multiply(
    extent: Extent, a: Matrix, panels: int, width: int, bias: int, c: Matrix, accumulate: int, backwards: int
) -> None:
    """As the kernels of `kernels.gemm.packed`, for the panels of an `Int8`."""
    rows, columns, depth = extent
    pairs = (depth + 1) // 2
    limit = np.float32(min(32767, 2147483647 // (127 * max(depth, 1))))
    rounded, factors = np.zeros(rows * 2 * pairs, np.int16), np.empty(rows, np.float32)
    for row in range(rows):
        x = row_at(np.float32, a.address + row * a.row, 0, depth)
        factors[row] = _round_row(x, limit, rounded, row * 2 * pairs)
    panel_bytes, strips = width * (4 + 2 * pairs), -(-rows // _ROWS)
    for panel in range(-(-columns // width)):
        column, row = panel * width, 0
        for strip in range(strips):
            height = rows // strips + (strip < rows % strips)
            _multiply_tile(
                Extent(height, min(width, columns - column), pairs),
                np.int64(rounded.ctypes.data) + row * 4 * pairs,
                np.int64(factors.ctypes.data) + row * 4,
                panels + panel * panel_bytes,
                Matrix(c.address + row * c.row + column * 4, c.row, 4),
                bias + column * 4 if bias != 0 else 0,
                accumulate,
            )
            row += height
