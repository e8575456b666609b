"""After a fork: kernels go on, on one thread.

A forked process (``os.fork``, ``multiprocessing`` as data loaders use it on Linux) has none of its parent's threads.
GNU's OpenMP, which numba's pool may be made of, would wait for them for ever, so numba ends such a process. Compiled
kernels reach the pool through one function, ``numba_parallel_for``. Here it gets a switch in front: in a child whose
parent had begun the pool, the whole loop runs on the calling thread. The bits are the same for any number of threads.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

__all__ = ["in_forked_child", "start_pool"]

_SYMBOL = "numba_parallel_for"

_alone = ctypes.c_int64(0)  # whether parallel loops run on the calling thread; compiled code reads it
_kept: list[Any] = []  # the switch's machine code


def in_forked_child() -> bool:
    """Whether this process was forked from one that had begun the pool, so that kernels run on one thread."""
    return bool(_alone.value)


def start_pool() -> None:
    """Start numba's pool, which it does itself at its first parallel kernel, and set the switch before it."""
    from numba.np.ufunc import parallel

    parallel._launch_threads()
    if not _kept:
        llvm.add_symbol(_SYMBOL, _make_switch(llvm.address_of_symbol(_SYMBOL)))


def _after_fork() -> None:
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    if parallel is not None and getattr(parallel, "_is_initialized", False):
        _alone.value = 1


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)


def _make_switch(parallel_for: int) -> int:
    """The address of a function that calls ``parallel_for`` or, while ``_alone``, the loop's body itself.

    In C: ``parallel_for(body, arguments, sizes, steps, data, axes, arrays, threads)``, where ``body(arguments, sizes,
    steps, data)`` does as many parts of the loop as ``sizes[0]`` says.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    word, nothing = ir.IntType(64), ir.VoidType()
    whole = ir.FunctionType(nothing, [word] * 7 + [ir.IntType(32)])
    part = ir.FunctionType(nothing, [word] * 4)
    module = ir.Module()
    module.triple = llvm.get_process_triple()
    switch = ir.Function(module, whole, "tinygrad_attn_parallel_for")
    builder = ir.IRBuilder(switch.append_basic_block())
    flag = builder.inttoptr(ir.Constant(word, ctypes.addressof(_alone)), word.as_pointer())
    alone = builder.icmp_signed("!=", builder.load(flag), ir.Constant(word, 0))
    with builder.if_else(alone) as (then, otherwise):
        with then:
            builder.call(builder.inttoptr(switch.args[0], part.as_pointer()), switch.args[1:5])
        with otherwise:
            builder.call(builder.inttoptr(ir.Constant(word, parallel_for), whole.as_pointer()), switch.args)
    builder.ret_void()
    machine = llvm.Target.from_triple(module.triple).create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    _kept.append(engine)
    return int(engine.get_function_address(switch.name))
