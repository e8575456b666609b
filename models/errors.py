"""The error of the command line, below all that raise it."""

from __future__ import annotations

__all__ = ["CommandError"]


class CommandError(ValueError):
    """Something on the command line that cannot be done."""
