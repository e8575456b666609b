"""One table and one picture of several evaluated runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import add_split, path_name, picture_name

NEEDS = ("matplotlib", "rich")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=path_name, help="a run folder that evaluate has measured"
    )
    add_split(parser)
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=picture_name,
        default="comparison.png",
        help="the picture (default: comparison.png)",
    )


def run(arguments: argparse.Namespace) -> int:
    """See `parser.Command`."""
    from ..demos import folder_of
    from ..evaluation.comparison import compare, read_runs

    compare(read_runs([folder_of(run) for run in arguments.runs], arguments.split), Path(arguments.out))
    return 0
