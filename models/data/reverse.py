"""The reverse task: lists of the integers 0 to 49, translated to the reversed list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..setting import constant
from .sequences import SequenceTask
from .task import register_task

__all__ = ["Reverse"]


@register_task
@dataclass(frozen=True)
class Reverse(SequenceTask):
    """Integers to reverse."""

    symbols = tuple(str(number) for number in range(50))
    separator = " "
    bleu_tokenizer = "none"

    kind: str = constant("reverse")

    def answer(self, symbols: Sequence[str]) -> Sequence[str]:
        """The last symbol first."""
        return symbols[::-1]
