"""The tokenizer with one symbol for each character."""

from __future__ import annotations

from collections.abc import Sequence

from .tokenizer import RuleTokenizer, register_tokenizer
from .vocabulary import UNKNOWN

__all__ = ["CharacterTokenizer"]


@register_tokenizer("characters")
class CharacterTokenizer(RuleTokenizer):
    """One symbol for each code point, white space included. A Korean syllable is one, since text is NFC-normalised."""

    @staticmethod
    def split(text: str) -> list[str]:
        """The code points of a normalised text."""
        return list(text)

    def unknown(self, text: str) -> list[str]:
        """The unknown characters, each once."""
        return list(dict.fromkeys(character for character in text if UNKNOWN in self.encode(character)))

    @staticmethod
    def join(symbols: Sequence[str]) -> str:
        """The symbols one after the other."""
        return "".join(symbols)
