"""Options of ops as Python's own types: a NumPy scalar changes no dtype, and no list of the user is kept.

What an option may be is read from its annotation in the forward: ``int``, ``float``, ``bool``, ``str``, ``None``, a
tuple, or an alternative of these. Any other annotation, or none, allows everything.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.values import as_number

__all__ = ["PLAIN", "Kinds", "number_operands", "option_kinds", "plain_options"]

# The types that each option may have, by its name.
Kinds: TypeAlias = "dict[str, frozenset[type]]"

_KIND: dict[str, frozenset[type]] = {
    "int": frozenset({int}),
    "float": frozenset({float, int, bool}),
    "bool": frozenset({bool}),
    "str": frozenset({str}),
    "None": frozenset({type(None)}),
    "tuple": frozenset({tuple}),
    "Sequence": frozenset({tuple}),
}
PLAIN: frozenset[Any] = frozenset(
    {float, int, bool, str, type(None), tuple, type, *[type(np.dtype(c)) for c in "?bhilqBHILQfd"]}
)
"""The types of options without a kind of their own that are kept as they are."""


def option_kinds(forward: Callable[..., Any], names: Iterable[str]) -> Kinds:
    """The types of each option whose annotation in ``forward`` says them."""
    plain: Any = inspect.unwrap(forward)
    found = {name: _kind(_text(plain.__annotations__.get(name, "Any"), plain.__globals__)) for name in names}
    return {name: kind for name, kind in found.items() if kind}


def number_operands(forward: Callable[..., Any], names: Iterable[str]) -> Collection[str]:
    """The operands that are integers, such as the ``dim`` of gather."""
    annotations = inspect.unwrap(forward).__annotations__
    return frozenset(name for name in names if annotations.get(name) in ("int", int))


def _text(annotation: Any, scope: Mapping[str, Any]) -> str:
    """An annotation as text, an alias of the module as what it stands for."""
    found = scope.get(annotation, annotation) if isinstance(annotation, str) else annotation
    return found.__name__ if isinstance(found, type) else str(found)


@functools.cache
def _kind(text: str) -> frozenset[type]:
    """The types that an annotation allows; none if it is no alternative of those in the module's docstring."""
    try:
        parts = [ast.parse(text, mode="eval").body]
    except SyntaxError:
        return frozenset()
    types: frozenset[type] = frozenset()
    for part in parts:  # grows as alternatives are taken apart
        if isinstance(part, ast.BinOp):
            parts += [part.left, part.right]
            continue
        outer = part.value if isinstance(part, ast.Subscript) else part
        name = ast.unparse(outer).rpartition(".")[2]
        if name not in _KIND:
            return frozenset()
        types |= _KIND[name]
    return types


def plain_options(op: str, kinds: Kinds, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as Python numbers, strings and tuples.

    Raises:
        TypeError: an option of another type, or a tensor that requires a gradient.
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        kind = kinds.get(name)
        if type(value) not in (PLAIN if kind is None else kind):
            value = _plain(f"{op}: {name}", value, kind or PLAIN)
            if kind is not None and type(value) not in kind:
                raise TypeError(f"{op}: {name} must be {_words(kind)}, got {shown(value)}")
        found[name] = value
    return found


def _plain(what: str, value: Any, kind: frozenset[type]) -> Any:
    value = as_number(what, value)
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu" and tuple in kind:
        return tuple(value.tolist())
    if isinstance(value, (list, tuple, range)) and tuple in kind:
        return tuple([_plain(what, item, PLAIN) for item in value])
    if isinstance(value, int) and value in (0, 1) and kind == _KIND["bool"]:
        return bool(value)
    for plain in (str, float, int):  # their subclasses
        if isinstance(value, plain) and plain in kind and type(value) is not bool:
            return plain(value)
    return value


def _words(kind: frozenset[type]) -> str:
    number = "a number" if float in kind else "an integer" if int in kind else ""
    others = {bool: "True or False" * (float not in kind), str: "a string", tuple: "a tuple", type(None): "None"}
    return " or ".join(filter(None, [number, *[word for each, word in others.items() if each in kind]]))
