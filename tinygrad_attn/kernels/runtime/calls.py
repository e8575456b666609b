"""Kernels that others call by address, as functions of a library.

What a kernel calls by its name is compiled into it, once more for every caller. For the micro-kernels of the matrix
product that would take most of the time of a first step. A kernel that takes integers (sizes, addresses, strides) and
structs of them can be compiled once instead, and its address given to its callers as an argument. An address differs
from process to process, so compiled code, which is kept on disk, must not hold it.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core.typing.templates import Signature, signature

from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["address_of", "call", "compiled_address"]

_in_python: dict[int, Callable[..., None]] = {}  # under NUMBA_DISABLE_JIT=1


def _type_of_parameter(annotation: type) -> types.Type:
    """int64 for ``int``; for a NamedTuple of ints, as many int64s."""
    if annotation is int:
        return types.int64
    return types.NamedUniTuple(types.int64, len(annotation._fields), annotation)  # type: ignore[attr-defined]


@functools.cache
def address_of(kernel: Any) -> int:
    """The address of a serial kernel, for `call`; it is compiled when this returns.

    A parameter of the kernel is annotated as a NamedTuple of ints if it is one; the others are ints. It returns
    nothing. Without the JIT the address is a number that stands for the kernel.
    """
    if numba.config.DISABLE_JIT:
        _in_python[id(kernel)] = kernel
        return id(kernel)
    return address_for(kernel)


def compiled_address(kernel: Any) -> int:
    """See `address_of`; found or compiled at every call."""
    kernel = kernel.by_address()
    annotations = typing.get_type_hints(kernel.py_func)
    kinds = [_type_of_parameter(annotations.get(name, int)) for name in inspect.signature(kernel.py_func).parameters]
    compiled = kernel.get_compile_result(signature(types.none, *kinds))
    address = int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name))
    if not address:
        raise TypeError(f"address_of: {kernel.py_func.__name__} has no address; make it a serial_kernel")
    return address


# What `address_of` calls; `runtime.ahead` puts another in its place, in processes that do not compute.
address_for = compiled_address


def call(address: int, *arguments: Any) -> None:
    """Call, from within a kernel, the one at ``address`` with the integers and structs of integers that it takes."""
    _in_python[address](*arguments)


def _typing(*kinds: types.Type) -> Signature:
    return signature(types.none, *[kind if isinstance(kind, types.NamedUniTuple) else types.int64 for kind in kinds])


@simd.emits(call, _typing)
def _emit_call(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    address, *arguments = arguments
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(builder.inttoptr(address, kind.as_pointer()), arguments)
    return context.get_dummy_value()
