"""Numbers with the right form of their noun."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, one: str, many: str | None = None) -> str:
    """``"1 epoch"``, ``"1,000 epochs"``; with ``many`` for other words, ``"1 check fails"``, ``"2 checks fail"``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
