"""The contexts of the models, interrupted at every instruction of our own code."""

import os
import signal
import sys
from pathlib import Path

import pytest
from interrupts import contexts_of, interrupted_everywhere

pytest.importorskip("matplotlib", reason="the models extra is not installed")
pytest.importorskip("rich", reason="the models extra is not installed")
pytest.importorskip("filelock", reason="the models extra is not installed")

import filelock
import matplotlib
import tinygrad_attn_models
from numba.core import event
from tinygrad_attn_models.console import compilation, sentences, working
from tinygrad_attn_models.console.compilation import compilation_on_stderr, watch_compilation
from tinygrad_attn_models.console.json_lines import json_lines
from tinygrad_attn_models.console.output import lasting_output
from tinygrad_attn_models.data import cache
from tinygrad_attn_models.evaluation.plots import drawn_with
from tinygrad_attn_models.microscope.checks.gallery import GALLERY, broken_derivative
from tinygrad_attn_models.runs.folder import Run
from tinygrad_attn_models.speed.stopwatch import Stopwatch, watched
from tinygrad_attn_models.training.interruption import Interruption
from tinygrad_attn_models.training.rescue import Rescue

from tinygrad_attn.atomic import leftovers
from tinygrad_attn.modes import current_modes
from tinygrad_attn.op import registered_ops

OURS = tuple(str(Path(__file__).parents[2] / package) + os.sep for package in ("models", "tinygrad_attn"))
"""Not the whole checkout: an environment may lie in it, and what others wrote is not to be interrupted."""
RULES = [registered_ops()[name] for name in ("softmax", "masked_softmax", "additive_score", "layer_norm")]


class Bar:
    started = False

    def start(self):
        Bar.started = True

    def stop(self):
        Bar.started = False


class TwoRanks:
    size, rank, going_on = 2, 0, ""

    def gathered(self, value):
        return [value, value]


def sentence_progress(run):
    progress = sentences.SentenceProgress(3)
    progress._bar = Bar()
    return progress


def broken(name):
    return lambda run: broken_derivative(name)


BROKEN = ("broken_derivative", "_softmax_without_second_term", "_composed_of")
CONTEXTS = {
    "Interruption.awaited": lambda run: Interruption().awaited(lambda: None),
    "Rescue.watching": lambda run: Rescue(TwoRanks(), None, lambda: True).watching(),
    "Run.held": lambda run: run.held(),
    "_alone": lambda run: cache._alone(run.directory / "ids"),
    "SentenceProgress": sentence_progress,
    "drawn_with": lambda run: drawn_with(),
    "_listening": lambda run: compilation._listening(print),
    "json_lines": lambda run: json_lines(str(run.directory / "out")),
    "compilation_on_stderr": lambda run: compilation_on_stderr(),
    "lasting_output": lambda run: lasting_output(),
    "quietly": lambda run: working.quietly(),
    "reporting_to": lambda run: working.reporting_to(print),
    "status_on_stderr": lambda run: working.status_on_stderr(),
    "watch_compilation": lambda run: watch_compilation(print),
    "watched": lambda run: watched(Stopwatch()),
    "working": lambda run: working.working("reading"),
    **dict(zip(BROKEN, map(broken, GALLERY), strict=True)),
}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path, None, None, None)


def everything(run):
    lock = filelock.FileLock(run.directory / ".lock", blocking=False)
    lock.acquire()  # raises if another holds it
    lock.release()
    woken = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(woken)
    rules = [[op.reference, *((r.formula, r.function, r.kernel) for r in op.rules.values())] for op in RULES]
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    drawn = dict(matplotlib.rcParams)
    listeners = list(event._registered["numba:compile"]), list(working._reports)
    work = list(working._under_way), working.is_quiet(), leftovers(run.directory)
    return (
        sys.stdout,
        sys.stderr,
        rules,
        handlers,
        drawn,
        listeners,
        current_modes().observers,
        Bar.started,
        work,
        woken,
    )


@pytest.mark.slow
def test_every_context_of_the_package_is_interrupted():
    assert contexts_of(tinygrad_attn_models) <= set(CONTEXTS)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in BROKEN else n for n in CONTEXTS])
def test_an_interrupt_anywhere_leaves_everything_as_it_was(name, run):
    def block():
        with CONTEXTS[name](run):
            len("")

    before = everything(run)
    interrupts = 0
    for interrupt in interrupted_everywhere(block, within=OURS):
        assert everything(run) == before, interrupt.__traceback__
        interrupts += 1
    assert interrupts > 20
