"""Vectors of numbers inside kernels: sixteen ``float32`` or eight ``float64`` that one instruction works on.

LLVM leaves a plain loop scalar where it cannot prove that two arrays don't overlap, where a sum's order would change,
and wherever ``exp`` is called. A kernel that must run at the machine's speed therefore says what it wants::

    step = lanes(x)
    for i in range(0, whole, step):
        store(y, i, exp(load(x, i) - top))
    store_part(y, whole, rest, exp(load_part(x, whole, rest, 0.0) - top))

Vectors support ``+ - * /``, negation and comparisons with each other and with scalars; a comparison gives a vector of
booleans for `select`. Arrays are one-dimensional and contiguous, and offsets are not checked.

Each primitive is a Python function on small NumPy arrays, which is what runs under ``NUMBA_DISABLE_JIT=1``, followed by
the LLVM instructions that numba emits for it. The instructions are portable; LLVM splits a vector on a machine whose
registers are narrower than 512 bits.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import PrimitiveModel
from numba.core.typing.templates import AbstractTemplate, Signature, infer_global, signature
from numba.extending import lower_builtin, lower_cast, register_model

from tinygrad_attn.kernels.simd import instructions

__all__ = [
    "Vector",
    "copysign",
    "elementwise",
    "emits",
    "fma",
    "lanes",
    "load",
    "load_mask",
    "load_mask_part",
    "load_part",
    "mask_of",
    "maximum",
    "prefetch",
    "reduce_max",
    "reduce_sum",
    "select",
    "splat",
    "sqrt",
    "store",
    "store_part",
    "widen",
]

_BYTES = 64  # of a vector, on every machine: an AVX-512 register


# --- The type ---------------------------------------------------------------------------------------------------------


class Vector(types.Type):
    """numba's type of a vector: ``lanes`` elements, each ``float32``, ``float64`` or ``boolean``."""

    def __init__(self, element: types.Type, lanes: int) -> None:
        self.element = element
        self.lanes = lanes
        super().__init__(name=f"Vector({element} x {lanes})")


@register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(_element_type(vector.element), vector.lanes))


def _element_type(element: types.Type) -> ir.Type:
    return {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.boolean: ir.IntType(1)}[element]


def _vector_of(kind: Any) -> Vector:
    """The vector type that goes with an array's or a vector's type."""
    if isinstance(kind, Vector):
        return kind
    return Vector(kind.dtype, _BYTES * 8 // kind.dtype.bitwidth)


def mask_of(kind: types.Type) -> Vector:
    """The type of a mask for an array's or a vector's type."""
    return Vector(types.boolean, _vector_of(kind).lanes)


@lower_cast(types.Number, Vector)
def _scalar_to_vector(
    context: Any, builder: ir.IRBuilder, number: types.Type, vector: Vector, value: ir.Value
) -> ir.Value:
    scalar = context.cast(builder, value, number, vector.element)
    return instructions.repeat(builder, context.get_value_type(vector), scalar)


Emit = Callable[..., ir.Value]  # (context, builder, signature, arguments) -> value


def emits(
    function: Callable[..., Any],
    typing: Callable[..., Signature | None],
    takes: tuple[Any, ...] = (types.VarArg(types.Any),),
) -> Callable[[Emit], Emit]:
    """Register what numba emits for a call of ``function`` with arguments of the kinds ``takes``.

    ``typing`` maps the types of a call's arguments to those that the emitter gets and returns, or to None.
    """

    @infer_global(function)
    class Template(AbstractTemplate):
        def generic(self, arguments: tuple[types.Type, ...], keywords: dict[str, types.Type]) -> Signature | None:
            return None if keywords else typing(*arguments)

    return lower_builtin(function, *takes)


# --- Memory -----------------------------------------------------------------------------------------------------------


def lanes(array: Any) -> int:
    """How many elements of ``array`` (or of a vector) one vector holds: 16 for ``float32``, 8 for ``float64``."""
    return _BYTES // array.itemsize


@emits(lanes, lambda array: signature(types.intp, array))
def _emit_lanes(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    return ir.Constant(instructions.INT, _vector_of(sig.args[0]).lanes)


def load(array: Any, offset: int) -> Any:
    """The vector at ``array[offset : offset + lanes]``."""
    return array[offset : offset + lanes(array)].copy()


@emits(load, lambda array, offset: signature(_vector_of(array), array, types.intp))
def _emit_load(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    return instructions.load(builder, _pointer(context, builder, sig.args[0], *arguments), _itemsize(sig.args[0]))


def store(array: Any, offset: int, vector: Any) -> None:
    """Write ``vector`` to ``array[offset : offset + lanes]``."""
    array[offset : offset + lanes(array)] = vector


@emits(store, lambda array, offset, vector: signature(types.none, array, types.intp, _vector_of(array)))
def _emit_store(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    array, offset, vector = arguments
    pointer = _pointer(context, builder, sig.args[0], array, offset)
    instructions.store(builder, vector, pointer, _itemsize(sig.args[0]))
    return context.get_dummy_value()


def prefetch(array: Any, offset: int) -> None:
    """Ask for the cache line of ``array[offset]``, which need not exist, to be read or written soon."""


@emits(prefetch, lambda array, offset: signature(types.none, array, types.intp))
def _emit_prefetch(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    instructions.prefetch(builder, _pointer(context, builder, sig.args[0], *arguments), to_write=True)
    return context.get_dummy_value()


def load_part(array: Any, offset: int, count: int, fill: float) -> Any:
    """The ``count`` elements from ``array[offset]``, fewer than a vector's, followed by ``fill``."""
    vector = np.full(lanes(array), fill, array.dtype)
    vector[:count] = array[offset : offset + count]
    return vector


@emits(
    load_part,
    lambda array, offset, count, fill: signature(_vector_of(array), array, types.intp, types.intp, _vector_of(array)),
)
def _emit_load_part(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    array, offset, count, fill = arguments
    pointer = _pointer(context, builder, sig.args[0], array, offset)
    mask = instructions.first_lanes(builder, fill.type.count, count)
    return instructions.load(builder, pointer, _itemsize(sig.args[0]), mask, fill)


def store_part(array: Any, offset: int, count: int, vector: Any) -> None:
    """Write the first ``count`` elements of ``vector`` to ``array[offset : offset + count]``."""
    array[offset : offset + count] = vector[:count]


@emits(
    store_part,
    lambda array, offset, count, vector: signature(types.none, array, types.intp, types.intp, _vector_of(array)),
)
def _emit_store_part(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    array, offset, count, vector = arguments
    pointer = _pointer(context, builder, sig.args[0], array, offset)
    mask = instructions.first_lanes(builder, vector.type.count, count)
    instructions.store(builder, vector, pointer, _itemsize(sig.args[0]), mask)
    return context.get_dummy_value()


def load_mask(mask: Any, offset: int, like: Any) -> Any:
    """The booleans at ``mask[offset]`` and after, as many as the vector ``like`` holds."""
    return mask[offset : offset + like.size].copy()


@emits(load_mask, lambda mask, offset, like: signature(mask_of(like), mask, types.intp, like))
def _emit_load_mask(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    mask, offset, like = arguments
    bytes_type = ir.VectorType(ir.IntType(8), like.type.count)
    value = instructions.load(builder, _pointer(context, builder, sig.args[0], mask, offset, bytes_type), 1)
    return builder.icmp_unsigned("!=", value, ir.Constant(bytes_type, None))


def load_mask_part(mask: Any, offset: int, count: int, like: Any) -> Any:
    """The ``count`` booleans from ``mask[offset]``, followed by False up to the size of ``like``."""
    vector = np.zeros(like.size, np.bool_)
    vector[:count] = mask[offset : offset + count]
    return vector


@emits(load_mask_part, lambda mask, offset, count, like: signature(mask_of(like), mask, types.intp, types.intp, like))
def _emit_load_mask_part(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    mask, offset, count, like = arguments
    bytes_type = ir.VectorType(ir.IntType(8), like.type.count)
    pointer = _pointer(context, builder, sig.args[0], mask, offset, bytes_type)
    value = instructions.load(builder, pointer, 1, instructions.first_lanes(builder, like.type.count, count))
    return builder.icmp_unsigned("!=", value, ir.Constant(bytes_type, None))


def _itemsize(kind: types.Array) -> int:
    return kind.dtype.bitwidth // 8


def _pointer(
    context: Any,
    builder: ir.IRBuilder,
    kind: types.Array,
    array: ir.Value,
    offset: ir.Value,
    vector: ir.VectorType | None = None,
) -> ir.Value:
    data = context.make_array(kind)(context, builder, array).data
    target = vector or context.get_value_type(_vector_of(kind))
    return builder.bitcast(builder.gep(data, [offset]), target.as_pointer())


# --- Arithmetic -------------------------------------------------------------------------------------------------------


def _numbers(*kinds: types.Type) -> Vector | None:
    """The one vector type among the operands, the others being of that type or scalars."""
    vectors = {kind for kind in kinds if isinstance(kind, Vector)}
    scalars = [kind for kind in kinds if not isinstance(kind, Vector)]
    return vectors.pop() if len(vectors) == 1 and all(isinstance(kind, types.Number) for kind in scalars) else None


def elementwise(*kinds: types.Type) -> Signature | None:
    """The typing of a function of vectors of one type, or scalars among them, to a vector of that type."""
    vector = _numbers(*kinds)
    return signature(vector, *[vector] * len(kinds)) if vector else None


def _comparison(left: types.Type, right: types.Type) -> Signature | None:
    vector = _numbers(left, right)
    return signature(mask_of(vector), vector, vector) if vector else None


def _define_operators() -> None:
    instructions = {operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv"}
    for function, instruction in instructions.items():

        @emits(function, lambda *kinds: elementwise(*kinds) if len(kinds) == 2 else None, (Vector, Vector))
        def emit_arithmetic(
            context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any, name: str = instruction
        ) -> ir.Value:
            return getattr(builder, name)(*arguments)

    signs = {operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "=="}
    for function, sign in signs.items():

        @emits(function, _comparison, (Vector, Vector))
        def emit_comparison(
            context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any, name: str = sign
        ) -> ir.Value:
            return builder.fcmp_ordered(name, *arguments)

    @emits(operator.neg, elementwise, (Vector,))
    def emit_negation(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
        return builder.fneg(*arguments)


_define_operators()


def splat(like: Any, value: float) -> Any:
    """A vector of ``value`` in every lane, of the type that goes with the array or vector ``like``."""
    return np.full(lanes(like), value, like.dtype)


@emits(splat, lambda like, value: signature(_vector_of(like), like, _vector_of(like)))
def _emit_splat(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    return arguments[1]


def fma(x: Any, y: Any, z: Any) -> Any:
    """``x * y + z``, rounded once on a machine with fused multiply-add."""
    return x * y + z


@emits(fma, elementwise)
def _emit_fma(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    return instructions.call_intrinsic(builder, "fmuladd", *arguments)


def sqrt(x: Any) -> Any:
    """The square root of each lane."""
    return np.sqrt(x)


@emits(sqrt, elementwise)
def _emit_sqrt(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    return instructions.call_intrinsic(builder, "sqrt", *arguments)


def widen(x: Any) -> Any:
    """The same lanes as ``float64``."""
    return x.astype(np.float64)


@emits(widen, lambda x: signature(Vector(types.float64, x.lanes), x))
def _emit_widen(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    (x,) = arguments
    return x if x.type.element == ir.DoubleType() else builder.fpext(x, ir.VectorType(ir.DoubleType(), x.type.count))


def copysign(size: Any, sign: Any) -> Any:
    """Each lane of ``size`` with the sign of ``sign``."""
    return np.copysign(size, sign)


@emits(copysign, elementwise)
def _emit_copysign(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    return instructions.call_intrinsic(builder, "copysign", *arguments)


def maximum(x: Any, y: Any) -> Any:
    """The larger of each lane, and ``y`` where either is NaN."""
    return np.where(x > y, x, y)


@emits(maximum, elementwise)
def _emit_maximum(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    x, y = arguments
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


def select(mask: Any, x: Any, y: Any) -> Any:
    """``x`` where ``mask``, elsewhere ``y``; one of them may be a scalar."""
    return np.where(mask, x, y)


@emits(select, lambda mask, x, y: signature(_numbers(x, y), mask, _numbers(x, y), _numbers(x, y)))
def _emit_select(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    return builder.select(*arguments)


def reduce_sum(x: Any) -> Any:
    """The sum of the lanes, halves added to halves."""
    while x.size > 1:
        x = x[: x.size // 2] + x[x.size // 2 :]
    return x[0]


@emits(reduce_sum, lambda x: signature(x.element, x))
def _emit_reduce_sum(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    return instructions.fold(builder, arguments[0], builder.fadd)


def reduce_max(x: Any) -> Any:
    """The largest of the lanes; which one where some are NaN is not defined."""
    return x.max()


@emits(reduce_max, lambda x: signature(x.element, x))
def _emit_reduce_max(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    return instructions.fold(builder, arguments[0], lambda x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))
