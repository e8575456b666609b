"""Sequential, ModuleList and ModuleDict: modules that hold others; and Identity."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from tinygrad_attn.checked import shown
from tinygrad_attn.nn.module import Module

__all__ = ["Identity", "ModuleDict", "ModuleList", "Sequential"]

S = TypeVar("S", bound="_Numbered")


def _module(owner: str, module: Any) -> Module:
    if not isinstance(module, Module):
        raise TypeError(f"{owner}: expected a module, got {type(module).__name__}")
    return module


class _Numbered(Module):
    """Modules named "0", "1", …: what `Sequential` and `ModuleList` share."""

    def append(self: S, module: Module) -> S:
        """Add a module at the end."""
        setattr(self, str(len(self)), _module(type(self).__name__, module))
        return self

    def extend(self: S, modules: Iterable[Module]) -> S:
        """Add modules at the end."""
        if isinstance(modules, str) or not isinstance(modules, Iterable):
            raise TypeError(f"{type(self).__name__}: expected several modules, got {type(modules).__name__}")
        for module in list(modules):
            self.append(module)
        return self

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: Any) -> Any:
        """The module at an index, or a new container with those of a slice."""
        if isinstance(index, slice):
            return type(self)(*_arguments(type(self), list(self.children())[index]))
        return getattr(self, self._name_at(index))

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._name_at(index), _module(type(self).__name__, module))

    def _name_at(self, index: Any) -> str:
        """The name of the module at an index."""
        names = [name for name, _ in self.named_children()]
        if isinstance(index, bool) or not hasattr(index, "__index__"):
            raise TypeError(f"{type(self).__name__}: an index is an integer or a slice, got {shown(index)}")
        if not -len(names) <= index < len(names):
            raise IndexError(f"{type(self).__name__}: index {index} is out of range for {len(names)} modules")
        return names[operator.index(index)]


def _arguments(kind: type, modules: list[Module]) -> list[Any]:
    return modules if issubclass(kind, Sequential) else [modules]


class Sequential(_Numbered):
    """Modules one after the other, named "0", "1", …, or by the keys of a dict."""

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                setattr(self, _free_name(self, name), _module("Sequential", module))
        else:
            self.extend(modules)  # type: ignore[arg-type]

    def forward(self, input: Any) -> Any:
        for module in self.children():
            input = module(input)
        return input


class ModuleList(_Numbered):
    """A list of modules, named "0", "1", …, to loop over."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)


class ModuleDict(Module):
    """Modules by name, in the order in which they were added."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add modules, or replace those of the same name.

        Raises:
            TypeError: not modules by name.
            KeyError: a name that cannot be that of a module.
        """
        try:
            given = dict(modules)
        except (TypeError, ValueError):
            raise TypeError(f"ModuleDict: expected modules by name, got {type(modules).__name__}") from None
        for name, module in given.items():
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        setattr(self, name if name in self else _free_name(self, name), _module("ModuleDict", module))

    def __getitem__(self, name: str) -> Module:
        if name not in self:
            raise KeyError(f"ModuleDict: there is no module {name!r}; there are {', '.join(self)}")
        return getattr(self, name)

    def __delitem__(self, name: str) -> None:
        _ = self[name]  # raises if there is none
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and isinstance(vars(self).get(name), Module)

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.named_children())

    def keys(self) -> Iterator[str]:
        """The names."""
        return iter(self)

    def values(self) -> Iterator[Module]:
        """The modules."""
        return self.children()

    def items(self) -> Iterator[tuple[str, Module]]:
        """The modules with their names."""
        return self.named_children()


def _free_name(container: Module, name: Any) -> str:
    """``name``, after checking that a module may have it."""
    if not isinstance(name, str) or not name or "." in name or hasattr(container, name):
        raise KeyError(
            f"{type(container).__name__}: a module cannot be named {name!r}; a name is a text without dots that is no "
            "attribute yet"
        )
    return name


class Identity(Module):
    """Its input, unchanged; it takes any arguments, so that it can stand in for any layer."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        """Any shape, the same tensor out."""
        return input
