"""The name under which this program was started, for commands in messages."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

__all__ = ["command_line", "program", "quoted"]

_INSTALLED, _CHECKOUT = "tinygrad-attn", "python -m models"
# What the shells of Windows take as one word without quotes.
_PLAIN = re.compile(r"[\w@+=:,./\\-]+")


def program() -> str:
    """``tinygrad-attn`` where that command was run or the package is installed, ``python -m models`` in a checkout."""
    if Path(sys.argv[0] if sys.argv else "").stem == _INSTALLED:
        return _INSTALLED
    # The folder is called models only in a checkout; a wheel installs it as tinygrad_attn_models.
    return _CHECKOUT if Path(__file__).parents[1].name == "models" else _INSTALLED


def command_line(*words: str | os.PathLike[str]) -> str:
    """A command of this program with these words, quoted for a shell."""
    return f"{program()} {' '.join(map(quoted, words))}"


def quoted(word: str | os.PathLike[str]) -> str:
    """A word as a shell takes it; where it needs quotes, single ones on POSIX and double ones on Windows."""
    text = os.fspath(word)
    if os.name != "nt":
        return shlex.quote(text)
    escaped = text.replace('"', r"\"")
    return text if _PLAIN.fullmatch(text) else f'"{escaped}"'
