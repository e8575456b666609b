"""Beam search: each step continues the most probable partial translations.

With the length penalty of Wu et al., "Google's Neural Machine Translation System", 2016, section 7: the probability of
a translation falls with its length, so translations are compared by log p(y | x) / lp(y), lp(y) = ((5 + |y|) / 6)^α.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_attn import Tensor, no_grad
from tinygrad_attn.kernels.decoder.likeliest import likeliest, log_normalisers

from ..data import END, START
from ..data.batches import BoolArray, IntArray
from ..interface import Translator
from ..memory import refuse_beyond_memory
from .constraints import UNCONSTRAINED, Constraints
from .states import decoder_of, state_bytes

__all__ = ["Hypothesis", "beam_search"]

# Bytes of a hypothesis beside its state: tokens and scores, as Python objects.
_HYPOTHESIS = 400

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Hypothesis:
    """A translation with its score."""

    tokens: tuple[int, ...]
    """Target ids, without ``<s>`` and ``</s>``."""
    log_probability: float
    """log p of the tokens, and of ``</s>`` if the hypothesis has ended."""
    score: float
    """The log probability divided by the length penalty; |y| counts ``</s>``."""
    ended: bool
    """False if it was cut off at the maximal length."""


def beam_search(
    model: Translator,
    source: IntArray,
    source_mask: BoolArray,
    max_length: int,
    width: int,
    length_penalty: float = 0.0,
    n_best: int = 1,
    constraints: Constraints = UNCONSTRAINED,
    int8: bool = False,
) -> list[list[Hypothesis]]:
    """The best translations that a beam of ``width`` finds; of width 1, greedy decoding's.

    At each step a sentence's hypotheses are extended by every token. Of the best ``width`` extensions, those with
    ``</s>`` are finished; the best ``width`` without ``</s>`` are kept for the next step. A hypothesis is given up, and
    takes no more time, when it can no longer become one of the ``n_best``, whatever follows: its probability only
    falls, and no translation has a larger lp than the longest. A sentence is done when all are given up, not when
    ``width`` hypotheses have finished: a likelier one may still go on. A beam of width 1 is greedy decoding, and ends
    with its hypothesis.

    Args:
        model: in evaluation mode.
        source: (B, S) ids.
        source_mask: (B, S), True where ``source`` holds a token.
        max_length: the most tokens of a translation, ``</s>`` included; longer ones are cut off.
        width: the width of the beam, at least 1.
        length_penalty: α, at least 0; with 0, hypotheses are compared by their probability.
        n_best: how many to return, at most ``width``.
        constraints: what the translations keep to.
        int8: see `tinygrad_attn_models.decoding.states.decoder_of`.

    Returns:
        For each of the B sentences its best hypotheses, the best first, finished ones before those cut off. There are
        fewer than ``n_best`` only if no more translations exist.
    """
    with no_grad():
        state = model.start(model.encode(Tensor(source), Tensor(source_mask)))
        _refuse_too_wide(state, len(source), width)
        search = _Search(len(source), max_length, width, length_penalty, n_best)
        decoder = decoder_of(model, state, len(source) * width, int8)
        token = np.full(len(source), START, dtype=np.int64)
        while len(token):
            tokens, log_probabilities = _likeliest(decoder.step(token), width + 1, search.written, constraints)
            parents = search.advance(tokens, log_probabilities)
            if len(parents):
                decoder.choose(parents)
            token = search.written[:, -1]
    return search.best()


def _refuse_too_wide(state: Any, sentences: int, width: int) -> None:
    """Raise if that many hypotheses need more memory than there is, by their states and tokens."""
    each = state_bytes(state) // sentences + _HYPOTHESIS
    refuse_beyond_memory(
        sentences * width * each,
        f"a beam of width {width:,} for {sentences:,} sentence{'s' if sentences > 1 else ''} at once",
        "lower --beam or --batch-size (decoding.beam, decoding.batch_size)",
    )


class _Search:
    """The search for the translations of B sentences.

    Attributes:
        written: (R, t), the tokens of the R hypotheses that go on, those of a sentence next to each other and the
            likeliest first.
    """

    def __init__(self, sentences: int, max_length: int, width: int, length_penalty: float, n_best: int) -> None:
        self.max_length = max_length
        self.width = width
        self.length_penalty = length_penalty
        self.n_best = n_best
        self.written: IntArray = np.zeros((sentences, 0), np.int64)
        self._sentence: IntArray = np.arange(sentences)  # of each row
        self._totals: FloatArray = np.zeros(sentences)  # the log probability of each row
        self._ended: list[list[Hypothesis]] = [[] for _ in range(sentences)]
        self._cut_off: list[list[Hypothesis]] = [[] for _ in range(sentences)]
        self._least: FloatArray = np.full(sentences, -np.inf)  # the score that a sentence's hypotheses must exceed

    def advance(self, tokens: IntArray, log_probabilities: FloatArray) -> IntArray:
        """Extend each of R hypotheses by its C candidate tokens, (R, C), and keep the best.

        Returns:
            For each hypothesis that goes on the row (of R) that it extends; empty if the search is over.
        """
        rows, columns, totals = self._ranked(log_probabilities)
        token = tokens[rows, columns]
        going_on = (token != END) & (totals > -np.inf)
        going_on &= np.cumsum(going_on, axis=1) <= self.width
        ending = (token == END) & (totals > -np.inf)
        ending[:, self.width :] = False
        if self.width == 1:
            going_on &= ~ending.any(axis=1, keepdims=True)
        for row, total in zip(rows[ending].tolist(), totals[ending].tolist(), strict=True):
            self._end(row, total)
        if self.written.shape[1] + 1 == self.max_length:
            for row, last, total in zip(rows[going_on], token[going_on].tolist(), totals[going_on], strict=True):
                found = self._hypothesis((*self.written[row].tolist(), last), float(total), ended=False)
                self._cut_off[self._sentence[row]].append(found)
            going_on[...] = False
        going_on &= totals / self._penalty(self.max_length) > self._least[self._sentence[rows[:, 0]], None]
        parents = rows[going_on]
        self.written = np.concatenate([self.written[parents], token[going_on][:, None]], axis=1)
        self._totals, self._sentence = totals[going_on], self._sentence[parents]
        return parents

    def best(self) -> list[list[Hypothesis]]:
        """Of each sentence the best hypotheses found, at most ``n_best``."""
        return [
            [*ended, *sorted(cut_off, key=_score, reverse=True)][: self.n_best]
            for ended, cut_off in zip(self._ended, self._cut_off, strict=True)
        ]

    def _ranked(self, log_probabilities: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
        """For each of the sentences that go on, the best 2 * width of its extensions, the best first, equals in order.

        Returns:
            The row and the column of each, and its log probability; where there are fewer, -inf.
        """
        (firsts,) = np.nonzero(np.diff(self._sentence, prepend=-1))
        counts = np.diff(firsts, append=len(self._sentence))
        place = np.arange(len(self._sentence)) - np.repeat(firsts, counts)
        number = np.repeat(np.arange(len(firsts)), counts)
        candidates = log_probabilities.shape[1]
        totals = np.full((len(firsts), int(counts.max()), candidates), -np.inf)
        totals[number, place] = self._totals[:, None] + log_probabilities
        totals = totals.reshape(len(firsts), -1)
        order = np.argsort(-totals, axis=1, kind="stable")[:, : 2 * self.width]
        parent, column = np.divmod(order, candidates)
        # Where there is no such row, the total is -inf.
        rows = np.minimum(firsts[:, None] + parent, len(self._sentence) - 1)
        return rows, column, np.take_along_axis(totals, order, axis=1)

    def _end(self, row: int, total: float) -> None:
        """Note that the hypothesis of a row has ended, and how good another one of its sentence must be from now on."""
        sentence = self._sentence[row]
        ended = self._ended[sentence]
        ended.append(self._hypothesis(tuple(self.written[row].tolist()), total, ended=True))
        ended.sort(key=_score, reverse=True)
        del ended[self.n_best :]
        if len(ended) == self.n_best:
            self._least[sentence] = ended[-1].score

    def _hypothesis(self, tokens: tuple[int, ...], log_probability: float, ended: bool) -> Hypothesis:
        score = log_probability / self._penalty(len(tokens) + ended)
        return Hypothesis(tokens, log_probability, score, ended)

    def _penalty(self, length: int) -> float:
        """lp = ((5 + |y|) / 6)^α."""
        return float(((5.0 + length) / 6.0) ** self.length_penalty)


def _score(hypothesis: Hypothesis) -> float:
    return hypothesis.score


def _likeliest(
    logits: np.ndarray[Any, Any], count: int, written: IntArray, constraints: Constraints
) -> tuple[IntArray, FloatArray]:
    """The ``count`` likeliest next tokens of each row of logits (R, V), and their log probabilities: both (R, count).

    Of equal logits the first is chosen, as argmax does. What the constraints forbid after the tokens that are written
    has probability 0; the logits are overwritten. Different logits have different log probabilities: these are float64.
    """
    normalisers = log_normalisers(logits)
    constraints.apply(logits, written)
    tokens, values = likeliest(logits, min(count, logits.shape[1]))
    return tokens, values - normalisers[:, None]
