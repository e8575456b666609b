"""Kernels compiled by other processes, before the one that needs them asks."""

import contextlib
import os
import subprocess
import sys

import pytest
from bits import compiled_only

from tinygrad_attn.kernels.runtime import ahead

_RUN = """
import os, sys, time
from pathlib import Path
from typing import NamedTuple
import numpy as np
from numba.core import event
from tinygrad_attn.kernels.runtime import ahead
from tinygrad_attn.kernels.runtime.calls import address_of
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, launch, read_struct, row_at

class Task(NamedTuple):
    out: Address

@serial_kernel
def add_one(task: int, first: int, last: int) -> None:
    out = row_at(np.float64, read_struct(Task, task).out, 0, 1)
    out[0] += 1.0

@serial_kernel
def double(task: int, first: int, last: int) -> None:
    out = row_at(np.float64, read_struct(Task, task).out, 0, 1)
    out[0] *= 2.0

@serial_kernel
def subtract_three(task: int, first: int, last: int) -> None:
    out = row_at(np.float64, read_struct(Task, task).out, 0, 1)
    out[0] -= 3.0

ahead._cores = lambda: 2
way, cache, test = sys.argv[1], Path(os.environ["NUMBA_CACHE_DIR"]), os.getpid()
names, taken, told = [], [], []

def on_disk():
    return {name for name in ("add_one", "double", "subtract_three") if list(cache.rglob(f"*.{name}-*.nbi"))}

def step():
    taken.append(os.getpid())
    print("step", flush=True)
    total = np.full(1, 5.0)
    for kernel in (add_one, double, subtract_three):
        launch(address_of(kernel), Struct(Task(total)), 1, 1)
        end = time.monotonic() + 60.0
        while way == "patient" and os.getpid() == test and len(on_disk()) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        told.append(ahead.kernels_of_first_run())
    if os.getpid() != test and way == "killed":
        os.kill(os.getpid(), 9)
    if way == "failing":
        raise ValueError("the step failed")
    return total

class Compiled(event.Listener):
    def on_start(self, event):
        names.append(event.data["dispatcher"].py_func.__name__)
    def on_end(self, event):
        pass

event.register("numba:compile", Compiled())
try:
    total = ahead.first_run(step)
    assert total.tolist() == [9.0], total
except ValueError as error:
    assert way == "failing", error
assert taken == [test]
assert way != "patient" or told == ([(1, 3), (2, 3), (3, 3)] if names else [None] * 3), told
assert ahead.kernels_of_first_run() is None
try:
    os.waitpid(-1, os.WNOHANG)
    raise SystemExit("a child is left")
except ChildProcessError:
    pass
print(*(name for name in names if name in on_disk()))
"""

pytestmark = [compiled_only, pytest.mark.skipif(sys.platform != "linux", reason="children are forked on Linux only")]


def compiled_here(tmp_path, way):
    """The kernels that the process of a first step has compiled itself."""
    script = tmp_path / "step.py"
    script.write_text(_RUN)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, script, way]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    step, *lines = done.stdout.splitlines()
    assert step == "step" and len(lines) == 1  # the child says nothing
    return lines[0].split()


def test_what_a_child_has_compiled_is_not_compiled_again_and_nothing_the_second_time(tmp_path):
    assert compiled_here(tmp_path, "patient") == ["add_one"]
    assert compiled_here(tmp_path, "patient") == []


@pytest.mark.parametrize("way", ["failing", "killed"])
def test_a_step_or_a_child_that_ends_too_soon(tmp_path, way):
    assert compiled_here(tmp_path, way)[0] == "add_one"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("made", [0, 1, 2])
def test_children_end_when_a_later_one_cannot_be_made(monkeypatch, made, error):
    children, fork, files = [], os.fork, os.listdir("/proc/self/fd")

    def fork_or_fail():
        if len(children) == made:
            raise error
        child = fork()
        children.append(child)
        return child

    monkeypatch.setattr(ahead, "_cores", lambda: 4)
    monkeypatch.setattr(os, "fork", fork_or_fail)
    with pytest.raises(KeyboardInterrupt) if error is KeyboardInterrupt else contextlib.nullcontext():
        assert ahead.first_run(lambda: 7) == 7
    assert len(children) == made and os.listdir("/proc/self/fd") == files
    for child in children:
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)


@pytest.mark.slow
def test_steps_of_a_model_have_the_same_bits(tmp_path):
    code = """
import sys
from tinygrad_attn.kernels.runtime import ahead
from tinygrad_attn_models.speed.bench import TrainingStep
ahead._cores = lambda: int(sys.argv[1])
step = TrainingStep("bahdanau-small")
print(ahead.first_run(step), step(), step())
"""
    losses = {
        subprocess.run(
            [sys.executable, "-c", code, cores],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / cores)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for cores in ("1", "3")
    }
    assert len(losses) == 1
