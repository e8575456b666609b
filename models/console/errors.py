"""The error of the command line, and the exit codes of commands that do not succeed, below all that need them."""

from __future__ import annotations

__all__ = ["CHECK_FAILED", "USER_ERROR", "CommandError"]

CHECK_FAILED, USER_ERROR = 1, 2
"""Exit codes, beside 0 for success."""


class CommandError(ValueError):
    """Something on the command line that cannot be done."""
