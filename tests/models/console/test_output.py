"""Output that may end: the process goes on, and says so once."""

import io
import os
import sys
from pathlib import Path

import pytest
from tinygrad_attn_models.console.output import lasting_output


@pytest.fixture
def closed_pipe():
    """A stream into a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w", encoding="utf-8")
    yield stream
    stream.close()


@pytest.fixture
def full_disk():
    stream = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115
    yield stream
    stream.close()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("closed_pipe", "Broken pipe"),
        pytest.param(
            "full_disk", "No space left", marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="of Linux")
        ),
    ],
)
def test_what_cannot_be_printed_is_lost_and_noted_once(kind, reason, request, monkeypatch, capsys):
    stream = request.getfixturevalue(kind)
    monkeypatch.setattr(sys, "stdout", stream)
    with lasting_output() as output:
        for number in range(3):
            print("line", number, flush=True)
        print("x" * 100_000)
        assert output.failed
        output.close("the last words")
    assert sys.stdout is stream
    stream.flush()  # nothing is left in it that would fail at exit
    errors = capsys.readouterr().err
    assert errors.count("note: standard output cannot be written") == 1
    assert reason in errors and errors.endswith("the last words\n")


class Console(io.RawIOBase):
    """That of Windows: it takes UTF-8, while its descriptor would take a code page."""

    def __init__(self):
        self.written = b""

    def writable(self):
        return True

    def fileno(self):
        return 1

    def write(self, content):
        self.written += bytes(content[:1])  # a console may take a part
        return 1


def test_a_consoles_own_file_is_written(monkeypatch):
    console = Console()
    stream = io.TextIOWrapper(io.BufferedWriter(console), encoding="utf-8", line_buffering=True)
    monkeypatch.setattr(sys, "stdout", stream)
    with lasting_output() as output:
        print("시월 십구일 → 10-19 ✓")
        assert console.written.decode() == "시월 십구일 → 10-19 ✓\n".replace("\n", os.linesep)
    assert not output.failed and not console.closed


def test_last_words_that_are_the_first_to_fail_are_not_lost(closed_pipe, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", closed_pipe)
    with lasting_output() as output:
        output.close("the last words")
    assert capsys.readouterr().err.endswith("going on without it\nthe last words\n")


def test_standard_error_may_be_lost_too(closed_pipe, monkeypatch):
    monkeypatch.setattr(sys, "stdout", closed_pipe)
    monkeypatch.setattr(sys, "stderr", closed_pipe)
    with lasting_output() as output:
        print("line", flush=True)
        output.close("the last words")
        print("an error", file=sys.stderr, flush=True)


def test_the_bar_of_a_terminal_that_is_gone(closed_pipe, monkeypatch, capsys):
    from tinygrad_attn_models.console.progress import LiveProgress

    monkeypatch.setattr(sys, "stdout", closed_pipe)
    with lasting_output() as output:
        progress = LiveProgress()
        progress.start(0, 3)
        progress.advance(1, 0.5, 0.5, 10)
        progress.print("a line")
        progress.stop()
    assert output.failed
    assert "Traceback" not in capsys.readouterr().err


def test_output_that_works_is_as_it_was(tmp_path, monkeypatch):
    with (tmp_path / "out").open("w", encoding="ascii", errors="backslashreplace") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with lasting_output() as output:
            print("가", end="")
            output.close("나")
        print("!", flush=True)
    assert (tmp_path / "out").read_text(encoding="ascii") == "\\uac00\\ub098\n!\n"


def test_streams_without_a_file_stay(capsys):
    before = sys.stdout
    with lasting_output():
        assert sys.stdout is before
        print("line")
    assert capsys.readouterr().out == "line\n"
