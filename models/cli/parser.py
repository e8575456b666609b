"""The command line parser: finds the commands in this folder; one helpful line for each mistake."""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

from ..console.errors import USER_ERROR
from ..console.program import program

__all__ = ["INSTALL", "Command", "find_commands", "make_parser"]

INSTALL = "pip install 'tinygrad-attn[models]'"
"""What brings the packages that commands need beside those of the engine."""

_IMPORT = "a Python file to run first, for the ops, scores, models and tasks that it registers"


class Command(Protocol):
    """The functions of a command's file; the first sentence of its docstring is the command's help."""

    __name__: str

    NEEDS: tuple[str, ...]
    """The packages that it imports beside NumPy and numba."""

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
    """Reports a mistake in one line, and suggests a similar option or command.

    Args:
        missing: packages without which the command cannot run; if there are any, its arguments are not parsed.
    """

    def __init__(self, *args: Any, missing: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.missing = missing

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"{self.prog}: error: {message}{self._suggestion(message)}; see {self.prog} --help\n")

    def _suggestion(self, message: str) -> str:
        wrong = message.rpartition(": ")[2].split() if message.startswith("unrecognized arguments") else []
        known = [option for action in self._actions for option in action.option_strings]
        return _nearest([word.partition("=")[0] for word in wrong], known)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        listed = f" (choose from {', '.join(map(repr, choices))})"
        raise argparse.ArgumentError(action, f"invalid choice: {value!r}{listed}{_nearest([str(value)], choices)}")

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
        return super().parse_known_args(args, namespace)


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
        own.set_defaults(command=command.run, parser=own)
        command.add_arguments(own)
        own.add_argument("--import", metavar="FILE", dest="imports", action="append", default=[], help=_IMPORT)
    return parser


def _epilog(unavailable: Sequence[str]) -> str:
    if unavailable:
        return f"{INSTALL} brings {', '.join(unavailable)}."
    return f"Begin with: {program()} train"


def _missing(packages: Sequence[str]) -> list[str]:
    return [name for name in packages if importlib.util.find_spec(name) is None]


def _nearest(words: Sequence[str], known: Sequence[str]) -> str:
    near = [match for word in words for match in difflib.get_close_matches(word, known, n=1)]
    return f"; did you mean {near[0]}?" if near else ""
