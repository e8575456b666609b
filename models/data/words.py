"""The tokenizer with one symbol for each word or punctuation mark."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence

from .tokenizer import RuleTokenizer, register_tokenizer

__all__ = ["TextWordTokenizer", "WordTokenizer", "split_words"]

JOINER = "￭"


@register_tokenizer("words")
class WordTokenizer(RuleTokenizer):
    """One symbol for each word or punctuation mark; decoding restores the text except the amount of white space.

    See `split_words` for the symbols.
    """

    @staticmethod
    def split(text: str) -> list[str]:
        """The words and marks of a normalised text."""
        return split_words(text)

    @staticmethod
    def join(symbols: Sequence[str]) -> str:
        """The words with a space between them, except at a joiner."""
        return " ".join(symbols).replace(f" {JOINER}", "").replace(f"{JOINER} ", "").replace(JOINER, "")


class TextWordTokenizer(WordTokenizer):
    """`WordTokenizer` for the text of a language model, which decoding restores to the last character, normalised.

    Each word is a symbol, and so is every other character, white space included.
    """

    @staticmethod
    def split(text: str) -> list[str]:
        """The words, and the characters between them."""
        groups = itertools.groupby(text, _is_of_word)
        return [symbol for of_word, group in groups for symbol in (["".join(group)] if of_word else group)]

    def unknown(self, text: str) -> list[str]:
        """The unknown words and characters, each once."""
        return [piece for piece in dict.fromkeys(self.pieces(text)) if piece not in self.vocabulary]

    @staticmethod
    def join(symbols: Sequence[str]) -> str:
        """The symbols one after the other."""
        return "".join(symbols)


WordTokenizer.for_whole_text = TextWordTokenizer


def _is_of_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def split_words(text: str) -> list[str]:
    """The words and punctuation marks of a text.

    A word is a sequence of letters, digits and combining marks; every other character except white space is a mark.
    A mark has the joiner ``￭`` on each side where no white space separates it from its neighbour, as in OpenNMT's
    tokenizer, which makes the split reversible: ``"don't go."`` becomes ``don``, ``￭'￭``, ``t``, ``go``, ``￭.``. A
    joiner in the text becomes ``■``.
    """
    text = text.replace(JOINER, "■")
    symbols: list[str] = []
    previous = " "  # of the character before: " " for white space, "mark" or "word"
    for character in text:
        kind = " " if character.isspace() else "word" if _is_of_word(character) else "mark"
        if kind == "mark":
            symbols.append(character if previous == " " else JOINER + character)
        elif kind == "word":
            if previous == "word":
                symbols[-1] += character
            else:
                if previous == "mark":
                    symbols[-1] += JOINER
                symbols.append(character)
        previous = kind
    return symbols
