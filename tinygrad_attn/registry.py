"""Things of one kind, found by name: what a decorator has registered, wherever the file that defines it stands."""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A mapping from names to things of one kind, in the order of their registration.

    Args:
        kind: what they are called in messages, as in "attention score".
        package: the package whose modules define them, one or more a file. They are imported when the registry is first
            asked, so that a new file is found because it is there. Without one, whoever imports a module fills it.
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind = kind
        self._package = package
        self._pending = package is not None
        self._lock = threading.RLock()
        self._found: dict[str, T] = {}

    def _load(self) -> None:
        """Import the package's modules, once, but for subpackages and those whose names begin with ``_``."""
        with self._lock:
            if not self._pending or self._package is None:
                return
            self._pending = False  # what the modules themselves ask sees what there is so far
            try:
                for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__):
                    if not module.ispkg and not module.name.startswith("_"):
                        importlib.import_module(f"{self._package}.{module.name}")
            except BaseException:
                self._pending = True
                raise

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that registers what it decorates.

        Raises:
            ValueError: the name is taken by something of another module; a module that is run again replaces its own.
        """

        def add(thing: T) -> T:
            if self._package is None or not _home(thing).startswith(f"{self._package}."):
                self._load()  # a name of the package's own is taken, whoever comes first
            before = self._found.get(name)
            if before is not None and _home(before) != _home(thing):
                raise ValueError(f"the {self.kind} {name!r} is already defined in {_home(before)}; choose another name")
            self._found[name] = thing
            return thing

        return add

    def __getitem__(self, name: str) -> T:
        self._load()
        try:
            return self._found[name]
        except KeyError:
            raise KeyError(self.unknown(name)) from None

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._found)

    def __len__(self) -> int:
        self._load()
        return len(self._found)

    def unknown(self, name: str) -> str:
        """The message for a name that is not there: the nearest one, or all of them."""
        import difflib  # a mistake may wait for it, an import of the package may not

        self._load()
        near = difflib.get_close_matches(name, self._found, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self._found)}"
        return f"there is no {self.kind} {name!r}; {hint}"


def _home(thing: object) -> str:
    return str(getattr(thing, "__module__", type(thing).__module__))
