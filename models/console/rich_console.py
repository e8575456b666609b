"""The console of rich on which tables and bars are drawn."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["make_console"]


def make_console(*, stderr: bool = False) -> Console:
    """A console on standard output or standard error.

    Under NO_COLOR it writes no escapes but those that move the cursor or clear a line; rich alone keeps bold and dim.
    """
    from rich.console import Console

    return Console(stderr=stderr, color_system=None if os.environ.get("NO_COLOR") else "auto")
