"""What is told of long work, and where."""

import io
import os
import re
import sys
import threading
import time

import pytest
from tinygrad_attn_models.console import line
from tinygrad_attn_models.console import working as module
from tinygrad_attn_models.console.working import (
    DELAYS,
    is_quiet,
    quietly,
    reporting_to,
    status_on_stderr,
    worked_off,
    working,
)  # fmt: skip


@pytest.fixture(autouse=True)
def from_the_first_moment(monkeypatch):
    monkeypatch.setattr(DELAYS, "work", 0.01)
    monkeypatch.setattr(module, "clock", lambda seconds: "0:00" if 0 <= seconds < 3600 else "wrong")  # however slow


def told(lines, line):
    end = time.monotonic() + 60.0
    while line not in lines and time.monotonic() < end:
        time.sleep(0.005)
    return line in lines


def test_a_single_long_call_is_told_of():
    lines = []
    with reporting_to(lines.append), working("measuring"):
        assert told(lines, "measuring, 0:00")
    assert lines[-1] == ""  # it is over


def test_items_are_counted():
    lines, seen = [], []
    with reporting_to(lines.append):
        for item in worked_off("abc", "reading", 3):
            seen.append(item)
            if item == "c":
                assert told(lines, "reading 2 of 3, 0:00, 0:00 left")
    assert seen == ["a", "b", "c"]


def test_the_inner_of_two_works_tells():
    lines = []
    with reporting_to(lines.append), working("outer"), working("inner"):
        assert told(lines, "inner, 0:00") and "outer, 0:00" not in lines


def test_nobody_is_told_without_a_display(monkeypatch):
    monkeypatch.setattr(module, "_reports", [])
    before = module.threading.active_count()
    with working("measuring") as advance:
        advance(1)
        assert module.threading.active_count() == before


@pytest.mark.parametrize("terminal", [True, False])
def test_on_stderr(terminal, monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", screen)
    with status_on_stderr(), working("reading"):
        end = time.monotonic() + 60.0
        while not screen.getvalue() and time.monotonic() < end:
            time.sleep(0.005)
    shown = r"(\r\x1b\[2Kreading, 0:00)+\r\x1b\[2K" if terminal else "reading, 0:00\n"
    assert re.fullmatch(shown, screen.getvalue())


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_a_line_that_is_longer_than_the_terminal_is_cut(columns, monkeypatch):
    screen = io.StringIO()
    screen.isatty, screen.fileno = lambda: True, lambda: 2
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(line.os, "get_terminal_size", lambda file: os.terminal_size((columns, 24)))
    with status_on_stderr() as report:
        report("compiling " * 20)
        report("글" * 80)
    shown = screen.getvalue().split("\r\x1b[2K")
    assert shown == ["", ("compiling " * 20)[: columns - 1], "글" * ((columns - 1) // 2), ""]


def test_a_line_is_emptied_without_escapes_on_windows(monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(line.sys, "platform", "win32")
    with status_on_stderr() as report:
        report("reading")
    empty = f"\r{' ' * 79}\r"
    assert screen.getvalue() == f"{empty}reading{empty}"


def terminal(monkeypatch):
    """A terminal to which both streams go."""
    found = io.StringIO()
    found.isatty = lambda: True
    monkeypatch.setattr("sys.stdout", found)
    monkeypatch.setattr("sys.stderr", found)
    return found


EMPTY = "\r\x1b[2K"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_is_printed_takes_the_place_of_the_line(stream, monkeypatch):
    screen = terminal(monkeypatch)
    with status_on_stderr() as report:
        report("compiling")
        print("a result", file=getattr(sys, stream))
        report("compiling more")
    assert screen.getvalue() == f"{EMPTY}compiling{EMPTY}a result\n{EMPTY}compiling more{EMPTY}"
    assert getattr(sys, stream) is screen


def test_a_text_that_comes_piece_by_piece_stays(monkeypatch):
    screen = terminal(monkeypatch)
    with status_on_stderr() as report:
        report("compiling")
        print("Mina has", end="", flush=True)
        report("compiling more")  # not over the text
        print(" three", end="", flush=True)
        print()
        report("compiling on")
    assert screen.getvalue() == f"{EMPTY}compiling{EMPTY}Mina has three\n{EMPTY}compiling on{EMPTY}"


def test_lines_of_two_threads_are_not_mixed(monkeypatch):
    class Slow(io.StringIO):
        def write(self, text):
            for character in text:
                super().write(character)
                time.sleep(1e-4)
            return len(text)

    screen = Slow()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(DELAYS, "lines", 0.0)
    with status_on_stderr() as report:
        threads = [threading.Thread(target=report, args=(word * 30,)) for word in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(screen.getvalue().splitlines()) == [word * 30 for word in "abcd"]


def test_an_interrupt_within_a_text_leaves_it(monkeypatch):
    screen = terminal(monkeypatch)
    with pytest.raises(KeyboardInterrupt), status_on_stderr() as report:
        report("compiling")
        print("Mina has", end="", flush=True)
        raise KeyboardInterrupt
    assert screen.getvalue() == f"{EMPTY}compiling{EMPTY}Mina has" and sys.stdout is screen


def test_quietly():
    assert not is_quiet()
    with quietly():
        assert is_quiet()
    assert not is_quiet()
