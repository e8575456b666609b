"""UserError, raised for a user's mistake, and the exit codes of commands."""

from __future__ import annotations

__all__ = ["CHECK_FAILED", "INTERRUPTED", "PIPE_CLOSED", "USER_ERROR", "CommandError", "UserError"]

CHECK_FAILED, USER_ERROR = 1, 2
INTERRUPTED, PIPE_CLOSED = 128 + 2, 128 + 13  # as shells count the signals SIGINT and SIGPIPE
"""Exit codes, beside 0 for success."""


class UserError(ValueError):
    """A request that cannot be carried out; the message says what to change.

    The command line prints it as one line and exits with `USER_ERROR`.
    """


class CommandError(UserError):
    """Something on the command line that cannot be done."""
