"""Sampling: how symbols are drawn when a language model writes, and where it ends."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..console.errors import UserError

__all__ = ["Sampling"]


@dataclass(frozen=True)
class Sampling:
    """How symbols are drawn.

    Raises:
        UserError: a value that cannot be; the message names it.
    """

    temperature: float = 0.8
    """By which logits are divided: 1 keeps the distribution, less prefers likely symbols, 0 takes the likeliest."""
    top_k: int = 0
    """Draw from so many of the likeliest symbols; 0 from all."""
    top_p: float = 1.0
    """Draw from the fewest symbols that together have this probability."""
    length: int = 500
    """The most symbols to write."""
    stop: tuple[str, ...] = ()
    """Texts at which to end; they are not written."""
    seed: int | None = None
    """The same seed writes the same text; None takes another each time."""

    def __post_init__(self) -> None:
        for name, (kind, fits, right) in _RIGHT.items():
            value = getattr(self, name)
            if value is None and name == "seed":
                continue
            if isinstance(value, (bool, str)) or not isinstance(value, kind) or not fits(value):
                raise UserError(f"generate: {name} must be {right}, got {value!r}")


_NUMBER, _WHOLE = (numbers.Real,), (numbers.Integral,)  # NumPy's scalars, too; the command's help needs no NumPy
# Of each option its types, whether a value of them can be, and what it must be.
_RIGHT: dict[str, tuple[tuple[type, ...], Callable[[Any], bool], str]] = {
    "temperature": (_NUMBER, lambda x: 0 <= x < math.inf, "at least 0"),
    "top_k": (_WHOLE, lambda x: x >= 0, "at least 0 and whole"),
    "top_p": (_NUMBER, lambda x: 0 < x <= 1, "more than 0 and at most 1"),
    "length": (_WHOLE, lambda x: x >= 0, "at least 0 and whole"),
    "stop": (
        (tuple, list), lambda x: all(isinstance(text, str) and text for text in x),
        "texts that are not empty, in a tuple or list",
    ),
    "seed": (_WHOLE, lambda x: x >= 0, "at least 0 and whole"),
}  # fmt: skip
