"""A setting and a section of settings: typed fields, checked whether they come from a file, a command or Python."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import Any, ClassVar

from ..console.errors import UserError

__all__ = ["ConfigError", "Section", "Value", "setting"]

Value = str | bool | int | float


class ConfigError(UserError):
    """A setting that does not exist or cannot have that value. The message names it as ``section.key``."""


def setting(
    default: Value,
    about: str,
    *,
    choices: tuple[str, ...] = (),
    minimum: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
    models: tuple[str, ...] = (),
) -> Any:
    """A field: its default, what it means, the values it may have, and the models it belongs to; none named is all."""
    limits = {"choices": choices, "minimum": minimum, "above": above, "most": most, "below": below}
    return dataclasses.field(default=default, metadata={"about": about, "models": models, **limits})


@dataclass(frozen=True)
class Section:
    """Settings that belong together. Checks every field when made; an int given for a float becomes one.

    Raises:
        ConfigError: a value of another type, or one that the setting cannot have.
    """

    section: ClassVar[str]
    """Its name, as in a TOML file."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, self._checked(field, getattr(self, field.name)))

    @classmethod
    def _checked(cls, field: dataclasses.Field[Any], value: object) -> Value:
        key, expected, limits = f"{cls.section}.{field.name}", cls.types()[field.name], field.metadata
        if expected is float and type(value) is int:
            value = float(value)
        if type(value) is not expected:
            raise ConfigError(f"{key}: expected {expected.__name__}, got {type(value).__name__} {value!r}")
        if limits["choices"] and value not in limits["choices"]:
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
    def types(cls) -> dict[str, type]:
        """The type of each setting."""
        hints = typing.get_type_hints(cls)
        return {field.name: hints[field.name] for field in dataclasses.fields(cls)}
