"""The innermost loops of the matrix product, emitted as LLVM vector code.

Numba's own loops over arrays do not become vector code here, since LLVM cannot prove that the arrays don't overlap.
So what runs once per multiplication is written with vectors as values; `gemm_blocks` puts plain loops around it:

``multiply_tile``
    the *micro-kernel*: a tile of C stays in registers while the products of a column of A and a row of B are added
    to it, one depth ``k`` after the other.
``pack_a``, ``pack_b``
    copy a panel of A or B so that the micro-kernel reads it with unit stride.
``activate_tile``
    applies an activation function to a tile that was just stored and is still in the cache.

They work on addresses and strides in bytes, so that one compiled version serves every layout of an array. Each has a
twin in NumPy that runs under ``NUMBA_DISABLE_JIT=1`` and says in a few lines what the vector code computes. The file is
long because the two stand together: neither can be changed, or understood, without the other.

The micro-kernel is that of Van Zee and van de Geijn, "BLIS: A Framework for Rapidly Instantiating BLAS Functionality",
ACM TOMS 41(3), 2015, with a version for every number of rows, so that no row is computed in vain.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["ACTIVATIONS", "TileShape", "activate_tile", "multiply_tile", "pack_a", "pack_b", "tile_shape"]

_INT = ir.IntType(64)
Address: TypeAlias = ir.Value  # a 64-bit integer


class TileShape(NamedTuple):
    """The tile of C that the micro-kernel holds in registers, and the panels that feed it, in elements."""

    lanes: int  # elements of one vector register
    rows: int  # at most so many rows of C
    columns: int  # at most so many columns of C, a multiple of `lanes`; also the width of a packed panel of B
    a_width: int  # the width of a packed panel of A: `rows` rounded up to whole vectors


@functools.cache
def tile_shape(itemsize: int) -> TileShape:
    """The tile for elements of ``itemsize`` bytes on this machine's registers.

    rows x (columns / lanes) accumulators, a row of B and one broadcast element of A share the vector registers: 32 of
    them with AVX-512 and on AArch64, 16 with AVX2 and SSE.
    """
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f"):
        vector_bytes, rows, vectors = 64, 14, 2
    elif features.get("avx2"):
        vector_bytes, rows, vectors = 32, 6, 2
    elif features.get("neon"):
        vector_bytes, rows, vectors = 16, 8, 3
    else:
        vector_bytes, rows, vectors = 16, 6, 2
    lanes = vector_bytes // itemsize
    return TileShape(lanes, rows, vectors * lanes, -(-rows // lanes) * lanes)


class _Emitter:
    """Emits loads, stores and arithmetic on vectors of one floating point type."""

    def __init__(self, builder: ir.IRBuilder, dtype: types.DType) -> None:
        self.builder = builder
        self.element = ir.FloatType() if dtype.dtype.bitwidth == 32 else ir.DoubleType()
        self.itemsize = dtype.dtype.bitwidth // 8
        self.shape = tile_shape(self.itemsize)
        self.lanes = self.shape.lanes
        self.vector = ir.VectorType(self.element, self.lanes)
        self.mask = ir.VectorType(ir.IntType(1), self.lanes)
        self.suffix = f"v{self.lanes}f{dtype.dtype.bitwidth}"
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)

    def integer(self, value: int) -> ir.Constant:
        return ir.Constant(_INT, value)

    def offset(self, address: Address, index: ir.Value | int, stride: ir.Value | int) -> Address:
        """address + index * stride; a constant index is folded."""
        if isinstance(index, int) and isinstance(stride, int):
            return self.builder.add(address, self.integer(index * stride)) if index * stride else address
        if isinstance(index, int):
            return self.builder.add(address, self.builder.mul(stride, self.integer(index))) if index else address
        stride = self.integer(stride) if isinstance(stride, int) else stride
        return self.builder.add(address, self.builder.mul(index, stride))

    def pointer(self, address: Address, target: ir.Type) -> ir.Value:
        return self.builder.inttoptr(address, target.as_pointer())

    def load(self, address: Address, mask: ir.Value | None = None) -> ir.Value:
        pointer = self.pointer(address, self.vector)
        if mask is None:
            return self.builder.load(pointer, align=1)
        function = self._intrinsic(
            f"llvm.masked.load.{self.suffix}.p0", self.vector, [pointer.type, ir.IntType(32), self.mask, self.vector]
        )
        return self.builder.call(function, [pointer, ir.Constant(ir.IntType(32), 1), mask, self.zero])

    def store(self, value: ir.Value, address: Address, mask: ir.Value | None = None) -> None:
        pointer = self.pointer(address, self.vector)
        if mask is None:
            self.builder.store(value, pointer, align=1)
            return
        function = self._intrinsic(
            f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), [self.vector, pointer.type, ir.IntType(32), self.mask]
        )
        self.builder.call(function, [value, pointer, ir.Constant(ir.IntType(32), 1), mask])

    def broadcast(self, value: ir.Value, vector: ir.VectorType | None = None) -> ir.Value:
        vector = vector or self.vector
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def load_broadcast(self, address: Address) -> ir.Value:
        return self.broadcast(self.builder.load(self.pointer(address, self.element), align=1))

    def multiply_add(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        function = self._intrinsic(f"llvm.fmuladd.{self.suffix}", self.vector, [self.vector] * 3)
        return self.builder.call(function, [x, y, z])

    def first_lanes(self, count: ir.Value) -> ir.Value:
        """The mask of the lanes whose index is less than ``count``; none when it is negative."""
        wide = ir.VectorType(_INT, self.lanes)
        return self.builder.icmp_signed("<", ir.Constant(wide, list(range(self.lanes))), self.broadcast(count, wide))

    def transpose(self, vectors: list[ir.Value]) -> list[ir.Value]:
        """The transpose of a square of ``lanes`` vectors: log2(lanes) perfect shuffles of its two halves."""
        half, index = self.lanes // 2, ir.VectorType(ir.IntType(32), self.lanes)
        low = ir.Constant(index, [lane // 2 + lane % 2 * self.lanes for lane in range(self.lanes)])
        high = ir.Constant(index, [half + lane // 2 + lane % 2 * self.lanes for lane in range(self.lanes)])
        for _ in range(self.lanes.bit_length() - 1):
            pairs = [(vectors[i], vectors[i + half]) for i in range(half)]
            vectors = [self.builder.shuffle_vector(*pair, mask) for pair in pairs for mask in (low, high)]
        return vectors

    def _intrinsic(self, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, arguments), name)


# How an activation is emitted, x being a vector, beside the same in NumPy. The position in this table is its code.
_EmitActivation = Callable[[_Emitter, ir.Value], ir.Value]


def _emit_relu(emit: _Emitter, x: ir.Value) -> ir.Value:
    return emit.builder.select(emit.builder.fcmp_ordered("<", x, emit.zero), emit.zero, x)  # a NaN stays


ACTIVATIONS: dict[str, tuple[_EmitActivation, Callable[[np.ndarray], np.ndarray]]] = {
    "relu": (_emit_relu, lambda x: np.where(x < 0, np.zeros_like(x), x)),
}


def _define(emit_body: Callable[..., None], name: str, emit: _Emitter, argument_count: int) -> ir.Function:
    """A function of its own for one tile size: inlined into one body, they would be slow to compile."""
    module = emit.builder.module
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_INT] * argument_count), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    outer, emit.builder = emit.builder, ir.IRBuilder(function.append_basic_block("entry"))
    emit_body(emit, *function.args)
    emit.builder.ret_void()
    emit.builder = outer
    return function


def _emit_tile(rows: int, vectors: int) -> Callable[..., None]:
    """The micro-kernel for ``rows`` rows and ``vectors`` vectors of columns, of which the last may be partial."""

    def body(
        emit: _Emitter,
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
        k, a_k, b_k = (builder.phi(_INT) for _ in range(3))
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
        emit = _Emitter(builder, dtype)
        lanes, max_rows, max_columns, _ = emit.shape
        max_vectors = max_columns // lanes
        vectors = builder.sdiv(builder.add(columns, emit.integer(lanes - 1)), emit.integer(lanes))
        which = builder.add(builder.mul(rows, emit.integer(max_vectors + 1)), vectors)
        done = builder.append_basic_block("tile_done")
        switch = builder.switch(which, done)
        for row_count in range(1, max_rows + 1):
            for vector_count in range(1, max_vectors + 1):
                name = f"gemm_tile_{emit.suffix}_{row_count}x{vector_count}"
                function = _define(_emit_tile(row_count, vector_count), name, emit, 11)
                block = builder.append_basic_block(name)
                switch.add_case(emit.integer(row_count * (max_vectors + 1) + vector_count), block)
                with builder.goto_block(block):
                    builder.call(function, [columns, *others])
                    builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(dtype, *[types.int64] * 12), generate


def _emit_pack(width: int) -> Callable[..., None]:
    def body(
        emit: _Emitter,
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
            with cgutils.for_range(builder, depth, intp=_INT) as loop:
                row = emit.offset(source, loop.index, depth_stride)
                target = emit.offset(panel, loop.index, width * size)
                for v in range(vectors):
                    value = emit.load(emit.offset(row, v, emit.lanes * size), masks[v])
                    emit.store(value, emit.offset(target, v, emit.lanes * size))

        def transpose_squares(count: ir.Value) -> None:
            with cgutils.for_range(builder, count, intp=_INT) as loop:
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
            with cgutils.for_range(builder, builder.sub(depth, first_depth), intp=_INT) as outer:
                k = builder.add(first_depth, outer.index)
                column = emit.offset(source, k, depth_stride)
                target = emit.offset(panel, k, width * size)
                with cgutils.for_range(builder, items, intp=_INT) as inner:
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
            emit = _Emitter(builder, dtype)
            width = width_of(emit.shape)
            function = _define(_emit_pack(width), f"gemm_{name}_{emit.suffix}_{width}", emit, 6)
            builder.call(function, arguments[1:])
            return context.get_dummy_value()

        return types.void(dtype, *[types.int64] * 6), generate

    return pack


_pack_a = _pack_intrinsic(lambda shape: shape.a_width, "pack_a")
_pack_b = _pack_intrinsic(lambda shape: shape.columns, "pack_b")


def _emit_activation(activation: _EmitActivation) -> Callable[..., None]:
    def body(emit: _Emitter, c: Address, c_row: ir.Value, rows: ir.Value, columns: ir.Value) -> None:
        builder, lanes = emit.builder, emit.integer(emit.lanes)
        vectors = builder.sdiv(builder.add(columns, emit.integer(emit.lanes - 1)), lanes)
        with (
            cgutils.for_range(builder, rows, intp=_INT) as row,
            cgutils.for_range(builder, vectors, intp=_INT) as vector,
        ):
            first = builder.mul(vector.index, lanes)
            target = emit.offset(emit.offset(c, row.index, c_row), first, emit.itemsize)
            mask = emit.first_lanes(builder.sub(columns, first))
            emit.store(activation(emit, emit.load(target, mask)), target, mask)

    return body


@intrinsic
def _activate_tile(typingctx: Any, dtype: Any, code: Any, c: Any, c_row: Any, rows: Any, columns: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        emit = _Emitter(builder, dtype)
        done = builder.append_basic_block("activated")
        switch = builder.switch(arguments[1], done)
        for code, (name, (activation, _)) in enumerate(ACTIVATIONS.items()):
            function = _define(_emit_activation(activation), f"gemm_{name}_{emit.suffix}", emit, 4)
            block = builder.append_basic_block(name)
            switch.add_case(emit.integer(code), block)
            with builder.goto_block(block):
                builder.call(function, arguments[2:])
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(dtype, *[types.int64] * 5), generate


def _view(dtype: Any, address: int, shape: tuple[int, int], strides: tuple[int, int]) -> np.ndarray:
    """The elements at an address as an array, for the twins in NumPy."""
    dtype, address = np.dtype(dtype), int(address)
    reach = [(length - 1) * int(stride) for length, stride in zip(shape, strides, strict=True)]
    start = address + sum(min(r, 0) for r in reach)
    buffer = (ctypes.c_char * (sum(abs(r) for r in reach) + dtype.itemsize)).from_address(int(start))
    return np.ndarray(shape, dtype, buffer, address - start, strides)


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
    tile = _view(dtype, c, (rows, columns), (c_row, itemsize))
    a_tile, b_tile = (
        _view(dtype, a, (rows, depth), (a_row, a_depth)),
        _view(dtype, b, (depth, columns), (b_depth, itemsize)),
    )
    product = np.zeros((rows, columns), dtype)
    if bias:
        product += _view(dtype, bias, (1, columns), (0, itemsize))
    for k in range(depth):  # in this order, as in registers: `@` would sum in an order that depends on the tile's shape
        product += a_tile[:, k, None] * b_tile[k]
    tile[...] = tile + product if accumulate else product


def _pack_in_numpy(width_of: Callable[[TileShape], int]) -> Callable[..., None]:
    def pack(dtype: Any, panel: int, source: int, item_stride: int, depth_stride: int, items: int, depth: int) -> None:
        itemsize = np.dtype(dtype).itemsize
        packed = _view(dtype, panel, (depth, items), (width_of(tile_shape(itemsize)) * itemsize, itemsize))
        packed[...] = _view(dtype, source, (depth, items), (depth_stride, item_stride))

    return pack


def _activate_tile_in_numpy(dtype: Any, code: int, c: int, c_row: int, rows: int, columns: int) -> None:
    tile = _view(dtype, c, (rows, columns), (c_row, np.dtype(dtype).itemsize))
    tile[...] = list(ACTIVATIONS.values())[code][1](tile)


if numba.config.DISABLE_JIT:
    multiply_tile, activate_tile = _multiply_tile_in_numpy, _activate_tile_in_numpy
    pack_a = _pack_in_numpy(lambda shape: shape.a_width)
    pack_b = _pack_in_numpy(lambda shape: shape.columns)
else:
    multiply_tile, activate_tile, pack_a, pack_b = _multiply_tile, _activate_tile, _pack_a, _pack_b
