"""Lines of text in, lines of translation out: what ``python -m models translate`` does."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from .data import UNKNOWN, DataError, Tokenizer
from .decoding import translate
from .interface import Translator
from .run import Run

__all__ = ["batches_of", "lines_of", "lines_of_standard_input", "translate_lines"]


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, one after the other.

    Raises:
        DataError: the file cannot be read, or a line is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            yield from _decoded(file, str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def lines_of_standard_input() -> Iterator[str]:
    """The lines of standard input, as they come.

    Raises:
        DataError: a line is not UTF-8.
    """
    return _decoded(sys.stdin.buffer, "standard input")


def _decoded(file: BinaryIO, name: str) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}, line {number}: 0x{line[error.start]:02x} is not UTF-8; convert it first"
            ) from error
        yield text.strip()


def batches_of(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    """Consecutive lines, ``size`` at a time."""
    remaining = iter(lines)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


def translate_lines(run: Run, model: Translator, lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """A translation of each line, and warnings about lines with symbols that the model has never seen."""
    sentences = [run.source.encode(line) for line in lines]
    warnings = [
        f"unknown to the model in {line!r}: {_unknown(run.source, line)}"
        for line, ids in zip(lines, sentences, strict=True)
        if UNKNOWN in ids
    ]
    translations = translate(model, sentences, run.config.decoding)
    return [run.target.decode(ids) for ids in translations], warnings


def _unknown(tokenizer: Tokenizer, line: str) -> str:
    """The words or characters of a line that the tokenizer does not know."""
    pieces = line.split() if tokenizer.name == "words" else line
    return " ".join(dict.fromkeys(piece for piece in pieces if UNKNOWN in tokenizer.encode(piece)))
