"""Tables, and the progress of translating: for a terminal and for everything else."""

import io
import re

import pytest
from tinygrad_attn_models.console import sentences as sentence_progress
from tinygrad_attn_models.console.sentences import SentenceProgress
from tinygrad_attn_models.console.tables import plain_table, print_table
from tinygrad_attn_models.console.working import DELAYS


def test_plain_lines_every_few_seconds(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(DELAYS, "lines", 5.0)
    monkeypatch.setattr(sentence_progress.time, "perf_counter", lambda: now[0])
    with SentenceProgress(1200) as progress:
        for seconds in (4.0, 2.0, 1.0):
            now[0] += seconds
            progress.advance(200)
    captured = capsys.readouterr()
    assert captured.err == "translated 400 of 1,200, 0:12 left\n"
    assert captured.out == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_in_a_terminal(monkeypatch):
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", screen)
    with SentenceProgress(20) as progress:
        progress.advance(20)
    assert "20/20" in re.sub(r"\x1b\[[^m]*m", "", screen.getvalue())


ROWS = [["a [b]", "1"], ["c", "1,000"]]


def test_a_plain_table(capsys):
    assert plain_table(["run", "n"], ROWS) == "run        n\na [b]      1\nc      1,000"
    print_table(["run", "n"], ROWS)
    assert capsys.readouterr().out == plain_table(["run", "n"], ROWS) + "\n"


def test_a_table_in_a_terminal(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    print_table(["run", "n"], ROWS)
    text = re.sub(r"\x1b\[[^m]*m", "", screen.getvalue())
    assert "─" in text
    assert "a [b]" in text  # brackets are no markup
    assert re.search(r"c +1,000", text)


@pytest.mark.parametrize("rows", [[], [["a", "b"]]])
def test_few_rows(rows):
    assert plain_table(["x", "y"], rows).count("\n") == len(rows)
