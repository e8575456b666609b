"""Byte pair encoding: frequent words are one symbol, rare ones several.

Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units", 2016: start with the
characters, and repeatedly merge the most frequent pair of adjacent symbols into one. The package ``tokenizers`` counts
pairs and applies merges; this module normalises, splits into words, and assigns the ids.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Self

from .tokenizer import VocabularyTokenizer, normalise, register_tokenizer
from .vocabulary import CONTROL_SYMBOLS, UNKNOWN, Vocabulary

__all__ = ["BPETokenizer", "TextBPETokenizer"]

SPACE = "▁"
_LOOK = 0.2  # seconds between two looks for Ctrl-C
_LARGEST = 1 << 20  # symbols for which there is always room


@register_tokenizer("bpe")
class BPETokenizer(VocabularyTokenizer):
    """One symbol for each frequent piece of a word, by `merges`; ``▁`` stands for the blank before a word.

    Merges stay within words and do not join a word with punctuation. Decoding restores the text except for the amount
    of white space; a ``▁`` in the text becomes ``_``. A character that is not in the training text is unknown. For
    language models there is `TextBPETokenizer`.

    Args:
        vocabulary: the characters and the merged symbols.
        merges: the pairs of symbols that become one, in the order in which they are applied.
        lowercase: make all text lower case.
    """

    needs_size: ClassVar[bool] = True

    def __init__(self, vocabulary: Vocabulary, merges: Sequence[tuple[str, str]], lowercase: bool = False) -> None:
        super().__init__(vocabulary, lowercase)
        self.merges = list(merges)
        from tokenizers import Tokenizer, models

        symbols = vocabulary.symbols[len(CONTROL_SYMBOLS) :]
        # The unknown symbol for `tokenizers`, at its id 0: longer than any, so that no text can spell it.
        unknown = "?" * (1 + max(map(len, symbols), default=0))
        ids = {piece: number for number, piece in enumerate([unknown, *symbols])}
        self._tokenizer = Tokenizer(models.BPE(vocab=ids, merges=self.merges, unk_token=unknown))
        self._tokenizer.pre_tokenizer = self._cuts()

    @classmethod
    def train(
        cls, texts: Iterable[str], *, lowercase: bool = False, min_frequency: int = 1, vocabulary_size: int = 0
    ) -> Self:
        """The merges of pairs that occur at least ``min_frequency`` times, until there are ``vocabulary_size`` symbols.

        All characters of ``texts`` are symbols, unless they alone are more than ``vocabulary_size``: the rarest are
        left out then.
        """
        from tokenizers import Tokenizer, models, trainers

        plain: Iterable[str] = (cls._plain(text, lowercase) for text in texts)
        size = max(vocabulary_size - len(CONTROL_SYMBOLS), 0) if vocabulary_size else sys.maxsize
        if size > _LARGEST:
            # The package reserves room for all. Each merge joins two symbols of the text, so there are fewer merges
            # than characters, ``▁`` among them.
            plain = list(plain)
            size = min(size, 2 * sum(len(text) + 1 for text in plain))
        trainer = trainers.BpeTrainer(
            vocab_size=size, limit_alphabet=size, min_frequency=min_frequency, show_progress=False
        )
        trained = Tokenizer(models.BPE())
        trained.pre_tokenizer = cls._cuts()
        _until_interrupted(plain, lambda texts: trained.train_from_iterator(texts, trainer))
        model = json.loads(trained.to_str())["model"]
        symbols = sorted(model["vocab"], key=model["vocab"].__getitem__)
        return cls(Vocabulary(symbols), [(first, second) for first, second in model["merges"]], lowercase)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without ``<s>`` and ``</s>``."""
        ids = self._tokenizer.encode(self._plain(text, self.lowercase)).ids
        return [number + UNKNOWN for number in ids]  # their unknown piece is 0

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, as `encode` gives them, of many texts at once."""
        encoded = self._tokenizer.encode_batch_fast([self._plain(text, self.lowercase) for text in texts])
        return [[number + UNKNOWN for number in found.ids] for found in encoded]

    def pieces(self, text: str) -> list[str]:
        """See `Tokenizer.pieces`."""
        plain = self._plain(text, self.lowercase)
        found = self._tokenizer.encode(plain)
        cuts = zip(found.ids, found.tokens, found.offsets, strict=True)
        return [plain[start:end].strip() if not number else piece for number, piece, (start, end) in cuts]

    @staticmethod
    def join(symbols: Sequence[str]) -> str:
        """The symbols one after the other, a blank for each ``▁``."""
        return "".join(symbols).replace(SPACE, " ").strip()

    def to_dict(self) -> dict[str, Any]:
        """The registered name and all that ``from_dict`` needs, ready for JSON."""
        return {**super().to_dict(), "merges": [list(pair) for pair in self.merges]}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """See `Tokenizer.from_dict`."""
        merges = [(first, second) for first, second in stored["merges"]]
        return cls(Vocabulary.from_dict(stored), merges, stored["lowercase"])

    @staticmethod
    def _plain(text: str, lowercase: bool) -> str:
        """Normalised, with single blanks and no ``▁``."""
        return " ".join(normalise(text, lowercase).replace(SPACE, "_").split())

    @staticmethod
    def _cuts() -> Any:
        """Cuts before each blank, which becomes ``▁``, and around each punctuation mark."""
        from tokenizers import pre_tokenizers

        words = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=True)
        return pre_tokenizers.Sequence([words, pre_tokenizers.Punctuation(behavior="isolated")])


def _until_interrupted(texts: Iterable[str], train: Callable[[Iterable[str]], None]) -> None:
    """``train(texts)``, which ends at the next text after Ctrl-C: the package itself does not look for signals."""
    stopped = threading.Event()
    errors: list[BaseException] = []

    def given() -> Iterator[str]:
        for text in texts:
            if stopped.is_set():
                raise InterruptedError
            yield text

    def work() -> None:
        try:
            train(given())
        except BaseException as error:  # raised again in the thread that waits
            errors.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        while worker.is_alive():
            worker.join(_LOOK)
    finally:
        stopped.set()
        worker.join()
    if errors:
        raise errors[0]


class TextBPETokenizer(BPETokenizer):
    """`BPETokenizer` for the text of a language model, which decoding restores to the last character, normalised.

    A symbol is a piece of a word with the blank before it, of a sequence of marks, or of white space, cut as GPT-2's
    are (Radford et al. 2019) but for English contractions; all are written as they stand in the text.
    """

    def pieces(self, text: str) -> list[str]:
        """See `Tokenizer.pieces`."""
        plain = self._plain(text, self.lowercase)
        return [plain[start:end] for start, end in self._tokenizer.encode(plain).offsets]

    def unknown(self, text: str) -> list[str]:
        """The unknown characters, each once."""
        found = zip(self.encode(text), self.pieces(text), strict=True)
        return list(dict.fromkeys(piece for number, piece in found if number == UNKNOWN))

    @staticmethod
    def join(symbols: Sequence[str]) -> str:
        """The symbols one after the other."""
        return "".join(symbols)

    @staticmethod
    def _plain(text: str, lowercase: bool) -> str:
        return normalise(text, lowercase)

    @staticmethod
    def _cuts() -> Any:
        from tokenizers import Regex, pre_tokenizers

        word, mark = r"[\p{L}\p{M}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]"
        return pre_tokenizers.Split(Regex(rf" ?{word}+| ?{mark}+|\s+(?!\S)|\s+"), behavior="isolated")


BPETokenizer.for_whole_text = TextBPETokenizer
