"""Command line arguments that several commands share: run, data, threads, split, decoding."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..console.errors import CommandError

__all__ = [
    "add_data", "add_decoding", "add_run", "add_split", "add_threads", "folder_name", "overrides", "positive",
    "seconds", "use_threads",
]  # fmt: skip


# -- types -----------------------------------------------------------------------------------------------------------


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return number


def seconds(text: str) -> float:
    """A number of seconds of at least 0."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds of at least 0, got {text!r}")
    return number


def folder_name(text: str) -> str:
    """A name that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError(
            "expected the name of a folder, got nothing; is a variable of the shell unset?"
        )
    return text


# -- arguments -------------------------------------------------------------------------------------------------------


def add_run(parser: argparse.ArgumentParser) -> None:
    """The run that a command uses."""
    parser.add_argument("run", metavar="RUN", help="a run folder that train has made")


def add_data(parser: argparse.ArgumentParser) -> None:
    """Settings, and the files of parallel text; see `overrides`."""
    parser.add_argument(
        "--set", metavar="SECTION.KEY=VALUE", nargs="+", action="extend", default=[], help="change settings"
    )
    parser.add_argument("--data", metavar="FOLDER", help="parallel text: train.L, valid.L, test.L for two languages L")
    parser.add_argument("--source", metavar="L", help="the source language, as the files' ending")
    parser.add_argument("--target", metavar="L", help="the target language")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """How many threads; see `use_threads`."""
    parser.add_argument("--threads", metavar="N", type=positive, help="threads of the kernels (default: all cores)")


def add_split(parser: argparse.ArgumentParser) -> None:
    """Which part of the data is measured."""
    parser.add_argument(
        "--split", metavar="SPLIT", choices=("test", "valid"), default="test", help="test (default) or valid"
    )


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Options of decoding; None stands for the run's own setting."""
    parser.add_argument(
        "--beam", metavar="N", type=positive, help="width of the beam; 1 is greedy (default: the run's)"
    )
    parser.add_argument(
        "--length-penalty", metavar="A", type=float, help="exponent of the beam's length penalty (default: the run's)"
    )


# -- their effects ---------------------------------------------------------------------------------------------------


def overrides(arguments: argparse.Namespace) -> list[str]:
    """The settings that --data, --source, --target and --set give, as ``section.key=value``."""
    languages = {"source": arguments.source, "target": arguments.target}
    if arguments.data is None:
        if any(languages.values()):
            raise CommandError("--source and --target name files in the folder that --data names; give --data too")
        return list(arguments.set)
    if not (all(languages.values()) or arguments.config):
        raise CommandError(
            "--data needs --source and --target, the endings of the files, as in --source ko --target en"
        )
    # Absolute, so that --resume finds it from anywhere.
    settings = {"kind": "parallel", "directory": Path(arguments.data).absolute(), **languages}
    return [*(f"data.{name}={value}" for name, value in settings.items() if value), *arguments.set]


def use_threads(count: int | None) -> None:
    """Let the kernels use ``count`` threads; None changes nothing."""
    from tinygrad_attn import set_num_threads

    if count is not None:
        try:
            set_num_threads(count)
        except ValueError as error:
            raise CommandError(f"--threads {count}: {error}") from error
