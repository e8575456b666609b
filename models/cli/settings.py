"""Print every setting with its type, default and meaning, or those of a section, a model or a task."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..console.errors import CommandError
from ..console.suggest import hint

if TYPE_CHECKING:
    from ..setting import Description, Section

NEEDS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="data, model, training or decoding, or a model or task such as luong"
    )


def run(arguments: argparse.Namespace) -> int:
    """See `parser.Command`."""
    groups = _groups()
    name = arguments.name
    names = dict.fromkeys(word for group in groups for word in group.names if word)
    if name is not None and name not in names:
        raise CommandError(f"no section, model or task is named {name!r}; {hint(name, names)}")
    print("\n\n".join(group.describe() for group in groups if name is None or name in group.names))
    return 0


class _Group:
    """A group of settings in one section: those of one model or task, or those common to all.

    Attributes:
        names: the words that select it: its section, and the models or tasks that it belongs to.
    """

    def __init__(self, title: str, about: str, names: tuple[str, ...], settings: list[Description]) -> None:
        self.names = names
        self._title, self._about, self._settings = title, about, settings

    def describe(self) -> str:
        """A heading, and a line for each setting."""
        rows = [(setting.name, setting.type, _shown(setting.default), setting) for setting in self._settings]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        lines = [f"[{self._title}]  {self._about}"]
        for name, kind, default, setting in rows:
            limits = f"; {setting.limits}" if setting.limits else ""
            cells = f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {default:<{widths[2]}}"
            lines.append(f"  {cells}  {setting.about}{limits}")
        return "\n".join(lines)


def _groups() -> list[_Group]:
    """All settings; for data and model first those common to all tasks or models, then those of each."""
    from ..runs.config import CHOSEN_BY, SECTIONS, section_classes

    groups = []
    for section in SECTIONS:
        classes = section_classes(section)
        if section not in CHOSEN_BY:
            (only,) = classes.values()
            groups.append(_Group(section, _summary(only), (section,), only.describe()))
            continue
        every = [set(found.describe()) for found in classes.values()]
        common = set.intersection(*every)
        first = next(iter(classes.values()))
        shared = [setting for setting in first.describe() if setting in common]
        choice = f"{section}.{CHOSEN_BY[section]}"
        about = f"Chosen by {choice}: {', '.join(classes)}. All of them have:"
        groups.append(_Group(section, about, (section, *classes), shared))
        for name, found in classes.items():
            own = [setting for setting in found.describe() if setting not in common and setting.name != choice]
            groups.append(_Group(f"{choice}={name}", _summary(found), (section, name), own))
    return groups


def _summary(settings: type[Section]) -> str:
    return (settings.__doc__ or "").partition("\n")[0]


def _shown(default: object) -> str:
    """A default as the user would type it."""
    return str(default).lower() if isinstance(default, bool) else str(default) or '""'
