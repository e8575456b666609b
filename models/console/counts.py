"""Numbers with the right form of their noun."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """``"1 epoch"``, ``"1,000 epochs"``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
