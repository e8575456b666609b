"""Continue a text with a language model, showing it as it is written."""

from __future__ import annotations

import argparse
import dataclasses

from ..decoding.sampling import Sampling
from .options import add_run, count, number, seed, warn_of_unknown

NEEDS = ("rich", "safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    add_run(parser)
    parser.add_argument("prompt", metavar="TEXT", nargs="?", default="", help="the beginning (default: that of a line)")
    parser.add_argument(
        "--temperature",
        metavar="T",
        type=number,
        help="1: as the model expects; 0: the likeliest (default: %(default)s)",
    )
    parser.add_argument("--top-k", metavar="K", type=count, help="draw from the K likeliest symbols; 0: from all")
    parser.add_argument("--top-p", metavar="P", type=number, help="draw from the likeliest symbols of probability P")
    parser.add_argument("--length", metavar="N", type=count, help="the most symbols to write (default: %(default)s)")
    parser.add_argument("--stop", metavar="TEXT", action="append", help="end before this text; may be given again")
    parser.add_argument("--seed", metavar="N", type=seed, help="the same seed writes the same text")
    parser.set_defaults(**{**dataclasses.asdict(Sampling()), "stop": []})  # a list, to which argparse appends


def run(arguments: argparse.Namespace) -> int:
    """Print prompt and continuation, each piece as soon as it is there."""
    from ..trained import TrainedModel

    model = TrainedModel.load(arguments.run)
    options = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Sampling)}
    pieces = model.generate(arguments.prompt, **options)
    warn_of_unknown(arguments, arguments.prompt, model.unknown(arguments.prompt))
    first = next(pieces, "")  # before the prompt: its line ends with no error then
    print(arguments.prompt, first, sep="", end="", flush=True)
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
    finally:  # what ends it, as Ctrl-C, is told on a line of its own
        print()
    return 0
