"""Kernels are made when they are first used."""

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from numba.core import errors
from numba.core.registry import CPUDispatcher
from numba.core.types.functions import BaseFunction

from tinygrad_attn.kernels.runtime import jit
from tinygrad_attn.kernels.runtime.addresses import elements_at
from tinygrad_attn.kernels.runtime.calls import address_of
from tinygrad_attn.kernels.runtime.jit import called_kernel, inlined_kernel, kernel_part, serial_kernel

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="kernels are plain functions")

_COUNT = """
from numba.core.dispatcher import Dispatcher
made = []
init = Dispatcher.__init__
def count(self, *arguments, **options):
    made.append(arguments or options)
    init(self, *arguments, **options)
Dispatcher.__init__ = count
import tinygrad_attn as ta
assert made == [], made
ta.tensor([1.0, 2.0]).softmax(-1)
assert made
"""


def test_importing_makes_no_kernel() -> None:
    subprocess.run([sys.executable, "-c", _COUNT], check=True)


def test_a_kernel_is_called_as_numbas_own_dispatcher_after_its_first_call() -> None:
    @serial_kernel
    def double(x):
        """Twice x."""
        return 2.0 * x

    assert (double.__name__, double.__doc__, type(double)) == ("double", "Twice x.", jit._Kernel)
    assert double(3.0) == 6.0
    assert isinstance(double, CPUDispatcher) and type(double).__call__ is CPUDispatcher.__call__
    assert double.signatures == [(numba.float64,)]


@pytest.mark.parametrize(
    ("decorator", "options"),
    [
        (serial_kernel, {}),
        (inlined_kernel, {"forceinline": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}),
        (kernel_part, {"inline": "always"}),
    ],
)
def test_a_kernel_is_compiled_as_njit_would(decorator, options) -> None:
    def function(x):
        return x

    ours, theirs = decorator(function), numba.njit(nogil=True, error_model="numpy", **options)(function)
    assert ours.targetoptions == theirs.targetoptions
    assert ours.py_func is function


def test_a_kernel_that_only_another_calls_is_made_for_it() -> None:
    @kernel_part
    def square(x):
        return x * x

    @inlined_kernel
    def next_of(x):
        return x + 1.0

    @serial_kernel
    def outer(x):
        return next_of(square(x))

    assert outer(3.0) == 10.0
    assert all(kernel.__dict__["_options"] is None for kernel in (square, next_of))  # made


def test_a_first_call_by_many_threads() -> None:
    @serial_kernel
    def total(x):
        return x.sum()

    x = np.arange(10.0)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: total(x), range(64))) == [45.0] * 64


def test_what_a_kernel_has_not_is_named_as_for_any_object() -> None:
    @serial_kernel
    def identity(x):
        return x

    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        identity.nothing_of_the_kind  # noqa: B018


def test_a_kernel_that_was_never_used_can_be_freed() -> None:
    for _ in range(100):
        serial_kernel(lambda x: x)


@pytest.mark.parametrize("decorator", [inlined_kernel, called_kernel])
def test_python_runs_the_function_of_a_kernel_that_others_call(decorator) -> None:
    @decorator
    def double(x):
        return 2.0 * x

    @serial_kernel
    def quadruple(x):
        return double(double(x))

    assert double(1.5) == 3.0
    assert quadruple(1.5) == 6.0
    assert double(1.5) == 3.0


def test_python_may_call_what_is_called_by_address() -> None:
    @serial_kernel
    def fill(target: int, value: int) -> None:
        elements_at(np.empty(0, np.int64), target, 1)[0] = value

    target = np.zeros(1, np.int64)
    assert address_of(fill)
    assert fill.targetoptions["no_cpython_wrapper"]
    fill(target.ctypes.data, 3)
    assert target[0] == 3
    assert len(fill.signatures) == 1


def _machine_code(kernel) -> bytes:
    (compiled,) = kernel.overloads.values()
    return compiled.library._get_compiled_object()


def test_what_only_kernels_call_has_no_machine_code_of_its_own() -> None:
    @called_kernel
    def cube(x):
        return x * x * x

    @serial_kernel
    def outer(x):
        return cube(x) + 1.0

    assert outer(2.0) == 9.0
    (compiled,) = cube.overloads.values()
    assert compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name) == 0
    assert len(_machine_code(cube)) < len(_machine_code(outer))


def test_what_is_changed_while_a_kernel_compiles_is_put_back() -> None:
    before = BaseFunction.get_call_type, errors._termcolor_inst, gc.isenabled()

    @serial_kernel
    def wrong(x):
        return x.nothing_of_the_kind

    for _ in range(2):
        with pytest.raises(errors.TypingError, match="nothing_of_the_kind"):
            wrong(1.0)
        assert (BaseFunction.get_call_type, errors._termcolor_inst, gc.isenabled()) == before
