"""Tokenizer: splits a text into symbols and gives each its id; the registry of tokenizers.

`train_tokenizer` makes one from the training texts, a run stores its ``to_dict()``, and `tokenizer_from_dict` restores
it. A new tokenizer implements `Tokenizer`, most easily as a `RuleTokenizer`, and is registered:

    @register_tokenizer("syllables")
    class SyllableTokenizer(RuleTokenizer): ...

Then ``[data] tokenizer = "syllables"`` in a config chooses it. All files of this folder are imported.
"""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

from tinygrad_attn.registry import Registry

from ..console.working import working
from ..setting import short
from .vocabulary import END, PAD, START, UNKNOWN, Vocabulary

__all__ = [
    "TOKENIZERS",
    "RuleTokenizer",
    "Tokenizer",
    "VocabularyTokenizer",
    "code_of",
    "encode_all",
    "normalise",
    "register_tokenizer",
    "tokenizer_class",
    "tokenizer_from_dict",
    "train_tokenizer",
]


class Tokenizer(Protocol):
    """The methods of every tokenizer, on which batches, decoding and plots rely."""

    name: ClassVar[str]
    needs_size: ClassVar[bool]
    """Whether ``vocabulary_size`` must be given."""

    def __len__(self) -> int:
        """The number of ids, the four control symbols among them."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without ``<s>`` and ``</s>``. None of them is ``PAD``, ``START`` or ``END``."""

    def pieces(self, text: str) -> list[str]:
        """For each id of `encode` the piece of the text that it stands for, also of an unknown symbol."""
        return self.symbols_of(self.encode(text))

    def decode(self, ids: Iterable[int]) -> str:
        """The text up to the first ``</s>``, without ``<pad>`` and ``<s>``; an unknown symbol shows as ``<unk>``."""

    def symbols_of(self, ids: Iterable[int]) -> list[str]:
        """One symbol for each id, control symbols too: the labels of a plot."""

    @staticmethod
    def join(symbols: Sequence[str]) -> str:
        """The text of the symbols."""

    def unknown(self, text: str) -> list[str]:
        """The characters or words of a text that have no id, each once, for a warning."""

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


TOKENIZERS: Registry[type[Tokenizer]] = Registry("tokenizer", package=__package__)

T = TypeVar("T", bound=type[Tokenizer])


def register_tokenizer(name: str) -> Callable[[T], T]:
    """A decorator that registers a class as ``name`` for `train_tokenizer`, `tokenizer_from_dict` and the config.

    Raises:
        ValueError: another tokenizer has that name.
    """

    def register(tokenizer: T) -> T:
        TOKENIZERS.register(name)(tokenizer)
        tokenizer.name = name
        return tokenizer

    return register


def train_tokenizer(
    name: str,
    texts: Iterable[str],
    *,
    lowercase: bool = False,
    min_frequency: int = 1,
    vocabulary_size: int = 0,
    whole_text: bool = False,
) -> Tokenizer:
    """A tokenizer for ``texts``, of the class registered as ``name``; see `Tokenizer.train`.

    With ``whole_text`` it is that for language models, which restores a text with its white space (see
    `VocabularyTokenizer.for_whole_text`).

    Raises:
        ValueError: no tokenizer is registered under ``name``.
    """
    found = tokenizer_class(name, whole_text)
    with working(f"making the vocabulary ({name})"):
        return found.train(texts, lowercase=lowercase, min_frequency=min_frequency, vocabulary_size=vocabulary_size)


def encode_all(tokenizer: Tokenizer, texts: Sequence[str]) -> Sequence[Sequence[int]]:
    """The ids of each text: by the tokenizer's ``encode_all``, if it has one, which is faster than text by text."""
    together = getattr(tokenizer, "encode_all", None)
    found: Sequence[Sequence[int]] = together(texts) if together else [tokenizer.encode(text) for text in texts]
    return found


def code_of(tokenizer: type[Tokenizer]) -> list[str]:
    """What the ids of a text depend on beside the tokenizer's ``to_dict``: its source, and the version of Unicode."""
    modules = [sys.modules.get(owner.__module__) for owner in tokenizer.__mro__]
    files = dict.fromkeys(getattr(module, "__file__", None) for module in modules if module)
    found = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files if file and Path(file).is_file()]
    return [unicodedata.unidata_version, *found]


def tokenizer_from_dict(stored: dict[str, Any]) -> Tokenizer:
    """The tokenizer whose ``to_dict()`` this is.

    Raises:
        ValueError: no tokenizer is registered under the stored name.
    """
    return tokenizer_class(stored["name"], stored.get("whole_text", False)).from_dict(stored)


def tokenizer_class(name: str, whole_text: bool) -> type[Tokenizer]:
    """The class registered as ``name``, or with ``whole_text`` that for language models.

    Raises:
        ValueError: no tokenizer is registered under ``name``.
    """
    if name not in TOKENIZERS:
        raise ValueError(TOKENIZERS.unknown(name))
    found = TOKENIZERS[name]
    other: type[Tokenizer] | None = getattr(found, "for_whole_text", None) if whole_text else None
    return other or found


class VocabularyTokenizer(ABC):
    """A tokenizer whose ids are those of a vocabulary. Subclasses define how to split a text and join symbols."""

    name: ClassVar[str]
    needs_size: ClassVar[bool] = False
    for_whole_text: ClassVar[type[VocabularyTokenizer] | None] = None
    """The tokenizer in this one's place for a language model, whose text must come back with its white space; None if
    this one restores it."""

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

    def pieces(self, text: str) -> list[str]:
        """See `Tokenizer.pieces`; a tokenizer that does not know gives the symbols."""
        return self.symbols_of(self.encode(text))

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

    def unknown(self, text: str) -> list[str]:
        """The words (separated by white space) that contain an unknown symbol, each once."""
        return list(dict.fromkeys(word for word in text.split() if UNKNOWN in self.encode(word)))

    def to_dict(self) -> dict[str, Any]:
        """The registered name and all that ``from_dict`` needs, ready for JSON."""
        whole_text = {"whole_text": True} if type(self) is type(self).for_whole_text else {}
        return {"name": self.name, "lowercase": self.lowercase, **whole_text, **self.vocabulary.to_dict()}


class RuleTokenizer(VocabularyTokenizer):
    """Splits a text by a fixed rule, and looks up the pieces in a vocabulary."""

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
        return self.vocabulary.ids(self.pieces(text))

    def pieces(self, text: str) -> list[str]:
        """See `Tokenizer.pieces`."""
        return self.split(normalise(text, self.lowercase))

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """The tokenizer that ``to_dict`` described."""
        return cls(Vocabulary.from_dict(stored), stored["lowercase"])


def normalise(text: str, lowercase: bool) -> str:
    """NFC, so that a Korean syllable typed as jamo equals the composed one.

    Raises:
        TypeError: no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"expected a text, got {type(text).__name__} {short(text)}; give a str")
    return unicodedata.normalize("NFC", text.lower() if lowercase else text)
