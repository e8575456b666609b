"""Subnormal numbers count as zero while a kernel runs.

Products of attention weights near 0 and of small gradients often fall below 1.2e-38, the smallest normal float32. The
processor multiplies such *subnormal* numbers in microcode, at a tenth of its speed or less. A kernel that calls
`flush_subnormals` first, and `restore_subnormals` last with what that returned, reads and writes zeros in their place.
The setting is of the thread that the kernel runs on, so each worker makes it for its share.
"""

from __future__ import annotations

import platform
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["flush_subnormals", "restore_subnormals"]

# The bits of the control register: on x86 flush-to-zero (results) and denormals-are-zero (operands), on AArch64 FZ.
_X86_FLUSH = 1 << 15 | 1 << 6
_ARM_FLUSH = 1 << 24
_MACHINE = {"x86_64": "x86", "AMD64": "x86", "aarch64": "arm", "arm64": "arm"}.get(
    platform.machine().replace("ARM", "arm")  # Windows says ARM64
)


def _emit_read(builder: ir.IRBuilder) -> ir.Value:
    """The control register as a 64-bit integer; 0 on machines of which nothing is known."""
    if _MACHINE == "x86":
        slot = cgutils.alloca_once(builder, ir.IntType(32))
        _call(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), slot)
        return builder.zext(builder.load(slot), ir.IntType(64))
    if _MACHINE == "arm":
        return _call(builder, "llvm.aarch64.get.fpcr", ir.IntType(64))
    return ir.Constant(ir.IntType(64), 0)


def _emit_write(builder: ir.IRBuilder, state: ir.Value) -> None:
    if _MACHINE == "x86":
        slot = cgutils.alloca_once(builder, ir.IntType(32))
        builder.store(builder.trunc(state, ir.IntType(32)), slot)
        _call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), slot)
    elif _MACHINE == "arm":
        _call(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), state)


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    arguments = tuple(
        builder.bitcast(argument, ir.IntType(8).as_pointer()) if isinstance(argument.type, ir.PointerType) else argument
        for argument in arguments
    )
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


@intrinsic
def _flush_subnormals(typingctx: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        state = _emit_read(builder)
        flush = {"x86": _X86_FLUSH, "arm": _ARM_FLUSH}.get(_MACHINE or "", 0)
        _emit_write(builder, builder.or_(state, ir.Constant(ir.IntType(64), flush)))
        return state

    return types.int64(), generate


@intrinsic
def _restore_subnormals(typingctx: Any, state: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _emit_write(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _flush_in_python() -> int:
    """NumPy computes with subnormal numbers as they are."""
    return 0


def _restore_in_python(state: int) -> None:
    pass


if numba.config.DISABLE_JIT:
    flush_subnormals, restore_subnormals = _flush_in_python, _restore_in_python
else:
    flush_subnormals, restore_subnormals = _flush_subnormals, _restore_subnormals
