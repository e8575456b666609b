"""Registry: a mapping from names to what a decorator has registered (scores, models, tasks, …)."""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A mapping from names to registered objects of one kind, in the order of their registration.

    Args:
        kind: the kind's name in messages, as in "attention score".
        package: the package whose modules define the objects, one or more a file. The modules are imported at the first
            look-up, so that a new file needs no entry anywhere. Without a package, the imports of others fill it.
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind = kind
        self._package = package
        self._pending = package is not None
        self._lock = threading.RLock()
        self._found: dict[str, T] = {}

    def _load(self) -> None:
        """Import the package's modules, once; subpackages and modules whose names begin with ``_`` are left out."""
        if self._package is None:
            return
        with self._lock:
            if not self._pending:
                return
            self._pending = False  # a look-up by one of these modules sees the names registered so far
            try:
                for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__):
                    if not module.ispkg and not module.name.startswith("_"):
                        importlib.import_module(f"{self._package}.{module.name}")
            except BaseException:
                self._pending = True
                raise

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that registers a class or function under ``name``.

        Raises:
            ValueError: another module has registered the name; a module that is run again replaces its own.
        """

        def add(thing: T) -> T:
            if self._package is None or not _home(thing).startswith(f"{self._package}."):
                self._load()  # the package's own names count as taken, even if another file registers first
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
        """The message for an unknown name, with the most similar name or all names."""
        import difflib  # only errors need it: importing the package should be fast

        self._load()
        near = difflib.get_close_matches(name, self._found, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self._found)}"
        return f"there is no {self.kind} {name!r}; {hint}"


def _home(thing: object) -> str:
    return str(getattr(thing, "__module__", type(thing).__module__))
