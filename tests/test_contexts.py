"""Contexts: as blocks and decorators, in several threads, out of order, and interrupted at every instruction."""

import asyncio
import contextlib
import gc
import inspect
import itertools
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from interrupts import contexts_of, interrupted_everywhere
from numba.core.compiler_lock import global_compiler_lock
from threads import in_threads

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.atomic import atomic_path, leftovers
from tinygrad_attn.contexts import _OfGenerator, context, undone_by
from tinygrad_attn.kernels.gemm.cache import keeping
from tinygrad_attn.kernels.runtime import compiler, locks
from tinygrad_attn.modes import Observer, at_step, current_modes, in_module, observe
from tinygrad_attn.nn.evaluating import evaluating
from tinygrad_attn.record import record
from tinygrad_attn.rule import _shared, rules_of_a_node

MODEL = nn.MultiheadAttention(2, 1)
FOLDER = tempfile.TemporaryDirectory()
CONTEXTS = {
    "no_grad": ta.no_grad,
    "enable_grad": lambda: ta.enable_grad(),
    "set_grad_enabled": lambda: ta.set_grad_enabled(False),
    "unfused": ta.unfused,
    "detect_anomaly": ta.detect_anomaly,
    "record": record,
    "observe": lambda: observe(Observer()),
    "in_module": lambda: in_module(MODEL),
    "at_step": lambda: at_step(3),
    "frozen_weights": lambda: nn.frozen_weights(MODEL),
    "record_attention_weights": lambda: nn.record_attention_weights(MODEL),
    "rules_of_a_node": rules_of_a_node,
    "evaluating": lambda: evaluating(MODEL),
    "atomic_path": lambda: atomic_path(Path(FOLDER.name, "file")),
    "undone_by": lambda: undone_by(lambda: None),
    "compiling": compiler.compiling,
    "locked": lambda: locks.locked(FOLDER.name, "kernel", None),
    "_OfGenerator": lambda: _OfGenerator(lambda: (None for _ in range(1)), (), {}),
}


def everything():
    state = current_modes()
    modes = (state.grad, state.unfused, state.observers, state.modules, state.steps)
    return (
        *modes,
        keeping.kept,
        _shared.results(),
        MODEL.recorded_weights,
        MODEL.training,
        leftovers(Path(FOLDER.name)),
        gc.isenabled(),
        compiler._functions.get_call_type,
        set(locks._held),
        global_compiler_lock.is_locked(),
    )


def modes_of(engine):
    """The decorators and the question whether gradients are recorded, of ours or of PyTorch."""
    return engine.no_grad, engine.enable_grad, engine.set_grad_enabled, engine.is_grad_enabled


def test_every_context_of_the_package_is_interrupted():
    assert contexts_of(ta) <= set(CONTEXTS)


LONG = ("record", "atomic_path", "frozen_weights", "set_grad_enabled")  # of so many instructions


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in CONTEXTS])
def test_an_interrupt_anywhere_leaves_everything_as_it_was(name):
    make = CONTEXTS[name]

    def block():
        with make():
            len("")

    before = everything()
    interrupts = 0
    for interrupt in interrupted_everywhere(block):
        assert everything() == before, inspect.getinnerframes(interrupt.__traceback__)[-1]
        interrupts += 1
    assert interrupts > 20


def test_an_interrupt_anywhere_frees_the_lock_for_other_processes():
    def block():
        with locks.locked(FOLDER.name, "kernel", None):
            len("")

    for _ in interrupted_everywhere(block):
        pass
    ask = (
        "import sys; from tinygrad_attn.kernels.runtime.locks import is_locked; print(is_locked(sys.argv[1], 'kernel'))"
    )

    def answer():
        return subprocess.run([sys.executable, "-c", ask, FOLDER.name], capture_output=True, text=True).stdout.strip()

    with locks.locked(FOLDER.name, "kernel", None):
        assert answer() == str(locks.fcntl is not None)
    assert answer() == "False"


@pytest.mark.parametrize("make", [ta.no_grad, lambda: evaluating(MODEL), lambda: nn.frozen_weights(MODEL)])
def test_a_suspended_generator_that_the_collector_finds_undoes_its_changes(make, monkeypatch):
    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    before = everything()

    def body():
        with make():
            yield

    class Holder:
        pass

    holder = Holder()
    holder.generator, holder.itself = body(), holder
    next(holder.generator)
    assert everything() != before
    del holder
    gc.collect()
    assert everything() == before and not complaints


def test_an_interrupted_backward_leaves_gradients_on():
    w = ta.ones(2, requires_grad=True)
    for _ in interrupted_everywhere(lambda: w.sum().backward(), delivered=True):
        assert ta.is_grad_enabled()


def test_an_interrupted_op_leaves_the_warnings_of_numpy_on():
    w = ta.ones(2, requires_grad=True)
    before = np.geterr()
    for compute in (lambda: w / 0.0, lambda: w.exp().sum().backward()):
        for _ in interrupted_everywhere(compute, delivered=True):
            assert np.geterr() == before


@pytest.mark.parametrize("name", ["torch", "tinygrad_attn"])
@pytest.mark.parametrize("bare", [False, True])
def test_a_generator_runs_inside_the_mode_and_waits_outside(name, bare):
    engine = pytest.importorskip(name)

    def body(start):
        heard = [start, engine.is_grad_enabled()]
        for item in range(3):
            try:
                heard.append((yield item, engine.is_grad_enabled()))
            except ValueError:
                heard.append(engine.is_grad_enabled())
        return heard

    made = (engine.no_grad if bare else engine.no_grad())(body)
    assert inspect.isgeneratorfunction(made) and made.__name__ == "body"
    generator = made("began")
    assert next(generator) == (0, False) and engine.is_grad_enabled()
    assert generator.send("sent") == (1, False) and engine.is_grad_enabled()
    assert generator.throw(ValueError) == (2, False) and engine.is_grad_enabled()
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert end.value.value == ["began", False, "sent", False, None] and engine.is_grad_enabled()


def test_a_generator_is_closed_inside_the_mode():
    closed = []

    @ta.no_grad
    def body():
        try:
            yield
        finally:
            closed.append(ta.is_grad_enabled())

    generator = body()
    next(generator)
    generator.close()
    assert closed == [False] and ta.is_grad_enabled()


@pytest.mark.parametrize("bare", [False, True])
def test_async_functions_run_inside_the_mode_and_wait_outside(bare):
    mode = ta.no_grad if bare else ta.no_grad()

    @mode
    async def body(number):
        found = [ta.is_grad_enabled()]
        await asyncio.sleep(0)
        found.append(ta.is_grad_enabled())
        if number < 0:
            raise ValueError(number)
        return found

    @mode
    async def numbers():
        for number in range(2):
            await asyncio.sleep(0)
            yield number, ta.is_grad_enabled()

    async def main():
        others = [asyncio.ensure_future(body(n)) for n in range(3)]
        for _ in range(4):
            assert ta.is_grad_enabled()
            await asyncio.sleep(0)
        assert [await other for other in others] == [[False, False]] * 3
        assert [item async for item in numbers()] == [(0, False), (1, False)]
        with pytest.raises(ValueError, match="-1"):
            await body(-1)

    assert inspect.iscoroutinefunction(body) and inspect.isasyncgenfunction(numbers)
    asyncio.run(main())
    assert ta.is_grad_enabled()


@pytest.mark.parametrize("mode", [ta.no_grad, ta.no_grad(), ta.unfused, ta.unfused(), ta.detect_anomaly, record])
def test_functions_methods_and_classes(mode):
    def is_on():
        return everything() != before

    class Made:
        def __init__(self, name="n"):
            self.name, self.on = name, is_on()

        @mode
        def method(self):
            return self.name, is_on()

        @staticmethod
        @mode
        def static():
            return is_on()

        @mode
        @classmethod
        def of(cls):
            return cls("class").name, is_on()

    before = everything()
    kept = Made
    assert mode(Made) is kept and isinstance(Made("x"), Made)
    assert (Made("x").name, Made("x").on, Made(name="y").on) == ("x", True, True)
    assert (Made.static(), Made().method(), Made.of()) == (True, ("n", True), ("class", True))
    assert mode(is_on)() and not is_on()


@pytest.mark.parametrize(
    "wrong", [lambda: ta.no_grad(5), lambda: ta.unfused()("x"), lambda: ta.set_grad_enabled(True)(3)]
)
def test_only_functions_and_classes_are_decorated(wrong):
    with pytest.raises(TypeError, match=r"^(no_grad|unfused|set_grad_enabled): decorates functions and classes, got "):
        wrong()


@pytest.mark.parametrize("mode", [len, 1, None, ta.tensor(True)])
def test_set_grad_enabled_takes_a_bool(mode):
    with pytest.raises(TypeError, match=r"^set_grad_enabled: mode must be True or False, got "):
        ta.set_grad_enabled(mode)


def test_one_object_in_two_threads_and_in_itself():
    mode, meet, found = ta.no_grad(), threading.Barrier(2), []

    def work(first):
        if not first:
            meet.wait()
        with mode, mode:
            if first:
                meet.wait()
                meet.wait()
            found.append(ta.is_grad_enabled())
        found.append(ta.is_grad_enabled())
        if not first:
            meet.wait()

    in_threads(work, (True, False))
    assert found == [False, True, False, True] and ta.is_grad_enabled()


def test_entered_by_hand_and_by_a_stack():
    mode = ta.no_grad()
    mode.__enter__()
    with mode:
        mode.__enter__()
        mode.__exit__(None, None, None)
        assert not ta.is_grad_enabled()
    assert not ta.is_grad_enabled()
    mode.__exit__(None, None, None)
    assert ta.is_grad_enabled()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mode)
        recorded = stack.enter_context(record())
        assert not ta.is_grad_enabled() and current_modes().observers == (recorded,)
    assert ta.is_grad_enabled() and not current_modes().observers
    with pytest.raises(RuntimeError, match="left without having been entered"):
        mode.__exit__(None, None, None)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_blocks_of_generators_end_in_any_order(order):
    def block(engine, mode):
        with mode:
            yield

    def run(engine):
        modes = [engine.no_grad(), engine.enable_grad(), engine.no_grad()]
        generators = [block(engine, mode) for mode in modes]
        for generator in generators:
            next(generator)
        for number in order:
            next(generators[number], None)
        return engine.is_grad_enabled()

    assert run(ta)


def test_a_block_that_ends_early_leaves_other_modes_alone():
    def block():
        with ta.no_grad():
            yield

    generator = block()
    next(generator)
    with ta.unfused():
        next(generator, None)
        assert ta.is_grad_enabled() and current_modes().unfused
        ta.set_grad_enabled(False)
    assert not ta.is_grad_enabled() and not current_modes().unfused
    ta.set_grad_enabled(True)


def test_a_context_of_a_generator_function():
    events = []

    @context
    def noted(name):
        events.append(f"enter {name}")
        try:
            yield name.upper()
        except KeyError:
            events.append("error")
            raise
        finally:
            events.append("leave")

    with noted("a") as given:
        assert given == "A"
    with pytest.raises(KeyError), noted("b"):
        raise KeyError
    with pytest.raises(StopIteration), noted("c"):
        raise StopIteration
    assert noted("d")(lambda: events[-1])() == "enter d"
    assert events == ["enter a", "leave", "enter b", "error", "leave", "enter c", "leave", "enter d", "leave"]


def test_what_is_still_entered_is_undone_before_python_takes_modules_apart():
    code = (
        "import atexit\n"
        "inside = []\n"
        "atexit.register(lambda: print(inside))\n"  # runs after what is registered later
        "from tinygrad_attn.contexts import undone_by\n"
        "block = undone_by(inside.clear)\n"
        "type(block).__enter__(block)\n"
        "inside.append('entered')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")
