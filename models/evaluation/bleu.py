"""Corpus BLEU and chrF by sacrebleu, each with the signature that says how it was computed.

Post, "A Call for Clarity in Reporting BLEU Scores", 2018.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from ..console.counts import counted
from ..console.errors import UserError
from ..console.working import working
from ..data import Tokenizer, normalise
from ..data.corpus import Pair
from ..decoding.unknown import Detokenizer
from ..interface import Translator
from ..runs.config import Config, DecodingConfig

__all__ = ["BleuSettings", "CorpusScore", "References", "bleu", "chrf"]

_PACKAGES = {"ko-mecab": "'sacrebleu[ko]'", "ja-mecab": "'sacrebleu[ja]'", "spm": "sentencepiece"}


@dataclass(frozen=True)
class CorpusScore:
    """A figure from 0 to 100, and sacrebleu's description of how it was computed."""

    score: float
    signature: str


@dataclass(frozen=True)
class BleuSettings:
    """How texts are compared."""

    tokenizer: str = "13a"
    """One of `models.runs.bleu_tokenizers.BLEU_TOKENIZERS`."""
    lowercase: bool = False
    """Compare without case."""

    @classmethod
    def fitting(cls, config: Config) -> BleuSettings:
        """A run's: its ``training.bleu_tokenizer``, or that of its task; case as the model has it."""
        return cls(config.training.bleu_tokenizer or config.pairs.bleu_tokenizer, config.data.lowercase)

    def metric(self, short: bool = False) -> Any:
        """sacrebleu's metric; see `bleu` for ``short``.

        Raises:
            UserError: the tokenizer needs a package that is not installed, or a model that cannot be downloaded.
        """
        from sacrebleu.metrics import BLEU

        logging.getLogger("sacrebleu").setLevel(logging.ERROR)  # its notes are about its own command line
        try:
            return BLEU(tokenize=self.tokenizer, lowercase=self.lowercase, effective_order=short, force=True)
        except (ImportError, RuntimeError) as error:
            packages = _PACKAGES.get(self.tokenizer, "sacrebleu")
            raise UserError(
                f"the BLEU tokenizer {self.tokenizer!r} needs packages that are not installed; pip install {packages}"
            ) from error
        except OSError as error:
            raise UserError(
                f"the BLEU tokenizer {self.tokenizer!r} needs a model that sacrebleu downloads at the first use, and "
                f"that failed: {getattr(error, 'reason', error)}"
            ) from error


@dataclass(frozen=True)
class References:
    """The texts that translations (ids) are compared with."""

    texts: Sequence[str]
    sources: Sequence[str]
    source: Tokenizer
    target: Tokenizer
    """Of the translations."""
    settings: BleuSettings

    @classmethod
    def of(cls, pairs: Sequence[Pair], source: Tokenizer, target: Tokenizer, settings: BleuSettings) -> Self:
        """The targets of pairs, as tokenizers see them.

        Raises:
            UserError: the settings' tokenizer cannot be had; see `BleuSettings.metric`.
        """
        settings.metric()
        texts = [normalise(reference, lowercase=False) for _, reference in pairs]
        return cls(texts, [text for text, _ in pairs], source, target, settings)

    def bleu(self, model: Translator, translations: Sequence[Sequence[int]], decoding: DecodingConfig) -> CorpusScore:
        """BLEU of the translations of all texts, in their order, as ``decoding.unknown`` makes texts of them."""
        text_of = Detokenizer(model, self.source, self.target, decoding).text
        translated = [text_of(*pair) for pair in zip(self.sources, translations, strict=True)]
        return bleu(translated, self.texts, self.settings)


def bleu(
    translations: Sequence[str], references: Sequence[str], settings: BleuSettings, short: bool = False
) -> CorpusScore:
    """BLEU of a corpus: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", 2002.

    Args:
        translations, references: equally many, at least one.
        settings: how they are compared.
        short: use only n-grams up to the length of the sentences (sacrebleu's "effective order"). Without it, the BLEU
            of sentences that all have fewer than four words is 0.
    """
    return _score(settings.metric(short), translations, references)


def chrf(translations: Sequence[str], references: Sequence[str], settings: BleuSettings) -> CorpusScore:
    """chrF of a corpus: Popović, "chrF: character n-gram F-score for automatic MT evaluation", 2015."""
    from sacrebleu.metrics import CHRF

    return _score(CHRF(lowercase=settings.lowercase), translations, references)


def _score(metric: Any, translations: Sequence[str], references: Sequence[str]) -> CorpusScore:
    with working(f"comparing {counted(len(translations), 'translation')} with the references"):
        score = float(metric.corpus_score(list(translations), [list(references)]).score)
    return CorpusScore(score, str(metric.get_signature()))
