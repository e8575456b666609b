"""Numbers as text: with the right form of their noun, and as time."""

from __future__ import annotations

__all__ = ["clock", "counted"]


def counted(number: int, one: str, many: str | None = None) -> str:
    """``"1 epoch"``, ``"1,000 epochs"``; with ``many`` for other words, ``"1 check fails"``, ``"2 checks fail"``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def clock(seconds: float) -> str:
    """Seconds as ``m:ss``, with hours if there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
