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

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_attn.kernels.gemm.emitter import INT, Address, Emitter, define, view

__all__ = ["ACTIVATIONS", "activate_tile", "multiply_tile"]


def _emit_tile(rows: int, vectors: int) -> Callable[..., None]:
    """The micro-kernel for ``rows`` rows and ``vectors`` vectors of columns, of which the last may be partial."""

    def body(
        emit: Emitter,
        columns: ir.Value,
        depth: ir.Value,
        a: Address,
        a_row: ir.Value,
        a_depth: ir.Value,
        b: Address,
        b_depth: ir.Value,
        c: Address,
        c_row: ir.Value,
        bias: Address,
        accumulate: ir.Value,
    ) -> None:
        builder, step = emit.builder, emit.lanes * emit.itemsize
        tile = [(r, v) for r in range(rows) for v in range(vectors)]
        last = emit.first_lanes(builder.sub(columns, emit.integer((vectors - 1) * emit.lanes)))
        masks = [None] * (vectors - 1) + [last]
        targets = {(r, v): emit.offset(emit.offset(c, r, c_row), v, step) for r, v in tile}

        # Sums start at the bias. Without one, an empty mask over an address that is valid gives zeros.
        has_bias = builder.icmp_signed("!=", bias, emit.integer(0))
        bias_address = builder.select(has_bias, bias, c)
        bias_columns = builder.select(has_bias, columns, emit.integer(0))
        initial = [
            emit.load(
                emit.offset(bias_address, v, step),
                emit.first_lanes(builder.sub(bias_columns, emit.integer(v * emit.lanes))),
            )
            for v in range(vectors)
        ]

        entry, loop, done = builder.block, builder.append_basic_block("depth"), builder.append_basic_block("done")
        a_offsets = [emit.offset(emit.integer(0), r, a_row) for r in range(rows)]
        builder.branch(loop)
        builder.position_at_end(loop)
        k, a_k, b_k = (builder.phi(INT) for _ in range(3))
        sums = {position: builder.phi(emit.vector) for position in tile}
        b_vectors = [emit.load(emit.offset(b_k, v, step)) for v in range(vectors)]
        next_sums = {}
        for r in range(rows):
            a_element = emit.load_broadcast(builder.add(a_k, a_offsets[r]))
            for v in range(vectors):
                next_sums[r, v] = emit.multiply_add(a_element, b_vectors[v], sums[r, v])
        remaining = builder.sub(k, emit.integer(1))
        for phi, first, following in (
            (k, depth, remaining),
            (a_k, a, builder.add(a_k, a_depth)),
            (b_k, b, builder.add(b_k, b_depth)),
            *((sums[r, v], initial[v], next_sums[r, v]) for r, v in tile),
        ):
            phi.add_incoming(first, entry)
            phi.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed(">", remaining, emit.integer(0)), loop, done)

        builder.position_at_end(done)
        add, store = builder.append_basic_block("add"), builder.append_basic_block("store")
        builder.cbranch(builder.icmp_signed("!=", accumulate, emit.integer(0)), add, store)
        builder.position_at_end(add)
        added = {p: builder.fadd(emit.load(targets[p], masks[p[1]]), next_sums[p]) for p in tile}
        builder.branch(store)
        builder.position_at_end(store)
        results = {}
        for position in tile:
            results[position] = builder.phi(emit.vector)
            results[position].add_incoming(next_sums[position], done)
            results[position].add_incoming(added[position], add)
        for position in tile:
            emit.store(results[position], targets[position], masks[position[1]])

    return body


@intrinsic
def _multiply_tile(
    typingctx: Any,
    dtype: Any,
    rows: Any,
    columns: Any,
    depth: Any,
    a: Any,
    a_row: Any,
    a_depth: Any,
    b: Any,
    b_depth: Any,
    c: Any,
    c_row: Any,
    bias: Any,
    accumulate: Any,
) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, rows, columns, *others = arguments
        emit = Emitter(builder, dtype)
        lanes, max_rows, max_columns, _ = emit.shape
        max_vectors = max_columns // lanes
        vectors = builder.sdiv(builder.add(columns, emit.integer(lanes - 1)), emit.integer(lanes))
        which = builder.add(builder.mul(rows, emit.integer(max_vectors + 1)), vectors)
        done = builder.append_basic_block("tile_done")
        switch = builder.switch(which, done)
        for row_count in range(1, max_rows + 1):
            for vector_count in range(1, max_vectors + 1):
                name = f"gemm_tile_{emit.suffix}_{row_count}x{vector_count}"
                function = define(_emit_tile(row_count, vector_count), name, emit, 11)
                block = builder.append_basic_block(name)
                switch.add_case(emit.integer(row_count * (max_vectors + 1) + vector_count), block)
                with builder.goto_block(block):
                    builder.call(function, [columns, *others])
                    builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(dtype, *[types.int64] * 12), generate


def _multiply_tile_in_numpy(
    dtype: Any,
    rows: int,
    columns: int,
    depth: int,
    a: int,
    a_row: int,
    a_depth: int,
    b: int,
    b_depth: int,
    c: int,
    c_row: int,
    bias: int,
    accumulate: int,
) -> None:
    itemsize = np.dtype(dtype).itemsize
    tile = view(dtype, c, (rows, columns), (c_row, itemsize))
    a_tile, b_tile = (
        view(dtype, a, (rows, depth), (a_row, a_depth)),
        view(dtype, b, (depth, columns), (b_depth, itemsize)),
    )
    product = np.zeros((rows, columns), dtype)
    if bias:
        product += view(dtype, bias, (1, columns), (0, itemsize))
    for k in range(depth):  # in this order, as in registers: `@` would sum in an order that depends on the tile's shape
        product += a_tile[:, k, None] * b_tile[k]
    tile[...] = tile + product if accumulate else product


# How an activation is emitted, x being a vector, beside the same in NumPy. The position in this table is its code.
_EmitActivation = Callable[[Emitter, ir.Value], ir.Value]


def _emit_relu(emit: Emitter, x: ir.Value) -> ir.Value:
    return emit.builder.select(emit.builder.fcmp_ordered("<", x, emit.zero), emit.zero, x)  # a NaN stays


ACTIVATIONS: dict[str, tuple[_EmitActivation, Callable[[np.ndarray], np.ndarray]]] = {
    "relu": (_emit_relu, lambda x: np.where(x < 0, np.zeros_like(x), x)),
}


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
def _activate_tile(typingctx: Any, dtype: Any, code: Any, c: Any, c_row: Any, rows: Any, columns: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        emit = Emitter(builder, dtype)
        done = builder.append_basic_block("activated")
        switch = builder.switch(arguments[1], done)
        for code, (name, (activation, _)) in enumerate(ACTIVATIONS.items()):
            function = define(_emit_activation(activation), f"gemm_{name}_{emit.suffix}", emit, 4)
            block = builder.append_basic_block(name)
            switch.add_case(emit.integer(code), block)
            with builder.goto_block(block):
                builder.call(function, arguments[2:])
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(dtype, *[types.int64] * 5), generate


def _activate_tile_in_numpy(dtype: Any, code: int, c: int, c_row: int, rows: int, columns: int) -> None:
    tile = view(dtype, c, (rows, columns), (c_row, np.dtype(dtype).itemsize))
    tile[...] = list(ACTIVATIONS.values())[code][1](tile)


if numba.config.DISABLE_JIT:
    multiply_tile, activate_tile = _multiply_tile_in_numpy, _activate_tile_in_numpy
else:
    multiply_tile, activate_tile = _multiply_tile, _activate_tile
