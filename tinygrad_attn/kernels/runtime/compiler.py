"""numba's compiler without what no kernel needs: the machine code is the same, and made in two thirds of the time.

- Passes are left out that look for what kernels do not contain: ``with``, closures, expressions of whole arrays.
- A kernel that only others call becomes part of theirs, so it gets no machine code of its own.
- How numba types a call of one of its own functions, an addition for example, is remembered: it tries all the ways that
  an addition can be meant, and for each that does not fit it writes an error message, in colours.
- Python's collector of cyclic garbage waits until the kernel is compiled: it finds next to nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import llvmlite.binding as llvm
from numba.core import errors, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.typed_passes import InlineOverloads, NativeLowering, NopythonRewrites
from numba.core.types.functions import BaseFunction
from numba.core.untyped_passes import (
    FindLiterallyCalls,
    InlineClosureLikes,
    LiteralUnroll,
    MakeFunctionToJitFunction,
    WithLifting,
)

from tinygrad_attn.contexts import context, undone_by

__all__ = ["KernelCompiler", "compiling"]

_UNNEEDED = {
    FindLiterallyCalls,
    InlineClosureLikes,
    InlineOverloads,
    LiteralUnroll,
    MakeFunctionToJitFunction,
    NopythonRewrites,
    WithLifting,
}


class _Code(JITCodeLibrary):
    """The code of a kernel. Functions that it only declares are not optimised: there is nothing, and it takes time."""

    _final_module: Any

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout
        for function in ll_module.functions:
            if not function.is_declaration:
                passes, builder = self._codegen._function_pass_manager()
                with self._recorded_timings.record(f"Function passes on {function.name!r}", builder):
                    passes.run(function, builder)


class _CodeForOthers(_Code):
    """The code of a kernel that only others call: they link it, and it is never run by itself."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True  # optimised, as numba wants it before it is linked
        self._get_module_for_linking()
        self._finalized = False
        # What is left for machine code: the variables in which numba notes each kernel's constants.
        kept = (str(variable) for variable in self._final_module.global_variables if "NumbaEnv" in variable.name)
        self._final_module = llvm.parse_assembly("\n".join([str(self._codegen._create_empty_module(self.name)), *kept]))
        super()._finalize_final_module()


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    _name = "kernel_lowering"

    def run_pass(self, state: Any) -> bool:
        if state.library is None:
            called = state.flags.no_cpython_wrapper and state.flags.no_cfunc_wrapper
            code = _CodeForOthers if called else _Code
            state.library = code(state.targetctx.codegen(), state.func_id.func_qualname)
            state.library.enable_object_caching()
        return super().run_pass(state)  # type: ignore[no-any-return]


class KernelCompiler(CompilerBase):
    """The passes from Python to machine code."""

    def define_pipelines(self) -> list[PassManager]:
        """Those of numba that a kernel needs, in numba's order."""
        passes = PassManager("kernel")
        for stage, description in DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
            if stage not in _UNNEEDED:
                passes.add_pass(_Lowering if stage is NativeLowering else stage, description)
        passes.finalize()
        return [passes]


class _Plain:
    """numba's colours of messages, without colours."""

    def __getattr__(self, name: str) -> Any:
        return str


# What global_compiler_lock consists of. Its own methods may be interrupted when they have taken it.
_numbas_lock: Any = global_compiler_lock._lock

# numba's own, and where they stand; `compiling` exchanges them.
_functions: Any = BaseFunction
_messages: Any = errors
_get_call_type: Any = BaseFunction.get_call_type
_colours: Any = _messages._termcolor_inst

_call_types: dict[Any, Any] = {}


def _remembered_call_type(function: Any, context: Any, arguments: Any, keywords: Any) -> Any:
    kind: type = type(function)
    if kind is not types.Function or keywords:
        return _get_call_type(function, context, arguments, keywords)
    key = function, arguments
    found = _call_types.get(key)
    if found is None or found.args not in function._impl_keys:
        found = _call_types[key] = _get_call_type(function, context, arguments, keywords)
    return found


@context
def compiling() -> Iterator[None]:
    """Inside, this thread alone compiles, and numba neither collects garbage nor formats what it does not show."""
    owned = _numbas_lock._is_owned()
    if owned and _functions.get_call_type is _remembered_call_type:  # a kernel that another calls
        yield
        return
    collecting: list[bool] = []

    def restore() -> None:
        if not (owned or _numbas_lock._is_owned()):
            return
        _functions.get_call_type, _messages._termcolor_inst = _get_call_type, _colours
        if any(collecting):
            gc.enable()
        if not owned:
            _numbas_lock.release()

    with undone_by(restore):
        if not owned:
            _numbas_lock.acquire()
        collecting.append(gc.isenabled())
        gc.disable()
        _functions.get_call_type, _messages._termcolor_inst = _remembered_call_type, _Plain()
        yield
