"""The encoding of what is redirected, and pipes that are closed, on each system."""

import errno
import io
import os
import subprocess
import sys

import pytest
from tinygrad_attn_models.cli import main as command_line

_SAY = """
import io, sys
for name in ("stdout", "stderr"):  # as Windows opens files and pipes: with a code page
    stream = getattr(sys, name)
    stream.reconfigure(encoding="cp1252", errors="strict")
from tinygrad_attn_models.cli.main import main
sys.exit(main(["train", "--config", "없는"]) if sys.argv[1:] else main(["settings", "training"]))
"""
_VARIABLES = ("PYTHONIOENCODING", "PYTHONUTF8", "LC_ALL", "LC_CTYPE", "LANG")


def run(*arguments, **chosen):
    environment = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    return subprocess.run(
        [sys.executable, "-c", _SAY, *arguments], capture_output=True, env=environment | chosen, check=False
    )


@pytest.mark.parametrize("chosen", [{}, {"LANG": "C"}, {"LC_ALL": "ko_KR.UTF-8"}, {"LANG": "en_US.utf8"}])
def test_what_is_redirected_is_utf_8(chosen):
    assert "Adam's β" in run(**chosen).stdout.decode("utf-8")
    assert "없는" in run("error", **chosen).stderr.decode("utf-8")


@pytest.mark.parametrize(
    "chosen", [{"PYTHONIOENCODING": "cp1252"}, {"PYTHONUTF8": "0"}, {"LC_ALL": "de_DE.ISO-8859-1"}]
)
def test_an_encoding_that_the_user_has_chosen_stays(chosen):
    assert b"Adam's \\u03b2" in run(**chosen).stdout


def test_a_terminal_keeps_its_encoding(monkeypatch):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    terminal, pipe = Terminal(io.BytesIO(), "cp949"), io.TextIOWrapper(io.BytesIO(), "cp949")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", pipe)
    command_line._prepare_streams()
    assert (terminal.encoding, pipe.encoding) == ("cp949", "utf-8")
    monkeypatch.undo()


def test_a_closed_pipe_on_windows(monkeypatch, capfd):
    """There it is EINVAL, and no BrokenPipeError."""

    def fail(arguments):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("tinygrad_attn_models.cli.settings.run", fail)
    monkeypatch.setattr(command_line, "_pipe_closed", lambda: 141)
    assert command_line.main(["settings"]) == 2
    monkeypatch.setattr(sys, "platform", "win32")
    assert command_line.main(["settings"]) == 141
    assert capfd.readouterr().err.count("Invalid argument") == 1
