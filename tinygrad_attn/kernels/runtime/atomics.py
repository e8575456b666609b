"""Words of memory that several threads read and write: whole, in an order that all of them agree on.

A word is an int64 at an address. `load`, `store`, `add` and `exchange_if` are sequentially consistent (Lamport, "How to
make a multiprocessor computer that correctly executes multiprocess programs", 1979). Under ``NUMBA_DISABLE_JIT=1`` they
run as Python, on one thread.
"""

from __future__ import annotations

import ctypes
import platform
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["add", "exchange_if", "load", "pause", "store"]

_WORD = ir.IntType(64)
_ORDER = "seq_cst"

_YIELD = 1  # the number of AArch64's hint that a loop is waiting
_MACHINE = platform.machine().lower()


def _pointer(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    return builder.inttoptr(address, _WORD.as_pointer())


@intrinsic
def _load(typingctx: Any, address: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_pointer(builder, arguments[0]), _ORDER, 8)

    return types.int64(types.int64), generate


@intrinsic
def _store(typingctx: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[1], _pointer(builder, arguments[0]), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _add(typingctx: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _pointer(builder, arguments[0]), arguments[1], _ORDER)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def _exchange_if(typingctx: Any, address: Any, expected: Any, value: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        found = builder.cmpxchg(_pointer(builder, arguments[0]), arguments[1], arguments[2], _ORDER, _ORDER)
        return builder.extract_value(found, 1)

    return types.boolean(types.int64, types.int64, types.int64), generate


@intrinsic
def _pause(typingctx: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        nothing, kind = ir.VoidType(), ir.IntType(32)
        if _MACHINE in ("x86_64", "amd64"):
            pause = ir.FunctionType(nothing, [])
            builder.call(cgutils.get_or_insert_function(builder.module, pause, "llvm.x86.sse2.pause"), [])
        elif _MACHINE in ("aarch64", "arm64"):
            hint = ir.FunctionType(nothing, [kind])
            function = cgutils.get_or_insert_function(builder.module, hint, "llvm.aarch64.hint")
            builder.call(function, [ir.Constant(kind, _YIELD)])
        return context.get_dummy_value()

    return types.void(), generate


def _word(address: int) -> Any:
    return ctypes.c_int64.from_address(int(address))


def _load_in_python(address: int) -> int:
    return int(_word(address).value)


def _store_in_python(address: int, value: int) -> None:
    _word(address).value = value


def _add_in_python(address: int, value: int) -> int:
    before = _load_in_python(address)
    _store_in_python(address, before + value)
    return before


def _exchange_if_in_python(address: int, expected: int, value: int) -> bool:
    if _load_in_python(address) != expected:
        return False
    _store_in_python(address, value)
    return True


def _pause_in_python() -> None:
    pass


# load(address): the word. store(address, value). add(address, value): the word before. exchange_if(address, expected,
# value): write the value if the word is as expected, and whether it was. pause(): called in each turn of a loop that
# waits for a word to change.
if numba.config.DISABLE_JIT:
    load, store, add = _load_in_python, _store_in_python, _add_in_python
    exchange_if, pause = _exchange_if_in_python, _pause_in_python
else:
    load, store, add, exchange_if, pause = _load, _store, _add, _exchange_if, _pause
