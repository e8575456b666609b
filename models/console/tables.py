"""Tables: drawn by rich in a terminal, in plain columns elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .rich_console import make_console

__all__ = ["plain_table", "print_table"]


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows with a cell for each header: the first column left-aligned, the others right-aligned."""
    if not sys.stdout.isatty():
        print(plain_table(headers, rows))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for number, header in enumerate(headers):
        table.add_column(Text(header), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # no markup: a name may contain brackets
    make_console().print(table)


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table as lines, with two spaces between columns."""
    lines = [list(headers), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    cells = [
        [
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in cells)
