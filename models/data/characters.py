"""One symbol a character."""

from __future__ import annotations

from collections.abc import Sequence

from .tokenizer import RuleTokenizer, register_tokenizer

__all__ = ["CharacterTokenizer"]


@register_tokenizer("characters")
class CharacterTokenizer(RuleTokenizer):
    """One symbol a code point, white space too. A Korean syllable is one symbol, since text is normalised to NFC."""

    @staticmethod
    def split(text: str) -> list[str]:
        """The code points of a normalised text."""
        return list(text)

    @staticmethod
    def join(symbols: Sequence[str]) -> str:
        """The symbols one after the other."""
        return "".join(symbols)
