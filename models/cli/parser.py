"""The command line parser: finds the commands in this folder; one helpful line for each mistake."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

from ..console.errors import USER_ERROR
from ..console.program import program, quoted
from ..console.suggest import nearest
from ..setting import short
from .options import path_name

__all__ = ["INSTALL", "Command", "find_commands", "make_parser"]

INSTALL = 'pip install "tinygrad-attn[models]"'
"""What brings the packages that commands need beside those of the engine."""

_LONGEST_MESSAGE = 500
# Marks a word after ``--``, which is no option whatever it begins with. No argument of a process has a zero byte.
_TEXT = "\0"
# A negative number, and what contains a blank: for argparse no options either.
_TEXT_WITH_DASH = re.compile(r"-\d+$|-\d*\.\d+$|-[^=]* ")

_QUIET = "results and errors only: no progress, no notes"
_IMPORT = "a Python file to run first, for the ops, scores, models and tasks that it registers"


class Command(Protocol):
    """The functions of a command's file; the first sentence of its docstring is the command's help."""

    __name__: str

    NEEDS: tuple[str, ...]
    """The packages that it imports beside NumPy and numba."""
    ON_RANKS: bool
    """Whether several processes that mpirun has started share its work; False if it has none."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare its arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the command, and return the exit code.

        Raises:
            UserError: the request cannot be carried out.
        """


def find_commands() -> dict[str, Command]:
    """The commands of this folder, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = {name: importlib.import_module(f".{name}", __package__) for name in names}
    return {name: cast(Command, module) for name, module in modules.items() if hasattr(module, "run")}


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, and suggests a similar option or command. Options may stand between texts.

    Args:
        missing: packages without which the command cannot run; if there are any, its arguments are not parsed.
    """

    def __init__(self, *args: Any, missing: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.missing = missing
        self._options: list[str] = []  # the words that argparse takes for options
        self._intermixed = False

    def error(self, message: str) -> NoReturn:
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[:_LONGEST_MESSAGE]}…"
        self.exit(USER_ERROR, f"{self.prog}: error: {message}{self._suggestion(message)}; see {self.prog} --help\n")

    def _suggestion(self, message: str) -> str:
        """A similar option, or how to write a text that begins with a dash."""
        known = [option for action in self._actions for option in action.option_strings]
        words = [word.partition("=")[0] for word in self._options]
        wrong = [word for word in words if not any(name.startswith(word) for name in known)]
        if not message.startswith(("unrecognized arguments", "the following arguments", "argument ")) or not wrong:
            return ""
        for word in wrong:
            if len(word) > 2 and (near := nearest(word, known)):
                return f"; did you mean {near[0]}?"
        if message.endswith("expected one argument"):
            option = message.removeprefix("argument ").partition(":")[0].split("/")[-1]
            return f"; a value that begins with - is written {quoted(f'{option}={wrong[0]}')}"
        texts = [action.metavar for action in self._actions if not action.option_strings]
        if not texts:
            return ""
        return f"; what begins with - and is no option goes after --, as in: … -- {quoted(wrong[0])}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        near = nearest(str(value), choices)
        listed = f" (choose from {', '.join(map(repr, choices))})"
        suggestion = f"; did you mean {near[0]}?" if near else ""
        raise argparse.ArgumentError(action, f"invalid choice: {short(value)}{listed}{suggestion}")

    def parse_args(self, args: Sequence[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            # The command's own parser knows the options to suggest.
            parser = getattr(parsed, "parser", self)
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        if self.missing:
            name = self.prog.rpartition(" ")[2]
            self.exit(USER_ERROR, f"error: {name} needs {', '.join(self.missing)}: {INSTALL}\n")
        if self._intermixed or any(action.nargs == argparse.PARSER for action in self._actions):
            return super().parse_known_args(args, namespace)
        words = list(args)
        end = words.index("--") if "--" in words else len(words)
        self._options = [word for word in words[:end] if word.startswith("-") and not _TEXT_WITH_DASH.match(word)]
        self._intermixed = True  # `parse_known_intermixed_args` calls this method for options, and again for the rest
        try:
            found, unknown = self.parse_known_intermixed_args(
                [*words[:end], *(_TEXT + word for word in words[end + 1 :])], namespace
            )
        finally:
            self._intermixed = False
        return found, [word.removeprefix(_TEXT) for word in unknown]

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        # What separates options from texts is gone by now; argparse would take away a value that is spelled like it.
        values = [_TEXT + word if word == "--" else word for word in arg_strings]
        return super()._get_values(action, values)  # type: ignore[misc]

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        return super()._get_value(action, arg_string.removeprefix(_TEXT))  # type: ignore[misc]


class _Version(argparse.Action):
    """Prints the version and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *values: Any) -> NoReturn:
        from ..version import version

        print("tinygrad-attn", version())
        sys.exit(0)


def make_parser() -> Parser:
    """The parser of all commands; the parsed arguments have the command's ``run`` as ``command``."""
    commands = find_commands()
    missing = {name: _missing(command.NEEDS) for name, command in commands.items()}
    parser = Parser(
        prog=program(),
        description="Train attention models, use them, and check the engine's derivatives.",
        epilog=_epilog([name for name in commands if missing[name]]),
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in commands.items():
        summary = (command.__doc__ or "").partition(".\n")[0].replace("\n", " ").removesuffix(".")
        options: dict[str, Any] = {"description": f"{summary}.", "missing": missing[name]}
        if not missing[name]:  # argparse lists the commands that have a help
            options["help"] = summary[:1].lower() + summary[1:]
        own = subparsers.add_parser(name, **options)
        own.set_defaults(command=command.run, parser=own, on_ranks=getattr(command, "ON_RANKS", False))
        command.add_arguments(own)
        own.add_argument("-q", "--quiet", action="store_true", help=_QUIET)
        own.add_argument(
            "--import", metavar="FILE", type=path_name, dest="imports", action="append", default=[], help=_IMPORT
        )
    return parser


def _epilog(unavailable: Sequence[str]) -> str:
    if unavailable:
        return f"{INSTALL} brings {', '.join(unavailable)}."
    return f"Begin with: {program()} train"


def _missing(packages: Sequence[str]) -> list[str]:
    return [name for name in packages if importlib.util.find_spec(name) is None]
