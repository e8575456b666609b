"""The commands that are suggested can be pasted: they name the program as it was started, and are quoted."""

import shlex
import sys

import pytest
from tinygrad_attn_models.console import program as console_program
from tinygrad_attn_models.console.program import command_line, program, quoted


@pytest.mark.parametrize(
    ("started", "folder", "expected"),
    [
        ("/usr/bin/tinygrad-attn", "models", "tinygrad-attn"),
        ("C:/Scripts/tinygrad-attn.exe", "tinygrad_attn_models", "tinygrad-attn"),
        ("/home/me/checkout/models/__main__.py", "models", "python -m models"),
        ("/lib/site-packages/tinygrad_attn_models/__main__.py", "tinygrad_attn_models", "tinygrad-attn"),
        ("/usr/bin/jupyter", "tinygrad_attn_models", "tinygrad-attn"),
    ],
)
def test_how_the_program_was_started(monkeypatch, started, folder, expected):
    monkeypatch.setattr(sys, "argv", [started, "train"])
    monkeypatch.setattr(console_program, "__file__", f"/x/{folder}/console/program.py")
    assert program() == expected


def test_words_are_quoted(tmp_path):
    words = ["translate", tmp_path / "my run", "it's 5 o'clock"]
    assert shlex.split(command_line(*words))[-3:] == [str(word) for word in words]


@pytest.mark.parametrize(
    ("system", "word", "expected"),
    [
        ("posix", "runs/dates", "runs/dates"),
        ("posix", "it's mine", "'it'\"'\"'s mine'"),
        ("posix", "a;b", "'a;b'"),
        ("posix", "", "''"),
        ("nt", r"C:\runs\dates", r"C:\runs\dates"),
        ("nt", r"C:\my runs", r'"C:\my runs"'),
        ("nt", "a&b", '"a&b"'),
        ("nt", 'say "no"', r'"say \"no\""'),
        ("nt", "", '""'),
    ],
)
def test_quotes_of_the_system(monkeypatch, system, word, expected):
    monkeypatch.setattr(console_program.os, "name", system)
    found = quoted(word)
    monkeypatch.undo()
    assert found == expected
