"""What training shows while it runs."""

import contextlib
import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from tinygrad_attn_models.console import progress
from tinygrad_attn_models.console.counts import clock
from tinygrad_attn_models.console.progress import LiveProgress, PlainProgress, make_progress
from tinygrad_attn_models.console.working import DELAYS


@pytest.fixture
def time(monkeypatch):
    """A clock that the test sets."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(progress.time, "perf_counter", lambda: Clock.now)
    monkeypatch.setattr(DELAYS, "lines", 5.0)
    return Clock


def test_plain_lines(time, capsys):
    shown = PlainProgress()
    shown.start(done=10, total=30)
    assert capsys.readouterr().out == "step 10/30  the first step compiles the kernels, once on each machine\n"
    time.now += 12.0
    shown.advance(11, loss=3.0, accuracy=0.25, tokens=1000)
    assert capsys.readouterr().out == "step 11/30  loss 3.000  token accuracy 25.0 %  first step took 12.0 s\n"
    time.now += 1.0  # too soon for another line
    shown.advance(12, loss=2.5, accuracy=0.5, tokens=1000)
    assert capsys.readouterr().out == ""
    time.now += 7.0  # 2 steps with 3000 tokens in 8 s, 17 steps to come: the compilation is no part of the pace
    shown.advance(13, loss=2.0, accuracy=0.5, tokens=2000)
    assert capsys.readouterr().out == "step 13/30  loss 2.000  token accuracy 50.0 %  375 tokens/s  1:08 left\n"
    shown.advance(30, loss=2.0, accuracy=0.5, tokens=2000)  # the last step always
    assert "step 30/30" in capsys.readouterr().out


def test_the_live_bar(monkeypatch):
    screen = io.StringIO()
    shown = LiveProgress()
    shown.bar.live.console.file = screen
    shown.bar.console.width = 200
    shown.start(done=0, total=2)
    shown.print("[a] → b ✓")
    for step in (1, 2):
        shown.advance(step, loss=1.5, accuracy=0.5, tokens=100)
    shown.bar.refresh()
    shown.stop()
    text = re.sub(r"\x1b\[[^m]*m", "", screen.getvalue())
    assert "[a] → b ✓" in text  # brackets are no markup
    assert "2/2" in text
    assert "loss 1.500" in text


def test_lines_become_rarer(time, capsys, monkeypatch):
    monkeypatch.setattr(DELAYS, "lines", 2.0)
    shown = PlainProgress()
    shown.start(done=0, total=10**6)
    capsys.readouterr()
    ends = []
    for second in range(1, 4001):
        time.now += 1.0
        shown.advance(second, loss=3.0, accuracy=0.25, tokens=1000)
        if capsys.readouterr().out:
            ends.append(second)
    waits = np.diff(ends)
    assert waits[0] == 2 and waits.max() == 60 and (np.diff(waits) >= 0).all() and len(ends) < 150


@pytest.mark.parametrize("columns", [40, 80])
def test_the_figures_are_seen_in_a_narrow_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = io.StringIO()
    monkeypatch.setattr("sys.stdout", screen)
    shown = LiveProgress()
    shown.start(done=0, total=942)
    shown.advance(1, loss=1.5, accuracy=0.5, tokens=100)
    shown.advance(2, loss=1.5, accuracy=0.5, tokens=100)
    shown.bar.refresh()
    shown.stop()
    assert "2/942" in screen.getvalue() and "loss 1.500  accuracy 50.0 %" in screen.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals of POSIX")
@pytest.mark.parametrize(("no_color", "styled"), [pytest.param("", True, marks=pytest.mark.slow), ("1", False)])
def test_without_colour_escapes_only_move_the_cursor(no_color, styled):
    import pty

    code = """
from tinygrad_attn_models.console.progress import LiveProgress
from tinygrad_attn_models.console.sentences import SentenceProgress
from tinygrad_attn_models.console.tables import print_table
shown = LiveProgress()
shown.start(done=0, total=2)
shown.advance(1, loss=1.5, accuracy=0.5, tokens=100)
shown.stop()
with SentenceProgress(5) as sentences:
    sentences.advance(1)
print_table(["run", "BLEU"], [["a", "1.0"]])
"""
    leader, follower = pty.openpty()
    settings = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": no_color}
    child = subprocess.Popen([sys.executable, "-c", code], stdout=follower, stderr=follower, env=settings)
    os.close(follower)
    written = b""
    with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
        while part := os.read(leader, 65536):
            written += part
    os.close(leader)
    assert child.wait() == 0
    assert b"BLEU" in written and b"1/2" in written
    assert bool(re.search(rb"\x1b\[[\d;]*m", written)) == styled
    assert re.search(rb"\x1b\[", written)  # the bars moved the cursor all the same


@pytest.mark.parametrize(("terminal", "kind"), [(True, LiveProgress), (False, PlainProgress)])
def test_a_bar_in_a_terminal_and_lines_elsewhere(monkeypatch, terminal, kind):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    made = make_progress()
    made.stop()
    assert isinstance(made, kind)


def test_clock():
    assert [clock(seconds) for seconds in (0.4, 59.6, 61, 3725)] == ["0:00", "1:00", "1:01", "1:02:05"]
