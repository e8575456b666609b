"""Sampling: how symbols are drawn when a language model writes, and where it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
        wrong = {
            "temperature": (not 0 <= self.temperature < math.inf, "at least 0"),
            "top_k": (self.top_k < 0, "at least 0"),
            "top_p": (not 0 < self.top_p <= 1, "more than 0 and at most 1"),
            "length": (self.length < 0, "at least 0"),
            "stop": (isinstance(self.stop, str) or not all(self.stop), "texts that are not empty"),
            "seed": (self.seed is not None and self.seed < 0, "at least 0"),
        }
        for name, (is_wrong, right) in wrong.items():
            if is_wrong:
                raise UserError(f"generate: {name} must be {right}, got {getattr(self, name)!r}")
