"""Scores: the log-probability that a model gives each token of a text, or of a translation of a source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinygrad_attn import Tensor, no_grad
from tinygrad_attn.nn.evaluating import evaluating

from ..data import END, START
from ..interface import LanguageModel

__all__ = ["Score", "TokenScore", "read_and_said", "score"]


@dataclass(frozen=True)
class TokenScore:
    """A token, and how likely the model thought it."""

    symbol: str
    log_probability: float
    """In nats, given what comes before."""


@dataclass(frozen=True)
class Score:
    """The tokens of a text. Without ``<s>`` the first symbol of a text is given, and is not among them."""

    tokens: list[TokenScore]

    @property
    def log_probability(self) -> float:
        """log p(text), in nats: the sum over the tokens."""
        return math.fsum(token.log_probability for token in self.tokens)

    @property
    def perplexity(self) -> float:
        """e^(−log p / tokens); infinite where that is too large for a number."""
        mean = -self.log_probability / max(1, len(self.tokens))
        return math.exp(mean) if mean < 700 else math.inf


def read_and_said(model: LanguageModel, ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """What a model reads of a text, teacher-forced, and what it is to say after each symbol.

    Args:
        model: which says by ``delimited`` whether a text begins with ``<s>`` and ends with ``</s>``.
        ids: of the text, without these.
    """
    return ([START, *ids], [*ids, END]) if model.delimited else (list(ids[:-1]), list(ids[1:]))


def score(
    model: LanguageModel, ids: Sequence[int], symbols: Sequence[str], source: Sequence[int] | None = None
) -> Score:
    """The log-probability of each token, teacher-forced.

    A sentence ends with ``</s>``, which is scored too. Of a text that is longer than the model reads, each window
    begins with the last symbol of the window before.

    Args:
        model: in evaluation mode or not; nothing is dropped.
        ids: of the text, without ``<s>`` and ``</s>``.
        symbols: a name for each id, and of a sentence one for ``</s>``.
        source: of a translator: the ids of the source.
    """
    read, said = read_and_said(model, ids)
    names = symbols if model.delimited else symbols[1:]
    given = []
    if source is not None:
        given = [np.array([source], np.int64), np.ones((1, len(source)), bool)]
    length = max(1, model.context or len(read))
    found: list[float] = []
    with evaluating(model), no_grad():
        for first in range(0, len(read), length):
            window = Tensor(np.array([read[first : first + length]], np.int64))
            logits = model(*map(Tensor, given), window).array[0].astype(np.float64)
            logits -= logits.max(axis=-1, keepdims=True)
            logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            found += logits[np.arange(len(logits)), said[first : first + length]].tolist()
    return Score([TokenScore(name, value) for name, value in zip(names, found, strict=True)])
