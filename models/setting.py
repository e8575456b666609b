"""Section: settings as typed dataclass fields, checked for type, choices and range when made."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import tomllib
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from .console.errors import UserError
from .console.suggest import nearest

__all__ = ["ConfigError", "Description", "Section", "Value", "constant", "parse_value", "setting", "short", "suggested"]

Value = str | bool | int | float

# The most characters of a value that a message quotes.
_LONGEST_SHOWN = 80


class ConfigError(UserError):
    """A setting that does not exist or cannot have that value. The message names it as ``section.key``."""


def setting(
    default: Value,
    about: str,
    *,
    choices: Collection[str] = (),
    minimum: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
    affects: str = "",
) -> Any:
    """A field of a `Section`.

    Args:
        default: its value if none is given.
        about: its meaning, in one line.
        choices: the values that a string may have; of a registry, its names. Without choices any string may be given.
        minimum, above, most, below: limits of a number: at least, more than, at most, less than.
        affects: of a task's setting, what depends on it if the text of the evaluated pairs does not: "symbols", how
            the text is split, or "training" alone.
    """
    limits = {"choices": choices, "minimum": minimum, "above": above, "most": most, "below": below}
    return dataclasses.field(default=default, metadata={"about": about, "affects": affects, **limits})


def constant(value: str) -> Any:
    """The field that identifies one of several classes for a section; it has only this value."""
    return setting(value, "which one it is", choices=(value,))


@dataclass(frozen=True)
class Section:
    """Settings that belong together. Checks every field when made; an int given for a float becomes one.

    Raises:
        ConfigError: a value of another type, or one that the setting cannot have.
    """

    section: ClassVar[str]
    """Its name, as in a TOML file."""

    def __post_init__(self) -> None:
        for field in self.fields():
            object.__setattr__(self, field.name, self._checked(field, getattr(self, field.name)))

    @classmethod
    def _checked(cls, field: dataclasses.Field[Any], value: object) -> Value:
        key, expected = f"{cls.section}.{field.name}", cls.types()[field.name]
        if expected is float and type(value) is int:
            value = _as_float(value)
        if type(value) is not expected:
            hint = "; write true or false" if expected is bool else ""
            raise ConfigError(f"{key}: expected {expected.__name__}, got {type(value).__name__} {short(value)}{hint}")
        checked = typing.cast(Value, value)
        limits = field.metadata
        problem = _wrong_text(checked, limits) if isinstance(checked, str) else _wrong_number(checked, limits)
        if problem:
            suggestion = suggested(checked, limits["choices"]) if isinstance(checked, str) else ""
            raise ConfigError(f"{key}: {problem}, got {short(value)}{suggestion}")
        return checked

    @classmethod
    def fields(cls) -> tuple[dataclasses.Field[Any], ...]:
        """Its settings, each with its name, default and, in ``metadata``, meaning and limits."""
        return dataclasses.fields(cls)

    @classmethod
    @functools.cache
    def types(cls) -> Mapping[str, type]:
        """The type of each setting."""
        hints = typing.get_type_hints(cls)
        return {field.name: hints[field.name] for field in cls.fields()}

    @classmethod
    def describe(cls) -> list[Description]:
        """A description of each setting, as text."""
        types = cls.types()
        return [
            Description(
                f"{cls.section}.{field.name}",
                types[field.name].__name__,
                typing.cast(Value, field.default),
                field.metadata["about"],
                _limits(field.metadata),
            )
            for field in cls.fields()
        ]


def parse_value(text: str, expected: type) -> object:
    """A value as typed after ``--set``, in TOML's or Python's spelling; where a string is expected, the text itself.

    Text that is neither is returned as it is, for `Section` to refuse.
    """
    try:
        parsed = tomllib.loads(f"value = {text}")
        value = parsed["value"] if len(parsed) == 1 else text
    except (ValueError, RecursionError):
        value = text
    if expected is str:
        return value if isinstance(value, str) else text
    if isinstance(value, str) and value == text:  # TOML knows neither .5 nor 5. nor True
        if expected is bool:
            return {"true": True, "false": False}.get(text.lower(), text)
        with contextlib.suppress(ValueError):
            return expected(text)
    return value


def suggested(value: str, choices: Collection[str]) -> str:
    """The choice that a mistyped value is most like, as the end of a message; empty if it is like none."""
    near = nearest(value, choices)
    return f"; did you mean {near[0]}?" if near else ""


def short(value: object) -> str:
    """A value for a message, cut if it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write integers of thousands of digits
        text = hex(typing.cast(int, value))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _wrong_text(value: str, limits: Mapping[str, Any]) -> str:
    """What a text should have been; empty if it is right."""
    if limits["choices"] and value not in limits["choices"]:
        return f"expected one of {', '.join(choice or 'nothing' for choice in limits['choices'])}"
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        return "expected text that can be written as UTF-8, without zero bytes"
    return ""


def _wrong_number(value: float, limits: Mapping[str, Any]) -> str:
    """What a number should have been; empty if it is right."""
    if isinstance(value, float) and not math.isfinite(value):
        return "expected a finite number"
    if value < limits["minimum"]:
        return f"expected at least {limits['minimum']}"
    if value <= limits["above"]:
        return f"expected more than {limits['above']}"
    if value > limits["most"]:
        return f"expected at most {limits['most']}"
    if value >= limits["below"]:
        return f"expected less than {limits['below']}"
    return ""


class Description(NamedTuple):
    """A setting, described as text."""

    name: str
    """As ``section.key``."""
    type: str
    default: Value
    about: str
    """Its meaning."""
    limits: str
    """The values it may have, as in "at least 1"; empty if there is no limit."""


def _limits(metadata: Mapping[str, Any]) -> str:
    if metadata["choices"]:
        return f"one of {', '.join(metadata['choices'])}"
    words = {"minimum": "at least", "above": "more than", "most": "at most", "below": "less than"}
    return ", ".join(f"{word} {metadata[key]:g}" for key, word in words.items() if math.isfinite(metadata[key]))
