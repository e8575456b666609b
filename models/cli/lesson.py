"""Run a lesson in the terminal, or write it as a notebook; without a number, list the lessons."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..console.errors import CommandError
from ..lessons.cells import LANGUAGES, QUESTIONS, cells_of, in_language, lessons, notebook_of, title_of
from .options import path_name, positive

NEEDS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    parser.add_argument("number", metavar="N", nargs="?", type=positive, help="the number of a lesson")
    parser.add_argument("--language", choices=LANGUAGES, default="en", help="of the texts (default: en)")
    parser.add_argument("--notebook", metavar="FILE", type=path_name, help="write it there for Jupyter (.ipynb)")


def run(arguments: argparse.Namespace) -> int:
    """See `parser.Command`."""
    known = lessons()
    if arguments.number is None:
        if arguments.notebook:
            raise CommandError("--notebook needs the number of a lesson")
        for number, path in known.items():
            print(f"{number}  {title_of(path, arguments.language)}")
        return 0
    if arguments.number not in known:
        raise CommandError(f"there is no lesson {arguments.number}; there are 1 to {max(known)}")
    lesson = known[arguments.number]
    if arguments.notebook:
        from tinygrad_attn.atomic import atomic_path  # not for --help, which needs no engine

        with atomic_path(Path(arguments.notebook)) as unfinished:
            unfinished.write_text(notebook_of(lesson, arguments.language), encoding="utf-8")
        print(f"wrote {arguments.notebook}")
    else:
        _read_aloud(lesson, arguments.language)
    return 0


def _waits() -> bool:
    """Wait for Enter; whether to ask again, which Ctrl-D ends."""
    try:
        input("… ")
    except EOFError:
        print()
        return False
    return True


def _read_aloud(lesson: Path, language: str) -> None:
    """Print each text and each piece of code, and run it; in a terminal wait for Enter after a question."""
    names: dict[str, Any] = {"__name__": "__main__"}
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    for cell in in_language(cells_of(lesson), language):
        if cell.language:
            print(f"\n{cell.text}\n")
            if asks and QUESTIONS[language] in cell.text:
                asks = _waits()
            continue
        print("\n".join(f"    {line}".rstrip() for line in cell.text.splitlines()) + "\n", flush=True)
        try:
            # The empty lines above it make errors name the line of the file.
            exec(compile("\n" * (cell.line - 1) + cell.text, str(lesson), "exec"), names)
        except AssertionError as error:
            raise CommandError(f"{lesson.name}: a claim of the cell from line {cell.line} on fails: {error}") from error
