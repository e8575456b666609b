"""The micro-kernel of the matrix product, and the activation functions that may follow it.

``multiply_tile``
    a tile of C stays in registers while the products of a column of A and a row of B are added to it, one depth ``k``
    after the other.
``activate_tile``
    applies an activation function to a tile that was just stored and is still in the cache.

The micro-kernel is that of Van Zee and van de Geijn, "BLIS: A Framework for Rapidly Instantiating BLAS Functionality",
ACM TOMS 41(3), 2015, with a version for every number of rows, so that no row is computed in vain.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_attn.kernels.gemm.operands import Extent, Matrix, matrix_at
from tinygrad_attn.kernels.gemm.plan import CUTS, TileShape, tile_shape
from tinygrad_attn.kernels.runtime.addresses import array_address
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.simd.instructions import INT, Address, Emitter, define, flatten
from tinygrad_attn.kernels.simd.registers import registers

__all__ = ["ACTIVATIONS", "activate_tile", "multiply_tile"]


# --- In NumPy: what runs under NUMBA_DISABLE_JIT=1, and what the compiled functions are held to -----------------------


def multiply_tile_in_numpy(
    dtype: Any, extent: Extent, a: Matrix, b: Matrix, c: Matrix, bias: int, accumulate: int
) -> None:
    """C, or C +, = bias + sum over k of column k of A times row k of B; elements of a row of B and C adjoin.

    Args:
        dtype: of all elements.
        extent: the sizes; rows and columns at most those of the tile.
        a, b, c: the matrices.
        bias: address of a row of C's length, or 0.
        accumulate: 1 to add to what C holds, 0 to write.
    """
    rows, columns, depth = extent
    a_tile, b_tile = matrix_at(dtype, a, (rows, depth)), matrix_at(dtype, b, (depth, columns))
    tile, product = matrix_at(dtype, c, (rows, columns)), np.zeros((rows, columns), dtype)
    if bias:
        product += matrix_at(dtype, (bias, 0, product.itemsize), (1, columns))
    for k in range(depth):  # in this order, as in registers: `@` would sum in an order that depends on the tile's shape
        product += a_tile[:, k, None] * b_tile[k]
    tile[...] = tile + product if accumulate else product


def activate_tile_in_numpy(dtype: Any, code: int, c: Matrix, rows: int, columns: int) -> None:
    """C = activation(C), for the activation at a position in `ACTIVATIONS`."""
    tile = matrix_at(dtype, c, (rows, columns))
    tile[...] = list(ACTIVATIONS.values())[code][1](tile)


# How an activation is emitted, x being a vector, beside the same in NumPy. The position in this table is its code.
_EmitActivation = Callable[[Emitter, ir.Value], ir.Value]


def _emit_relu(emit: Emitter, x: ir.Value) -> ir.Value:
    return emit.builder.select(emit.builder.fcmp_ordered("<", x, emit.zero), emit.zero, x)  # a NaN stays


ACTIVATIONS: dict[str, tuple[_EmitActivation, Callable[[np.ndarray], np.ndarray]]] = {
    "relu": (_emit_relu, lambda x: np.where(x < 0, np.zeros_like(x), x)),
}


# --- The micro-kernel -------------------------------------------------------------------------------------------------


class _Tile(NamedTuple):
    """The arguments of one version of the micro-kernel, as LLVM values: those of `multiply_tile`, flattened."""

    columns: ir.Value
    depth: ir.Value
    a: Address
    a_row: ir.Value
    a_column: ir.Value
    b: Address
    b_row: ir.Value
    c: Address
    c_row: ir.Value
    bias: Address
    accumulate: ir.Value


_Sums = dict[tuple[int, int], ir.Value]  # a vector for each row and each vector of columns of the tile


def _emit_tile(rows: int, vectors: int, ahead: int) -> Callable[..., None]:
    """The micro-kernel for ``rows`` rows and ``vectors`` vectors of columns, of which the last may be partial.

    ``ahead`` is `kernels.gemm.plan.Cut.ahead`.
    """

    def body(emit: Emitter, *arguments: ir.Value) -> None:
        tile = _Tile(*arguments)
        _emit_prefetch(emit, tile, rows, vectors)
        start = _emit_bias(emit, tile, vectors)
        sums = _emit_sums(emit, tile, {(r, v): start[v] for r in range(rows) for v in range(vectors)}, ahead)
        whole = emit.builder.icmp_signed("==", tile.columns, emit.integer(vectors * emit.lanes))
        # Masks cost time even where they hide nothing, and lane by lane where there are no masked instructions.
        with emit.builder.if_else(whole) as (without_mask, with_mask):
            with without_mask:
                _emit_write(emit, tile, sums, None)
            with with_mask:
                _emit_write(emit, tile, sums, _last_lanes(emit, tile, vectors))

    return body


def _emit_prefetch(emit: Emitter, tile: _Tile, rows: int, vectors: int) -> None:
    """Fetch the tile's rows of C, which lie far apart, into the cache while the sums are computed."""
    for r in range(rows):
        row = emit.offset(tile.c, r, tile.c_row)
        emit.prefetch(row, to_write=True)
        emit.prefetch(emit.offset(row, vectors * emit.lanes - 1, emit.itemsize), to_write=True)


def _last_lanes(emit: Emitter, tile: _Tile, vectors: int) -> ir.Value:
    """The mask of the last vector of columns."""
    return emit.first_lanes(emit.builder.sub(tile.columns, emit.integer((vectors - 1) * emit.lanes)))


def _emit_bias(emit: Emitter, tile: _Tile, vectors: int) -> list[ir.Value]:
    """The vectors of the bias, or zeros without one."""
    builder, entry = emit.builder, emit.builder.block
    with builder.if_then(builder.icmp_signed("!=", tile.bias, emit.integer(0))):
        masks = [None] * (vectors - 1) + [_last_lanes(emit, tile, vectors)]
        loaded = [emit.load(emit.vector_offset(tile.bias, v), masks[v]) for v in range(vectors)]
        biased = builder.block
    start = []
    for vector in loaded:
        start.append(builder.phi(emit.vector))
        start[-1].add_incoming(emit.zero, entry)
        start[-1].add_incoming(vector, biased)
    return start


def _emit_sums(emit: Emitter, tile: _Tile, start: _Sums, ahead: int) -> _Sums:
    """The loop over the depth, from the sums that it starts with to those it ends with."""
    builder = emit.builder
    rows, vectors = (1 + max(position[axis] for position in start) for axis in (0, 1))
    entry, loop, done = builder.block, builder.append_basic_block("depth"), builder.append_basic_block("done")
    a_offsets = [emit.offset(emit.integer(0), r, tile.a_row) for r in range(rows)]
    builder.branch(loop)

    builder.position_at_end(loop)
    k, a_k, b_k = (builder.phi(INT) for _ in range(3))
    sums = {position: builder.phi(emit.vector) for position in start}
    for v in range(vectors if ahead else 0):
        emit.prefetch(emit.offset(emit.vector_offset(b_k, v), ahead, 1), to_write=False)
    b_vectors = [emit.load(emit.vector_offset(b_k, v)) for v in range(vectors)]
    next_sums = {}
    for r in range(rows):
        a_element = emit.load_broadcast(builder.add(a_k, a_offsets[r]))
        for v in range(vectors):
            next_sums[r, v] = emit.multiply_add(a_element, b_vectors[v], sums[r, v])
    remaining = builder.sub(k, emit.integer(1))
    for phi, first, following in (
        (k, tile.depth, remaining),
        (a_k, tile.a, builder.add(a_k, tile.a_column)),
        (b_k, tile.b, builder.add(b_k, tile.b_row)),
        *((sums[position], start[position], next_sums[position]) for position in start),
    ):
        phi.add_incoming(first, entry)
        phi.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed(">", remaining, emit.integer(0)), loop, done)

    builder.position_at_end(done)
    return next_sums


def _emit_write(emit: Emitter, tile: _Tile, sums: _Sums, last: ir.Value | None) -> None:
    """Write the sums, or add them to what is there; of the last vector of each row the lanes of the mask, if any."""
    vectors = 1 + max(v for _, v in sums)
    masks = [None] * (vectors - 1) + [last]
    targets = {(r, v): emit.vector_offset(emit.offset(tile.c, r, tile.c_row), v) for r, v in sums}
    adding = emit.builder.icmp_signed("!=", tile.accumulate, emit.integer(0))
    with emit.builder.if_else(adding) as (add, store):
        with add:
            for position, target in targets.items():
                mask = masks[position[1]]
                emit.store(emit.builder.fadd(emit.load(target, mask), sums[position]), target, mask)
        with store:
            for position, target in targets.items():
                emit.store(sums[position], target, masks[position[1]])


# Several kernels multiply tiles, and to compile the versions is most of the time that each of them takes. They are
# compiled once, in a kernel that writes their addresses to a table; the others find them as symbols of the process.


def _symbol(shape: TileShape, rows: int, vectors: int) -> str:
    return f"tinygrad_attn_tile_{shape.lanes}_{rows}x{vectors}"


@intrinsic
def _write_addresses(typingctx: Any, dtype: Any, table: Any) -> Any:
    """Write the addresses of the micro-kernel's versions to a table in memory, (rows, vectors) int64."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        shape = tile_shape(dtype.dtype.bitwidth // 8)
        emit, place = Emitter(builder, dtype, shape.lanes), arguments[1]
        ahead = CUTS[registers().kind].ahead
        for rows in range(1, shape.rows + 1):
            for vectors in range(1, shape.columns // shape.lanes + 1):
                function = define(_emit_tile(rows, vectors, ahead), f"tile_{rows}x{vectors}", emit, len(_Tile._fields))
                builder.store(builder.ptrtoint(function, INT), emit.pointer(place, INT))
                place = builder.add(place, emit.integer(8))
        return context.get_dummy_value()

    return types.void(dtype, types.int64), generate


def _make_table(dtype: Any) -> Any:
    @serial_kernel
    def write_tiles(table: int) -> None:
        _write_addresses(dtype, table)

    return write_tiles


_tables = {4: _make_table(np.float32), 8: _make_table(np.float64)}


@functools.cache
def _provide_tiles(itemsize: int) -> None:
    """Make the micro-kernel's versions known as symbols; before code is compiled or loaded that calls them."""
    shape = tile_shape(itemsize)
    table = np.empty((shape.rows, shape.columns // shape.lanes), np.int64)
    _tables[itemsize](array_address(table))
    for (row, vector), address in np.ndenumerate(table):
        llvm.add_symbol(_symbol(shape, row + 1, vector + 1), int(address))


@intrinsic
def _multiply_tile(typingctx: Any, dtype: Any, extent: Any, a: Any, b: Any, c: Any, bias: Any, accumulate: Any) -> Any:
    provide = functools.partial(_provide_tiles, dtype.dtype.bitwidth // 8)
    provide()

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        rows, columns, depth, a, a_row, a_column, b, b_row, _, c, c_row, _, bias, accumulate = flatten(
            builder, arguments[1:]
        )
        tile = _Tile(columns, depth, a, a_row, a_column, b, b_row, c, c_row, bias, accumulate)
        context.active_code_library._reload_init.add(provide)  # numba calls it before it loads the code from disk
        shape = tile_shape(dtype.dtype.bitwidth // 8)
        emit, max_vectors = Emitter(builder, dtype, shape.lanes), shape.columns // shape.lanes
        vectors = builder.sdiv(builder.add(columns, emit.integer(emit.lanes - 1)), emit.integer(emit.lanes))
        which = builder.add(builder.mul(rows, emit.integer(max_vectors + 1)), vectors)
        done = builder.append_basic_block("tile_done")
        switch = builder.switch(which, done)
        for row_count in range(1, shape.rows + 1):
            for vector_count in range(1, max_vectors + 1):
                name = _symbol(shape, row_count, vector_count)
                kind = ir.FunctionType(ir.VoidType(), [INT] * len(tile))
                function = cgutils.get_or_insert_function(builder.module, kind, name)
                block = builder.append_basic_block(name)
                switch.add_case(emit.integer(row_count * (max_vectors + 1) + vector_count), block)
                with builder.goto_block(block):
                    builder.call(function, tile)
                    builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(dtype, extent, a, b, c, types.int64, types.int64), generate


# --- Activations ------------------------------------------------------------------------------------------------------


def _emit_activation(activation: _EmitActivation) -> Callable[..., None]:
    def body(emit: Emitter, c: Address, c_row: ir.Value, rows: ir.Value, columns: ir.Value) -> None:
        builder, lanes = emit.builder, emit.integer(emit.lanes)
        vectors = builder.sdiv(builder.add(columns, emit.integer(emit.lanes - 1)), lanes)
        with (
            cgutils.for_range(builder, rows, intp=INT) as row,
            cgutils.for_range(builder, vectors, intp=INT) as vector,
        ):
            first = builder.mul(vector.index, lanes)
            target = emit.offset(emit.offset(c, row.index, c_row), first, emit.itemsize)
            mask = emit.first_lanes(builder.sub(columns, first))
            emit.store(activation(emit, emit.load(target, mask)), target, mask)

    return body


@intrinsic
def _activate_tile(typingctx: Any, dtype: Any, code: Any, c: Any, rows: Any, columns: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        code, c, c_row, _, rows, columns = flatten(builder, arguments[1:])
        emit = Emitter(builder, dtype, tile_shape(dtype.dtype.bitwidth // 8).lanes)
        done = builder.append_basic_block("activated")
        switch = builder.switch(code, done)
        for position, (name, (activation, _)) in enumerate(ACTIVATIONS.items()):
            function = define(_emit_activation(activation), f"gemm_{name}_{emit.suffix}", emit, 4)
            block = builder.append_basic_block(name)
            switch.add_case(emit.integer(position), block)
            with builder.goto_block(block):
                builder.call(function, [c, c_row, rows, columns])
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(dtype, types.int64, c, types.int64, types.int64), generate


if numba.config.DISABLE_JIT:
    multiply_tile, activate_tile = multiply_tile_in_numpy, activate_tile_in_numpy
else:
    multiply_tile, activate_tile = _multiply_tile, _activate_tile
