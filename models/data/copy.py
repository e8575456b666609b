"""The copy task: strings of the letters a to z, translated to themselves."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from ..setting import constant
from .sequences import SequenceTask
from .task import register_task

__all__ = ["Copy"]


@register_task
@dataclass(frozen=True)
class Copy(SequenceTask):
    """Letters to copy."""

    symbols = tuple(string.ascii_lowercase)

    kind: str = constant("copy")

    def answer(self, symbols: Sequence[str]) -> Sequence[str]:
        """The symbols themselves."""
        return symbols
