"""Section: settings as typed dataclass fields, checked for type, choices and range when made."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from .console.errors import UserError

__all__ = ["ConfigError", "Description", "Section", "Value", "constant", "setting"]

Value = str | bool | int | float


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
) -> Any:
    """A field of a `Section`.

    Args:
        default: its value if none is given.
        about: its meaning, in one line.
        choices: the values that a string may have; of a registry, its names. Without choices any string may be given.
        minimum, above, most, below: limits of a number: at least, more than, at most, less than.
    """
    limits = {"choices": choices, "minimum": minimum, "above": above, "most": most, "below": below}
    return dataclasses.field(default=default, metadata={"about": about, **limits})


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
        key, expected, limits = f"{cls.section}.{field.name}", cls.types()[field.name], field.metadata
        if expected is float and type(value) is int:
            value = float(value)
        if type(value) is not expected:
            raise ConfigError(f"{key}: expected {expected.__name__}, got {type(value).__name__} {value!r}")
        if isinstance(value, str) and limits["choices"] and value not in limits["choices"]:
            raise ConfigError(f"{key}: expected one of {', '.join(limits['choices'])}, got {value!r}")
        if isinstance(value, (int, float)):
            if not math.isfinite(value):
                raise ConfigError(f"{key}: expected a finite number, got {value!r}")
            if value < limits["minimum"]:
                raise ConfigError(f"{key}: expected at least {limits['minimum']}, got {value!r}")
            if value <= limits["above"]:
                raise ConfigError(f"{key}: expected more than {limits['above']}, got {value!r}")
            if value > limits["most"]:
                raise ConfigError(f"{key}: expected at most {limits['most']}, got {value!r}")
            if value >= limits["below"]:
                raise ConfigError(f"{key}: expected less than {limits['below']}, got {value!r}")
        return typing.cast(Value, value)

    @classmethod
    def fields(cls) -> tuple[dataclasses.Field[Any], ...]:
        """Its settings, each with its name, default and, in ``metadata``, meaning and limits."""
        return dataclasses.fields(cls)

    @classmethod
    def types(cls) -> dict[str, type]:
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
