"""What a user's mistake raises, and the exit codes of commands that do not succeed, below all that need them."""

from __future__ import annotations

__all__ = ["CHECK_FAILED", "INTERRUPTED", "PIPE_CLOSED", "USER_ERROR", "CommandError", "UserError"]

CHECK_FAILED, USER_ERROR = 1, 2
INTERRUPTED, PIPE_CLOSED = 128 + 2, 128 + 13  # as shells count the signals SIGINT and SIGPIPE
"""Exit codes, beside 0 for success."""


class UserError(ValueError):
    """Something that the user asked for cannot be done; the message says what to change.

    The command line prints it as one line and exits with `USER_ERROR`.
    """


class CommandError(UserError):
    """Something on the command line that cannot be done."""
