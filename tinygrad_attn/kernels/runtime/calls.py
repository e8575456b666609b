"""Kernels that others call by address, as functions of a library.

What a kernel calls by its name is compiled into it, once more for every caller. For the micro-kernels of the matrix
product that would take most of the time of a first step. A kernel of integers alone (sizes, addresses, strides) can be
compiled once instead. Its address goes to its callers as an argument: it is another one in every process, so compiled
code, which is kept on disk, must not hold it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core.typing.templates import Signature, signature

from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["address_of", "call"]

_in_python: dict[int, Callable[..., None]] = {}  # under NUMBA_DISABLE_JIT=1


def _typing(*kinds: types.Type) -> Signature:
    return signature(types.none, *[types.int64] * len(kinds))


@functools.cache
def address_of(kernel: Any) -> int:
    """The address of a serial kernel that takes int64s and returns nothing, for `call`; compiled by now.

    Without the JIT it is a number that stands for the kernel.
    """
    if numba.config.DISABLE_JIT:
        _in_python[id(kernel)] = kernel
        return id(kernel)
    compiled = kernel.get_compile_result(_typing(*[types.int64] * kernel.py_func.__code__.co_argcount))
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name))


def call(address: int, *arguments: int) -> None:
    """Call, from within a kernel, the one at ``address`` with as many integers as it takes."""
    _in_python[address](*arguments)


@simd.emits(call, _typing)
def _emit_call(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    address, *arguments = arguments
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(builder.inttoptr(address, kind.as_pointer()), arguments)
    return context.get_dummy_value()
