"""What is told of the compilation of kernels, and when."""

import io
import re
import threading

import numba
import pytest
from numba.core import event
from tinygrad_attn_models.console import compilation
from tinygrad_attn_models.console.compilation import compilation_on_stderr, watch_compilation
from tinygrad_attn_models.console.working import DELAYS

from tinygrad_attn.kernels.runtime.locks import WAIT


@pytest.fixture(autouse=True)
def from_the_first_moment(monkeypatch):
    monkeypatch.setattr(DELAYS, "compilation", 0.0)


def compile_one():
    @numba.njit
    def _halved(x):
        return x / 2

    @numba.njit
    def quartered(x):
        return _halved(_halved(x))

    return quartered(8.0)


def test_each_kernel_is_named_when_it_begins_and_counted_when_it_ends():
    lines = []
    with watch_compilation(lines.append):
        assert compile_one() == 2.0
    told = [re.sub(r".*: (\d) in \d+ s(.*); once on each machine", r"\1\2", line) for line in lines]
    assert told == ["0, now quartered", "0, now halved", "1, now quartered", "2"]
    compile_one()
    assert len(lines) == 4  # nothing after the block


def test_in_a_first_step_it_says_which_of_how_many(monkeypatch):
    lines = []
    monkeypatch.setattr(compilation, "kernels_of_first_run", lambda: (7, 21))
    with watch_compilation(lines.append):
        compile_one()
    assert re.match(r"compiling kernels: 7 of 21 in \d+ s, now quartered; once on each machine$", lines[0])


def test_the_inner_of_two_blocks_tells():
    outer, inner = [], []
    with watch_compilation(outer.append):
        with watch_compilation(inner.append):
            compile_one()
        assert inner and not outer
        compile_one()
        assert outer


@pytest.mark.parametrize("terminal", [True, False])
def test_one_line_that_goes_in_a_terminal_and_few_lines_elsewhere(terminal, monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", screen)
    with compilation_on_stderr():
        compile_one()
    shown = screen.getvalue()
    if terminal:
        assert shown.endswith("\r\x1b[2K") and "\n" not in shown
    else:
        assert shown == "compiling kernels: 0 in 0 s, now quartered; once on each machine\n"


def test_nothing_is_told_of_what_takes_no_time(monkeypatch, capsys):
    monkeypatch.setattr(DELAYS, "compilation", 3600.0)
    with compilation_on_stderr():
        compile_one()
    assert capsys.readouterr().err == ""


def test_a_kernel_that_takes_long_is_told_of_every_second(monkeypatch):
    monkeypatch.setattr(compilation, "_TICK", 0.01)
    lines, ticked = [], threading.Event()

    def note(line):
        lines.append(line)
        if len(lines) == 5:
            ticked.set()

    with watch_compilation(note), event.trigger_event(WAIT, data={"dispatcher": numba.njit(compile_one)}):
        assert ticked.wait(20.0)
    assert all(re.search(r"0 in \d+ s, now compile_one", line) for line in lines[:5])
    assert "1 in" in lines[-1]


def test_a_kernel_that_ends_while_it_is_told_of(monkeypatch):
    class Ending(list):
        """Is empty as soon as it was looked at."""

        def __bool__(self):
            found = len(self) > 0
            self.clear()
            return found

    watches, register = [], event.register
    monkeypatch.setattr(event, "register", lambda kind, watch: (watches.append(watch), register(kind, watch)))
    lines = []
    with watch_compilation(lines.append):
        watches[0].under_way = Ending(["halved"])
        watches[0].tell()
    assert [re.sub(r"in \d+ s", "in 0 s", line) for line in lines] == [
        "compiling kernels: 0 in 0 s, now halved; once on each machine"
    ]
