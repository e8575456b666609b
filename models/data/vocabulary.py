"""From text to ids and back: the vocabulary, and the tokenizers by name.

A tokenizer cuts a text into symbols and gives each its id. ``train_tokenizer`` makes one from the training texts, a
run stores its ``to_dict()``, and ``tokenizer_from_dict`` restores it. A further kind of tokenizer implements
`Tokenizer` and registers itself with ``@register_tokenizer(name)``.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Protocol, Self, TypeVar

__all__ = [
    "CONTROL_SYMBOLS",
    "END",
    "PAD",
    "START",
    "TOKENIZERS",
    "UNKNOWN",
    "CharacterTokenizer",
    "Tokenizer",
    "Vocabulary",
    "VocabularyTokenizer",
    "WordTokenizer",
    "normalise",
    "register_tokenizer",
    "split_words",
    "tokenizer_from_dict",
    "train_tokenizer",
]

PAD, START, END, UNKNOWN = range(4)
CONTROL_SYMBOLS = ("<pad>", "<s>", "</s>", "<unk>")
JOINER = "￭"


class Vocabulary:
    """Symbols by id: the four control symbols first, then those of the text.

    The control symbols are never looked up by their spelling, so a ``<s>`` in a text is a symbol of its own or unknown,
    and cannot start a sentence.

    Args:
        symbols: the symbols of the text, without the control symbols, in the order of their ids.

    Raises:
        ValueError: a symbol comes twice.
    """

    def __init__(self, symbols: Iterable[str]) -> None:
        self.symbols: tuple[str, ...] = (*CONTROL_SYMBOLS, *symbols)
        self._ids = {symbol: number for number, symbol in enumerate(self.symbols) if number >= len(CONTROL_SYMBOLS)}
        if len(self._ids) + len(CONTROL_SYMBOLS) != len(self.symbols):
            twice = [symbol for symbol, count in Counter(self.symbols[len(CONTROL_SYMBOLS) :]).items() if count > 1]
            raise ValueError(f"Vocabulary: these symbols come more than once: {twice[:10]}")

    @classmethod
    def count(cls, sequences: Iterable[Iterable[str]], min_frequency: int = 1, size: int = 0) -> Self:
        """The symbols that occur at least ``min_frequency`` times: the most frequent first, equals by code point.

        With the control symbols they are at most ``size``; 0 sets no limit.
        """
        frequency = Counter(symbol for sequence in sequences for symbol in sequence)
        kept = [symbol for symbol, count in frequency.items() if count >= min_frequency]
        kept.sort(key=lambda symbol: (-frequency[symbol], symbol))
        return cls(kept[: max(size - len(CONTROL_SYMBOLS), 0)] if size else kept)

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._ids

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} symbols)"

    def ids(self, symbols: Iterable[str]) -> list[int]:
        """The id of each symbol; ``UNKNOWN`` for one that is not in the vocabulary."""
        return [self._ids.get(symbol, UNKNOWN) for symbol in symbols]

    def to_dict(self) -> dict[str, Any]:
        """The text's symbols, ready for JSON."""
        return {"symbols": list(self.symbols[len(CONTROL_SYMBOLS) :])}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """The vocabulary that ``to_dict`` described."""
        return cls(stored["symbols"])


class Tokenizer(Protocol):
    """What batches, decoding and plots need to know of a tokenizer."""

    name: ClassVar[str]

    def __len__(self) -> int:
        """The number of ids, the four control symbols among them."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without ``<s>`` and ``</s>``. None of them is ``PAD``, ``START`` or ``END``."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text up to the first ``</s>``, without ``<pad>`` and ``<s>``; an unknown symbol shows as ``<unk>``."""

    def symbols_of(self, ids: Iterable[int]) -> list[str]:
        """One symbol for each id, control symbols too: the labels of a plot."""

    def to_dict(self) -> dict[str, Any]:
        """The registered name, as ``"name"``, and all that ``from_dict`` needs, ready for JSON."""

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """The tokenizer that ``to_dict`` described."""

    @classmethod
    def train(
        cls, texts: Iterable[str], *, lowercase: bool = False, min_frequency: int = 1, vocabulary_size: int = 0
    ) -> Self:
        """A tokenizer with the symbols of ``texts`` that occur at least ``min_frequency`` times.

        With the control symbols they are at most ``vocabulary_size``; 0 sets no limit.
        """


TOKENIZERS: dict[str, type[Tokenizer]] = {}
T = TypeVar("T", bound=type[Tokenizer])


def register_tokenizer(name: str) -> Callable[[T], T]:
    """Make a class known as ``name`` to ``train_tokenizer``, ``tokenizer_from_dict`` and the config."""

    def register(tokenizer: T) -> T:
        if name in TOKENIZERS:
            raise ValueError(f"a tokenizer named {name!r} is registered already: {TOKENIZERS[name].__qualname__}")
        tokenizer.name = name
        TOKENIZERS[name] = tokenizer
        return tokenizer

    return register


def train_tokenizer(
    name: str, texts: Iterable[str], *, lowercase: bool = False, min_frequency: int = 1, vocabulary_size: int = 0
) -> Tokenizer:
    """A tokenizer of the kind ``name`` for ``texts``; see `Tokenizer.train`.

    Raises:
        ValueError: no tokenizer is registered under ``name``.
    """
    return _tokenizer_class(name).train(
        texts, lowercase=lowercase, min_frequency=min_frequency, vocabulary_size=vocabulary_size
    )


def tokenizer_from_dict(stored: dict[str, Any]) -> Tokenizer:
    """The tokenizer whose ``to_dict()`` this is.

    Raises:
        ValueError: no tokenizer is registered under the stored name.
    """
    return _tokenizer_class(stored["name"]).from_dict(stored)


def _tokenizer_class(name: str) -> type[Tokenizer]:
    if name not in TOKENIZERS:
        raise ValueError(f"no tokenizer is named {name!r}; there are {', '.join(sorted(TOKENIZERS))}")
    return TOKENIZERS[name]


class VocabularyTokenizer(ABC):
    """A tokenizer whose ids are those of a vocabulary. Subclasses say how to cut a text and how to join symbols."""

    name: ClassVar[str]

    def __init__(self, vocabulary: Vocabulary, lowercase: bool = False) -> None:
        self.vocabulary = vocabulary
        self.lowercase = lowercase

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text, without ``<s>`` and ``</s>``."""

    @staticmethod
    @abstractmethod
    def join(symbols: Sequence[str]) -> str:
        """The text of the symbols."""

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.vocabulary!r}, lowercase={self.lowercase})"

    def decode(self, ids: Iterable[int]) -> str:
        """The text up to the first ``</s>``, without ``<pad>`` and ``<s>``; an unknown symbol shows as ``<unk>``."""
        kept = []
        for number in ids:
            if number == END:
                break
            if number not in (PAD, START):
                kept.append(int(number))
        return self.join(self.symbols_of(kept))

    def symbols_of(self, ids: Iterable[int]) -> list[str]:
        """One symbol for each id, control symbols too."""
        return [self.vocabulary.symbols[number] for number in ids]

    def to_dict(self) -> dict[str, Any]:
        """The registered name and all that ``from_dict`` needs, ready for JSON."""
        return {"name": self.name, "lowercase": self.lowercase, **self.vocabulary.to_dict()}


class _RuleTokenizer(VocabularyTokenizer):
    """Cuts a text by a rule that is the same for all texts, and looks the pieces up."""

    @staticmethod
    @abstractmethod
    def split(text: str) -> list[str]:
        """The symbols of a normalised text."""

    @classmethod
    def train(
        cls, texts: Iterable[str], *, lowercase: bool = False, min_frequency: int = 1, vocabulary_size: int = 0
    ) -> Self:
        """See `Tokenizer.train`."""
        sequences = (cls.split(normalise(text, lowercase)) for text in texts)
        return cls(Vocabulary.count(sequences, min_frequency, vocabulary_size), lowercase)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without ``<s>`` and ``</s>``."""
        return self.vocabulary.ids(self.split(normalise(text, self.lowercase)))

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """The tokenizer that ``to_dict`` described."""
        return cls(Vocabulary.from_dict(stored), stored["lowercase"])


@register_tokenizer("characters")
class CharacterTokenizer(_RuleTokenizer):
    """One symbol a code point, white space too. A Korean syllable is one symbol, since text is normalised to NFC."""

    @staticmethod
    def split(text: str) -> list[str]:
        """The code points of a normalised text."""
        return list(text)

    @staticmethod
    def join(symbols: Sequence[str]) -> str:
        """The symbols one after the other."""
        return "".join(symbols)


@register_tokenizer("words")
class WordTokenizer(_RuleTokenizer):
    """One symbol a word or punctuation mark; decoding restores the text but for the amount of white space.

    See `split_words` for the symbols.
    """

    @staticmethod
    def split(text: str) -> list[str]:
        """The words and marks of a normalised text."""
        return split_words(text)

    @staticmethod
    def join(symbols: Sequence[str]) -> str:
        """The words with a space between them, but none where a joiner stands."""
        return " ".join(symbols).replace(f" {JOINER}", "").replace(f"{JOINER} ", "").replace(JOINER, "")


def split_words(text: str) -> list[str]:
    """The words and punctuation marks of a text.

    A word is a run of letters, digits and combining marks; any other character but white space is a mark of its own.
    A mark that touches its neighbour says so with the joiner ``￭``, as OpenNMT's tokenizer does, which makes the split
    reversible: ``"don't go."`` becomes ``don``, ``￭'￭``, ``t``, ``go``, ``￭.``. A joiner in the text becomes ``■``.
    """
    text = text.replace(JOINER, "■")
    symbols: list[str] = []
    previous = " "  # the kind of the character before: white space, a mark or part of a word
    for character in text:
        kind = " " if character.isspace() else "word" if unicodedata.category(character)[0] in "LMN" else "mark"
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


def normalise(text: str, lowercase: bool) -> str:
    """NFC, so that a Korean syllable typed as jamo equals the composed one."""
    return unicodedata.normalize("NFC", text.lower() if lowercase else text)
