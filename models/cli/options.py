"""Command line arguments that several commands share: run, data, threads, split, decoding; and what they warn of."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..console.errors import CommandError
from ..setting import short, suggested

__all__ = [
    "above_zero", "add_data", "add_decoding", "add_files", "add_run", "add_split", "add_threads", "count", "decoding",
    "is_text", "name", "not_negative", "number", "overrides", "path_name", "picture_name", "port", "positive",
    "seconds", "seed", "several", "use_threads", "warn_of_unknown",
]  # fmt: skip

T = TypeVar("T")

PICTURES = (".png", ".svg", ".pdf", ".jpg")
# A larger count, of samples or steps, would not end in a day.
_MOST = 1_000_000
# More digits than any of these numbers has; Python refuses to read thousands of them.
_DIGITS = 30
# The largest number of unknown symbols that a warning names.
_NAMED = 20


# -- types -----------------------------------------------------------------------------------------------------------


def positive(text: str) -> int:
    """A whole number of at least 1, and at most a million."""
    return _whole(text, 1, _MOST)


def count(text: str) -> int:
    """A whole number of at least 0, and at most a million."""
    return _whole(text, 0, _MOST)


def seed(text: str) -> int:
    """A seed: a whole number of at least 0, of at most 64 bits."""
    return _whole(text, 0, 2**64 - 1)


def port(text: str) -> int:
    """The number of a port; 0 stands for any free one."""
    return _whole(text, 0, 2**16 - 1)


def _whole(text: str, least: int, most: int) -> int:
    number = int(text) if text.isdecimal() and len(text) <= _DIGITS else -1
    if not least <= number <= most:
        limits = f"at least {least}" if most >= _MOST else f"{least} to {most:,}"
        limits += f" and at most {most:,}" if number > most >= _MOST else ""
        raise argparse.ArgumentTypeError(f"expected a whole number of {limits}, got {short(text)}")
    return number


def seconds(text: str) -> float:
    """A number of seconds of at least 0."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds of at least 0, got {short(text)}")
    return number


def number(text: str) -> float:
    """A finite number."""
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not abs(found) < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number, got {short(text)}")
    return found


def several(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Values with commas between them, each of a kind, as in 1,10,100."""

    def values(text: str) -> list[T]:
        return [kind(part.strip()) for part in text.split(",")]

    return values


def above_zero(text: str) -> float:
    """A finite number above 0."""
    found = number(text)
    if found <= 0.0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {short(text)}")
    return found


def not_negative(text: str) -> float:
    """A finite number of at least 0."""
    found = number(text)
    if found < 0.0:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {short(text)}")
    return found


def name(text: str) -> str:
    """A name that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("expected a name, got nothing; is a variable of the shell unset?")
    return text


def path_name(text: str) -> str:
    """The name of a file or folder, not empty; ``~`` is the home folder, which a shell leaves in ``--out=~/run``."""
    if not text:
        raise argparse.ArgumentTypeError(
            "expected the name of a file or folder, got nothing; is a variable of the shell unset?"
        )
    return os.path.expanduser(text)


def picture_name(text: str) -> str:
    """The name of a picture, whose ending says its format: PNG if it has none."""
    found = path_name(text)
    ending = os.path.splitext(found)[1].lower()
    if ending and ending not in PICTURES:
        raise argparse.ArgumentTypeError(f"expected a name that ends in {', '.join(PICTURES)}, got {short(text)}")
    return found


def _split(text: str) -> str:
    """A split that is measured."""
    from ..data.corpus import SPLITS  # brings NumPy, which --help does without

    _, *measured = SPLITS
    if text not in measured:
        choices = ", ".join(map(repr, reversed(measured)))
        raise argparse.ArgumentTypeError(
            f"invalid choice: {short(text)} (choose from {choices}){suggested(text, measured)}"
        )
    return text


# -- arguments -------------------------------------------------------------------------------------------------------


def add_run(parser: argparse.ArgumentParser) -> None:
    """The run that a command uses."""
    parser.add_argument("run", metavar="RUN", type=path_name, help="a run folder that train has made")


def add_data(parser: argparse.ArgumentParser) -> None:
    """Settings, and the files of parallel text; see `overrides`."""
    parser.add_argument(
        "--set", metavar="SECTION.KEY=VALUE", nargs="+", action="extend", default=[], help="change settings"
    )
    add_files(parser, "a folder of parallel text, train.L, valid.L, test.L for two languages L; or a text file")


def add_files(parser: argparse.ArgumentParser, meaning: str) -> None:
    """The files of parallel text."""
    parser.add_argument("--data", metavar="DATA", type=path_name, help=meaning)
    parser.add_argument("--source", metavar="L", type=name, help="the source language, as the files' ending")
    parser.add_argument("--target", metavar="L", type=name, help="the target language")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """How many threads; see `use_threads`."""
    parser.add_argument("--threads", metavar="N", type=positive, help="threads of the kernels (default: all cores)")


def add_split(parser: argparse.ArgumentParser) -> None:
    """Which part of the data is measured."""
    parser.add_argument("--split", metavar="SPLIT", type=_split, default="test", help="test (default) or valid")


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Options of decoding, named as the settings of the section decoding; see `decoding`."""
    for name, options in _DECODING.items():
        words = f"{options['help']} (default: the run's)"
        parser.add_argument(f"--{name.replace('_', '-')}", **{**options, "help": words})


_DECODING: dict[str, dict[str, Any]] = {
    "beam": {"metavar": "N", "type": positive, "help": "width of the beam; 1 is greedy"},
    "length_penalty": {"metavar": "A", "type": number, "help": "exponent of the beam's length penalty"},
    "min_length": {"metavar": "N", "type": count, "help": "the fewest symbols of a translation"},
    "no_repeat_ngram_size": {"metavar": "N", "type": count, "help": "no N symbols in a row come twice; 0 allows all"},
    "unknown": {
        "metavar": "HOW",
        "choices": ("keep", "forbid", "replace"),
        "help": "keep <unk> in translations, forbid it, or replace it by the source word that it attends to",
    },
    "batch_size": {"metavar": "N", "type": positive, "help": "sentences translated together"},
    "int8": {"action": argparse.BooleanOptionalAction, "help": "the decoder's weights rounded to 8 bits: faster"},
}


# -- their effects ---------------------------------------------------------------------------------------------------


def decoding(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings of decoding that `add_decoding`'s options give; None stands for the run's own."""
    return {name: getattr(arguments, name) for name in _DECODING}


def is_text(data: str | None) -> bool:
    """Whether --data names a text, for a language model, and not a folder of parallel text; it may be a pipe."""
    return data is not None and Path(data).exists() and not Path(data).is_dir()


def overrides(arguments: argparse.Namespace) -> list[str]:
    """The settings that --data, --source, --target and --set give, as ``section.key=value``."""
    languages = {"source": arguments.source, "target": arguments.target}
    if arguments.data is None:
        if any(languages.values()):
            raise CommandError("--source and --target name files in the folder that --data names; give --data too")
        return list(arguments.set)
    if is_text(arguments.data):
        if any(languages.values()):
            raise CommandError(f"{arguments.data} is one text; leave out --source and --target, which name languages")
        return ["data.kind=text", f"data.file={Path(arguments.data).absolute()}", *arguments.set]
    if not (any(languages.values()) or Path(arguments.data).exists()):
        missing = f"there is no file or folder {arguments.data}"
        raise CommandError(f"{missing}; --data names a text, or a folder of two languages")
    if not (all(languages.values()) or arguments.config):
        raise CommandError(
            "--data needs --source and --target, the endings of the files, as in --source ko --target en; or name a "
            "text file"
        )
    # Absolute, so that --resume finds it from anywhere.
    settings = {"kind": "parallel", "directory": Path(arguments.data).absolute(), **languages}
    return [*(f"data.{name}={value}" for name, value in settings.items() if value), *arguments.set]


def refuse_other_data(config: str, path: Path, arguments: argparse.Namespace) -> None:
    """Raise if --data does not give what the model of a config, which has this name and file, reads."""
    from ..runs.config import reads_of

    if arguments.data is None or not Path(arguments.data).exists():
        return
    gives, reads = "text" if is_text(arguments.data) else "pairs", reads_of(path, arguments.set)
    if (reads, gives) == ("text", "pairs"):
        raise CommandError(
            f"{config} is a language model, which reads one text, and --data {arguments.data} is a folder; name a file "
            "of text, or another config"
        )
    if (reads, gives) == ("pairs", "text"):
        raise CommandError(
            f"{config} is a translator, which reads parallel text, and --data {arguments.data} is one text; name a "
            "folder, with --source and --target, or another config, such as gpt"
        )


def use_threads(count: int | None) -> None:
    """Let the kernels use ``count`` threads; None changes nothing."""
    from tinygrad_attn import set_num_threads

    if count is not None:
        try:
            set_num_threads(count)
        except ValueError as error:
            raise CommandError(f"--threads {count}: {error}") from error


def warn_of_unknown(arguments: argparse.Namespace, text: str, unknown: Sequence[str]) -> None:
    """Name on stderr what of a text the model does not know, unless --quiet."""
    if unknown and not arguments.quiet:
        shown = " ".join(unknown[:_NAMED]) + (" …" if len(unknown) > _NAMED else "")
        print(f"warning: unknown to the model in {short(text)}: {shown}", file=sys.stderr)
