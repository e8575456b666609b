"""The cells of a lesson: texts in English and Korean, and code; and the lesson as a notebook."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LANGUAGES", "QUESTIONS", "Cell", "cells_of", "in_language", "lessons", "notebook_of", "title_of"]

QUESTIONS = {"en": "**Question.**", "ko": "**질문.**"}
"""What begins a question to the reader, in each language."""
LANGUAGES = tuple(QUESTIONS)
_FOLDER = Path(__file__).parent
_MARKER = re.compile(r"# %%(?: (?P<title>[^\[\n]+?))?(?P<markdown> \[markdown\])?(?: lang=\"(?P<language>\w+)\")?")


@dataclass(frozen=True)
class Cell:
    """A cell of the percent format."""

    title: str
    """What stands behind ``# %%``."""
    language: str
    """Of a text "en" or "ko"; of code empty."""
    text: str
    """Markdown, or Python."""
    line: int
    """The number of its first line in the file, counted from 1."""


def lessons() -> dict[int, Path]:
    """The lessons of this folder by number, in order."""
    return {int(path.name[:2]): path for path in sorted(_FOLDER.glob("[0-9][0-9]_*.py"))}


def cells_of(path: Path) -> Iterator[Cell]:
    """The cells of a lesson, in order.

    Raises:
        ValueError: a line that begins a cell and is not understood, or a text that is no comment.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("# %%")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        marker, body = _MARKER.fullmatch(lines[start]), lines[start + 1 : end]
        if marker is None:
            raise ValueError(f"{path.name}, line {start + 1}: {lines[start]!r} begins no cell of the percent format")
        if not marker["markdown"]:
            yield Cell(marker["title"] or "", "", "\n".join(body).strip("\n"), start + 2)
            continue
        text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body).strip("\n")
        if any(line.strip() and not line.startswith("#") for line in body):
            raise ValueError(f"{path.name}, line {start + 1}: the text below it has a line that is no comment")
        yield Cell(marker["title"] or "", marker["language"] or "en", text, start + 2)


def in_language(cells: Iterable[Cell], language: str) -> Iterator[Cell]:
    """The code and the texts in one language."""
    return (cell for cell in cells if cell.language in ("", language))


def title_of(path: Path, language: str = "en") -> str:
    """A lesson's heading in a language, without its number."""
    first = next(cell.text for cell in cells_of(path) if cell.language == language)
    return first.partition("\n")[0].removeprefix("# ").partition(". ")[2]


def notebook_of(path: Path, language: str = "en") -> str:
    """A lesson as a Jupyter notebook (nbformat 4.5), its texts in one language."""
    cells = []
    for number, cell in enumerate(in_language(cells_of(path), language)):
        kind: dict[str, object] = {"cell_type": "markdown"}
        if not cell.language:
            kind = {"cell_type": "code", "execution_count": None, "outputs": []}
        source = cell.text.splitlines(keepends=True)
        cells.append({**kind, "id": f"cell-{number}", "metadata": {}, "source": source})
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    whole = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"
