"""Symbols of a text, printed so that each is seen and none breaks a line."""

from __future__ import annotations

__all__ = ["visible"]


def visible(symbol: str) -> str:
    """A symbol on one line: a blank as ␣, a line's end as ↵, other control characters by their code."""
    shown = {" ": "␣", "\n": "↵"}
    return "".join(shown.get(char, char if char.isprintable() else f"U+{ord(char):04X}") for char in symbol)
