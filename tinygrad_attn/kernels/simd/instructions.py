"""LLVM instructions on vectors, emitted one by one: the building blocks of all vector code.

Numba's own loops over arrays do not become vector code, since LLVM cannot prove that the arrays don't overlap. There
are two ways to say what is wanted. `kernels.simd.vectors` gives vectors to kernels written in Python. The micro-kernel
of the matrix product keeps dozens of them in registers, too many to name in Python; it is emitted by the `Emitter`
below, which works on addresses and strides in bytes, so that one compiled version serves every layout of an array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from llvmlite import ir
from numba import types
from numba.core import cgutils

__all__ = [
    "INT",
    "Address",
    "Emitter",
    "call_intrinsic",
    "define",
    "first_lanes",
    "flatten",
    "fold",
    "load",
    "repeat",
    "store",
]

INT = ir.IntType(64)
_INDEX = ir.IntType(32)
Address: TypeAlias = ir.Value  # a 64-bit integer


def _suffix(vector: ir.VectorType) -> str:
    """What LLVM appends to the name of an intrinsic for vectors of this type, such as ``v16f32``."""
    kinds = {ir.FloatType(): "f32", ir.DoubleType(): "f64", ir.IntType(8): "i8"}
    return f"v{vector.count}{kinds[vector.element]}"


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: list[ir.Value]) -> ir.Value:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def call_intrinsic(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> ir.Value:
    """Call the LLVM intrinsic ``name`` on vectors of one type and return a vector of that type."""
    kind = arguments[0].type
    return _call(builder, f"llvm.{name}.{_suffix(kind)}", kind, list(arguments))


def repeat(builder: ir.IRBuilder, vector: ir.VectorType, value: ir.Value) -> ir.Value:
    """``value`` in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(
        first, undefined, ir.Constant(ir.VectorType(_INDEX, vector.count), [0] * vector.count)
    )


def first_lanes(builder: ir.IRBuilder, lanes: int, count: ir.Value) -> ir.Value:
    """The mask of the lanes whose number is less than ``count``, 64 bits wide; none when it is negative."""
    numbers = ir.VectorType(_INDEX, lanes)
    limit = repeat(builder, numbers, builder.trunc(count, _INDEX))
    return builder.icmp_signed("<", ir.Constant(numbers, list(range(lanes))), limit)


def load(
    builder: ir.IRBuilder,
    pointer: ir.Value,
    align: int,
    mask: ir.Value | None = None,
    otherwise: ir.Value | None = None,
) -> ir.Value:
    """The vector at a pointer to one, whose address is a multiple of ``align``.

    With a mask only the lanes where it is True are read, and the others are those of ``otherwise``, or zero.
    """
    if mask is None:
        return builder.load(pointer, align=align)
    vector = pointer.type.pointee
    otherwise = ir.Constant(vector, None) if otherwise is None else otherwise
    arguments = [pointer, ir.Constant(_INDEX, align), mask, otherwise]
    return _call(builder, f"llvm.masked.load.{_suffix(vector)}.p0", vector, arguments)


def store(builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value, align: int, mask: ir.Value | None = None) -> None:
    """Write a vector, with a mask the lanes where it is True."""
    if mask is None:
        builder.store(value, pointer, align=align)
        return
    arguments = [value, pointer, ir.Constant(_INDEX, align), mask]
    _call(builder, f"llvm.masked.store.{_suffix(value.type)}.p0", ir.VoidType(), arguments)


def fold(builder: ir.IRBuilder, vector: ir.Value, combine: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
    """One element from all lanes: the lower half combined with the upper half, until one lane is left."""
    while (half := vector.type.count // 2) >= 1:
        undefined = ir.Constant(vector.type, ir.Undefined)
        kind = ir.VectorType(_INDEX, half)
        low = builder.shuffle_vector(vector, undefined, ir.Constant(kind, list(range(half))))
        high = builder.shuffle_vector(vector, undefined, ir.Constant(kind, list(range(half, 2 * half))))
        vector = combine(low, high)
    return builder.extract_element(vector, ir.Constant(_INDEX, 0))


def prefetch(builder: ir.IRBuilder, pointer: ir.Value, to_write: bool) -> None:
    """Ask for the cache line at a pointer, which need not be valid, to be written or only read soon."""
    pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    arguments = [pointer, *(ir.Constant(_INDEX, value) for value in (int(to_write), 3, 1))]  # keep it, data
    _call(builder, "llvm.prefetch.p0", ir.VoidType(), arguments)


class Emitter:
    """Emits code on vectors of ``lanes`` elements of a dtype (numba's type of it), which lie at addresses."""

    def __init__(self, builder: ir.IRBuilder, dtype: types.DType, lanes: int) -> None:
        self.builder = builder
        self.element = ir.FloatType() if dtype.dtype.bitwidth == 32 else ir.DoubleType()
        self.itemsize = dtype.dtype.bitwidth // 8
        self.lanes = lanes
        self.vector = ir.VectorType(self.element, lanes)
        self.suffix = _suffix(self.vector)
        self.zero = ir.Constant(self.vector, None)

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

    def vector_offset(self, address: Address, index: int) -> Address:
        """The address of the vector number ``index`` from an address on."""
        return self.offset(address, index, self.lanes * self.itemsize)

    def pointer(self, address: Address, target: ir.Type) -> ir.Value:
        return self.builder.inttoptr(address, target.as_pointer())

    def load(self, address: Address, mask: ir.Value | None = None) -> ir.Value:
        return load(self.builder, self.pointer(address, self.vector), 1, mask)

    def store(self, value: ir.Value, address: Address, mask: ir.Value | None = None) -> None:
        store(self.builder, value, self.pointer(address, self.vector), 1, mask)

    def prefetch(self, address: Address, to_write: bool) -> None:
        """See `prefetch`."""
        prefetch(self.builder, self.pointer(address, ir.IntType(8)), to_write)

    def load_broadcast(self, address: Address) -> ir.Value:
        """The element at an address in every lane."""
        return repeat(self.builder, self.vector, self.builder.load(self.pointer(address, self.element), align=1))

    def copy_element(self, source: Address, target: Address) -> None:
        value = self.builder.load(self.pointer(source, self.element), align=1)
        self.builder.store(value, self.pointer(target, self.element), align=1)

    def multiply_add(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        return call_intrinsic(self.builder, "fmuladd", x, y, z)

    def first_lanes(self, count: ir.Value) -> ir.Value:
        return first_lanes(self.builder, self.lanes, count)

    def transpose(self, vectors: list[ir.Value]) -> list[ir.Value]:
        """The transpose of a square of ``lanes`` vectors: log2(lanes) perfect shuffles of its two halves."""
        half, index = self.lanes // 2, ir.VectorType(_INDEX, self.lanes)
        low = ir.Constant(index, [lane // 2 + lane % 2 * self.lanes for lane in range(self.lanes)])
        high = ir.Constant(index, [half + lane // 2 + lane % 2 * self.lanes for lane in range(self.lanes)])
        for _ in range(self.lanes.bit_length() - 1):
            pairs = [(vectors[i], vectors[i + half]) for i in range(half)]
            vectors = [self.builder.shuffle_vector(*pair, mask) for pair in pairs for mask in (low, high)]
        return vectors


def define(emit_body: Callable[..., None], name: str, emit: Emitter, argument_count: int) -> ir.Function:
    """A function of integers that is called, not inlined; defined once in a module, by ``emit_body(emit, *arguments)``.

    What is large and called from several places would be slow to compile inlined.
    """
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


def flatten(builder: ir.IRBuilder, arguments: Any) -> list[ir.Value]:
    """Integers and structs of integers, as kernels pass them, as one list of integers."""
    values: list[ir.Value] = []
    for argument in arguments:
        values += [argument] if isinstance(argument.type, ir.IntType) else cgutils.unpack_tuple(builder, argument)
    return values
