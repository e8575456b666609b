"""One symbol a character."""

from __future__ import annotations

from collections.abc import Sequence

from .tokenizer import RuleTokenizer, register_tokenizer
from .vocabulary import UNKNOWN

__all__ = ["CharacterTokenizer"]


@register_tokenizer("characters")
class CharacterTokenizer(RuleTokenizer):
    """One symbol a code point, white space too. A Korean syllable is one symbol, since text is normalised to NFC."""

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
