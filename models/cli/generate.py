"""Continue a text with a language model, showing it as it is written."""

from __future__ import annotations

import argparse
import sys

from ..setting import short
from .options import add_run, count, number, seed

NEEDS = ("rich", "safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    add_run(parser)
    parser.add_argument("prompt", metavar="TEXT", nargs="?", default="", help="the beginning (default: that of a line)")
    parser.add_argument(
        "--temperature", metavar="T", type=number, help="1: as the model expects; 0: the likeliest (default: 0.8)"
    )
    parser.add_argument("--top-k", metavar="K", type=count, help="draw from the K likeliest symbols; 0: from all")
    parser.add_argument("--top-p", metavar="P", type=number, help="draw from the likeliest symbols of probability P")
    parser.add_argument("--length", metavar="N", type=count, help="the most symbols to write (default: 500)")
    parser.add_argument("--stop", metavar="TEXT", action="append", help="end before this text; may be given again")
    parser.add_argument("--seed", metavar="N", type=seed, help="the same seed writes the same text")


def run(arguments: argparse.Namespace) -> int:
    """Print prompt and continuation, each piece as soon as it is there."""
    from ..trained import TrainedModel

    model = TrainedModel.load(arguments.run)
    names = ("temperature", "top_k", "top_p", "length", "seed")
    options = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    pieces = model.generate(arguments.prompt, stop=tuple(arguments.stop or ()), **options)
    unknown = model.unknown(arguments.prompt)
    if unknown and not arguments.quiet:
        print(f"warning: unknown to the model in {short(arguments.prompt)}: {' '.join(unknown)}", file=sys.stderr)
    print(arguments.prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    return 0
