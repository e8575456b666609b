"""The outcome of all checks in a few words, for the terminal."""

from __future__ import annotations

from ...console.counts import counted
from ..record.schema import Check

__all__ = ["failing", "verdict_of"]


def verdict_of(check: Check) -> str:
    """``"241 numbers checked out"``, ``"1 check fails"`` or ``"not finite"``."""
    if check["state"] == "good":
        return f"{counted(check['compared'] + check['recomputed'], 'number')} checked out"
    return failing(check) if check["state"] == "bad" else "not finite"


def failing(check: Check) -> str:
    """``"1 check fails"``, ``"2 checks fail"``."""
    return counted(check["failing"], "check fails", "checks fail")
