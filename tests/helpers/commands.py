"""Helpers of the commands' tests: check a one-line error message, and provide text on standard input."""

import io
import sys

from tinygrad_attn_models.cli.main import main

__all__ = ["TINY", "refused", "type_in"]

TINY = ["data.train_size=65", "data.valid_size=8", "data.test_size=8", "training.epochs=1", "model.hidden_size=8",
        "model.embedding_size=4", "decoding.max_length=12"]  # fmt: skip
"""Settings of a run that takes a second."""


def refused(capsys, arguments, *words):
    """The command fails with exit code 2 and one line on stderr that holds all the words."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        code = stopped.code
    errors = capsys.readouterr().err
    assert code == 2
    assert errors.count("\n") == 1, errors
    for word in words:
        assert str(word) in errors, errors


def type_in(monkeypatch, content):
    """Put bytes on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
