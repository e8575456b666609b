"""The tiles of AMX: whether a process may use them, and the product of two panels of parts on them."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_attn.kernels.gemm.parts import PANEL_STEP, PART, TILE
from tinygrad_attn.kernels.simd.instructions import INT, Address, Emitter, define
from tinygrad_attn.kernels.simd.registers import has_tiles

__all__ = ["begin_tiles", "end_tiles", "multiply_tiles", "tiles_are_there"]

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18  # of Linux on x86-64


@functools.cache
def tiles_are_there() -> bool:
    """Whether numba compiles for a processor with tiles of bfloat16, and the system lets this process use them."""
    if numba.config.DISABLE_JIT or sys.platform != "linux" or platform.machine() != "x86_64" or not has_tiles():
        return False
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0  # type: ignore[no-any-return]


# --- Emitted ----------------------------------------------------------------------------------------------------------


def _call(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


def _number(tile: int) -> ir.Constant:
    return ir.Constant(ir.IntType(8), tile)


@intrinsic
def begin_tiles(typingctx: Any, memory: Any) -> Any:
    """Eight tiles of 16 rows of 64 bytes from now on; at ``memory`` 64 bytes are written."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        settings = [1, *[0] * 15, *[64, 0] * 8, *[0] * 16, *[16] * 8, *[0] * 8]
        bytes_ = ir.ArrayType(ir.IntType(8), 64)
        builder.store(ir.Constant(bytes_, settings), builder.inttoptr(arguments[0], bytes_.as_pointer()))
        _call(builder, "ldtilecfg", builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def end_tiles(typingctx: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


# The tiles: 0 to 3 hold sums of C, 4 and 5 parts of A, 6 and 7 of B. In which order parts meet, so that each time only
# one side is loaded anew; the numbers are those of the parts.
_SMALL_TERMS = ((0, 2), (0, 1), (1, 1), (1, 0), (2, 0))
_LARGE_TERMS = ((0, 0),)


def _emit_multiply(
    emit: Emitter, a: Address, b: Address, steps: ir.Value, square: Address, square_row: ir.Value
) -> None:
    builder = emit.builder
    for tile in range(4):
        _call(builder, "tilezero", _number(tile))
    for terms in (_SMALL_TERMS, _LARGE_TERMS):
        with cgutils.for_range(builder, steps, intp=INT) as step:
            a_step, b_step = (emit.offset(side, step.index, PANEL_STEP) for side in (a, b))
            before: tuple[int | None, int | None] = None, None
            for part in terms:
                for side, address, tile in ((0, a_step, 4), (1, b_step, 6)):
                    if part[side] != before[side]:
                        for half in range(2):
                            place = emit.offset(address, 1, part[side] * PART + half * TILE)
                            pointer = emit.pointer(place, ir.IntType(8))
                            _call(builder, "tileloadd64", _number(tile + half), pointer, emit.integer(64))
                for tile in range(4):
                    _call(builder, "tdpbf16ps", _number(tile), _number(4 + tile // 2), _number(6 + tile % 2))
                before = part
    for tile in range(4):
        place = emit.offset(emit.offset(square, tile // 2 * 16, square_row), 1, tile % 2 * 64)
        _call(builder, "tilestored64", _number(tile), emit.pointer(place, ir.IntType(8)), square_row)


@intrinsic
def multiply_tiles(typingctx: Any, a: Any, b: Any, steps: Any, square: Any, square_row: Any) -> Any:
    """Write the product of two panels of so many steps to a square, whose rows begin every so many bytes."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        emit = Emitter(builder, types.DType(types.float32), 16)
        builder.call(define(_emit_multiply, "multiply_tiles", emit, 5), arguments)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64, types.int64), generate
