"""What the innermost loops of the matrix product are written in: vectors as values, emitted as LLVM code.

Numba's own loops over arrays do not become vector code here, since LLVM cannot prove that the arrays don't overlap. So
what runs once per multiplication, in `gemm_tile` and `gemm_pack`, is emitted instruction by instruction. It works on
addresses and strides in bytes, so that one compiled version serves every layout of an array. Each such function has a
twin in NumPy that runs under ``NUMBA_DISABLE_JIT=1`` and says in a few lines what the vector code computes.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

__all__ = ["INT", "Address", "Emitter", "TileShape", "define", "tile_shape", "view"]

INT = ir.IntType(64)
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


class Emitter:
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
        return ir.Constant(INT, value)

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
        wide = ir.VectorType(INT, self.lanes)
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


def define(emit_body: Callable[..., None], name: str, emit: Emitter, argument_count: int) -> ir.Function:
    """A function of its own for one tile size: inlined into one body, they would be slow to compile."""
    module = emit.builder.module
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [INT] * argument_count), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    outer, emit.builder = emit.builder, ir.IRBuilder(function.append_basic_block("entry"))
    emit_body(emit, *function.args)
    emit.builder.ret_void()
    emit.builder = outer
    return function


def view(dtype: Any, address: int, shape: tuple[int, int], strides: tuple[int, int]) -> np.ndarray:
    """The elements at an address as an array, for the twins in NumPy."""
    dtype, address = np.dtype(dtype), int(address)
    reach = [(length - 1) * int(stride) for length, stride in zip(shape, strides, strict=True)]
    start = address + sum(min(r, 0) for r in reach)
    buffer = (ctypes.c_char * (sum(abs(r) for r in reach) + dtype.itemsize)).from_address(int(start))
    return np.ndarray(shape, dtype, buffer, address - start, strides)
