"""Things of one kind, found by name: what a decorator has registered, wherever the file that defines it stands."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A mapping from names to things of one kind, in the order of their registration.

    Args:
        kind: what they are called in messages, as in "attention score".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._found: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that registers what it decorates.

        Raises:
            ValueError: the name is taken by something of another module; a module that is run again replaces its own.
        """

        def add(thing: T) -> T:
            before = self._found.get(name)
            if before is not None and _home(before) != _home(thing):
                raise ValueError(f"the {self.kind} {name!r} is already defined in {_home(before)}; choose another name")
            self._found[name] = thing
            return thing

        return add

    def __getitem__(self, name: str) -> T:
        try:
            return self._found[name]
        except KeyError:
            raise KeyError(self.unknown(name)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def unknown(self, name: str) -> str:
        """The message for a name that is not there: the nearest one, or all of them."""
        near = difflib.get_close_matches(name, self._found, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self._found)}"
        return f"there is no {self.kind} {name!r}; {hint}"


def _home(thing: object) -> str:
    return str(getattr(thing, "__module__", type(thing).__module__))
