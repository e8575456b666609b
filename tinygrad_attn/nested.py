"""Tensors in nested tuples, lists and dicts: what functions are given and return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tinygrad_attn.checked import shown
from tinygrad_attn.tensor import Tensor

__all__ = ["is_nested", "map_nested", "map_tensors", "paired", "spread", "tensors_in"]


def is_nested(value: Any) -> bool:
    """Whether a value has parts: a tuple, a list or a dict."""
    return isinstance(value, (tuple, list, dict))


def tensors_in(structure: Any) -> list[Tensor]:
    """All tensors of a structure, in their order; what is neither a tensor nor a tuple, list or dict has none."""
    if isinstance(structure, Tensor):
        return [structure]
    parts = structure.values() if isinstance(structure, dict) else structure
    return [each for part in parts for each in tensors_in(part)] if is_nested(structure) else []


def map_tensors(function: Callable[[Tensor], Any], structure: Any) -> Any:
    """The structure with ``function(tensor)`` in place of each tensor, in the order of `tensors_in`."""
    return map_nested(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, structure)


def map_nested(function: Callable[[Any], Any], structure: Any) -> Any:
    """The structure with ``function(leaf)`` in place of each part that has no parts itself."""
    if isinstance(structure, dict):
        return {key: map_nested(function, part) for key, part in structure.items()}
    if isinstance(structure, (tuple, list)):
        parts = [map_nested(function, part) for part in structure]
        return type(structure)(*parts) if hasattr(structure, "_fields") else type(structure)(parts)
    return function(structure)


def paired(wanted: Any, given: Any) -> Iterator[tuple[Any, Any]]:
    """The parts without parts of one structure, each with that in its place in another; of dicts by their keys.

    Raises:
        ValueError: the structures differ, in words such as "a tuple of 2 where a dict was".
    """
    if not (is_nested(wanted) or is_nested(given)):
        yield wanted, given
    elif isinstance(wanted, dict) and isinstance(given, dict) and wanted.keys() == given.keys():
        for key, part in wanted.items():
            yield from paired(part, given[key])
    elif _is_row(wanted) and _is_row(given) and len(wanted) == len(given):
        for one, other in zip(wanted, given, strict=True):
            yield from paired(one, other)
    else:
        raise ValueError(f"{_described(given)} in place of {_described(wanted)}")


def spread(prefix: Any, structure: Any) -> Iterator[Any]:
    """For each part of a structure that has no parts what a prefix of it has in its place: one value for many parts.

    Raises:
        ValueError: the prefix has other parts than the structure.
    """
    if not is_nested(prefix):
        leaves: list[Any] = []
        map_nested(leaves.append, structure)
        yield from [prefix] * len(leaves)
    elif isinstance(prefix, dict) and isinstance(structure, dict) and prefix.keys() == structure.keys():
        for key, part in structure.items():
            yield from spread(prefix[key], part)
    elif _is_row(prefix) and _is_row(structure) and len(prefix) == len(structure):
        for one, other in zip(prefix, structure, strict=True):
            yield from spread(one, other)
    else:
        raise ValueError(f"{_described(prefix)} for {_described(structure)}")


def _is_row(value: Any) -> bool:
    return isinstance(value, (tuple, list))


def _described(value: Any) -> str:
    if isinstance(value, dict):
        return f"a dict of {', '.join(map(repr, value)) or 'nothing'}"
    if _is_row(value):
        return f"a {'tuple' if isinstance(value, tuple) else 'list'} of {len(value)}"
    return "a tensor" if isinstance(value, Tensor) else shown(value)
