"""Beam search: each step continues the most probable partial translations.

With the length penalty of Wu et al., "Google's Neural Machine Translation System", 2016, section 7: the probability of
a translation falls with its length, so translations are compared by log p(y | x) / lp(y), lp(y) = ((5 + |y|) / 6)^α.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_attn import Tensor, no_grad

from ..data import END, START
from ..data.batches import BoolArray, IntArray
from ..interface import Translator
from ..memory import refuse_beyond_memory
from .constraints import UNCONSTRAINED, Constraints
from .states import Rows, state_bytes

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
) -> list[list[Hypothesis]]:
    """The best translations that a beam of ``width`` finds; of width 1, greedy decoding's.

    At each step a sentence's hypotheses are extended by every token. Of the best ``width`` extensions, those with
    ``</s>`` are finished; the best ``width`` without ``</s>`` are kept for the next step. A sentence is done, and takes
    no more time, when ``width`` hypotheses are finished, or when no other can become one of the ``n_best``.

    Args:
        model: in evaluation mode.
        source: (B, S) ids.
        source_mask: (B, S), True where ``source`` holds a token.
        max_length: the most tokens of a translation, ``</s>`` included; longer ones are cut off.
        width: the width of the beam, at least 1.
        length_penalty: α, at least 0; with 0, hypotheses are compared by their probability.
        n_best: how many to return, at most ``width``.
        constraints: what the translations keep to.

    Returns:
        For each of the B sentences its best hypotheses, the best first, finished ones before those cut off. There are
        fewer than ``n_best`` only if no more translations exist.
    """
    with no_grad():
        state = model.start(model.encode(Tensor(source), Tensor(source_mask)))
        _refuse_too_wide(state, len(source), width)
        rows = Rows(state)
        searches = [_Search(max_length, width, length_penalty, n_best) for _ in source]
        active = searches
        token = np.full(len(source), START, dtype=np.int64)
        while active:
            logits, state, _ = model.step(state, Tensor(token))
            written = [tokens for search in active for tokens in search.active]
            tokens, log_probabilities = _likeliest(logits.array, width + 1, written, constraints)
            parents = []
            first = 0
            for search in active:
                end = first + len(search.active)
                parents += [first + row for row in search.advance(tokens[first:end], log_probabilities[first:end])]
                first = end
            active = [search for search in active if search.active]
            if active:
                state = rows.choose(state, np.array(parents))
                token = np.array([tokens[-1] for search in active for tokens in search.active])
    return [search.best() for search in searches]


def _refuse_too_wide(state: Any, sentences: int, width: int) -> None:
    """Raise if that many hypotheses need more memory than there is, by their states and tokens."""
    each = state_bytes(state) // sentences + _HYPOTHESIS
    refuse_beyond_memory(
        sentences * width * each,
        f"a beam of width {width:,} for {sentences:,} sentence{'s' if sentences > 1 else ''} at once",
        "lower --beam or --batch-size (decoding.beam, decoding.batch_size)",
    )


class _Search:
    """The search for one sentence's translations."""

    def __init__(self, max_length: int, width: int, length_penalty: float, n_best: int) -> None:
        self.max_length = max_length
        self.width = width
        self.length_penalty = length_penalty
        self.n_best = n_best
        self.active: list[tuple[int, ...]] = [()]
        self.log_probabilities: FloatArray = np.zeros(1)
        self.ended: list[Hypothesis] = []
        self.cut_off: list[Hypothesis] = []

    def advance(self, tokens: IntArray, log_probabilities: FloatArray) -> list[int]:
        """Extend each of R hypotheses by its C candidate tokens, (R, C), and keep the best.

        Returns:
            For each hypothesis now in ``active`` the row (of R) that it extends; empty if the search is over.
        """
        totals = self.log_probabilities[:, None] + log_probabilities
        active: list[tuple[int, ...]] = []
        parents: list[int] = []
        kept: list[float] = []
        order = np.argsort(-totals, axis=None, kind="stable").tolist()
        for rank, index in enumerate(order):
            parent, column = divmod(index, tokens.shape[1])
            token, total = int(tokens[parent, column]), float(totals[parent, column])
            if total == -np.inf or len(active) == self.width:
                break
            if token != END:
                active.append((*self.active[parent], token))
                parents.append(parent)
                kept.append(total)
            elif rank < self.width:
                self.ended.append(self._hypothesis(self.active[parent], total, ended=True))
        self.ended.sort(key=_score, reverse=True)
        if active and len(active[0]) == self.max_length:
            self.cut_off = [self._hypothesis(*pair, ended=False) for pair in zip(active, kept, strict=True)]
            active = []
        elif self._is_over(kept):
            active = []
        self.active, self.log_probabilities = active, np.array(kept)
        return parents if active else []

    def best(self) -> list[Hypothesis]:
        """The best hypotheses found, at most ``n_best``."""
        return [*self.ended, *sorted(self.cut_off, key=_score, reverse=True)][: self.n_best]

    def _is_over(self, log_probabilities: list[float]) -> bool:
        """Whether hypotheses with these log probabilities, highest first, can no longer lead to a better result."""
        if len(self.ended) >= self.width or not log_probabilities:
            return True
        # An upper bound of all extensions: log p only falls, and the longest translation has the largest lp.
        bound = log_probabilities[0] / self._penalty(self.max_length)
        return len(self.ended) >= self.n_best and self.ended[self.n_best - 1].score >= bound

    def _hypothesis(self, tokens: tuple[int, ...], log_probability: float, ended: bool) -> Hypothesis:
        score = log_probability / self._penalty(len(tokens) + ended)
        return Hypothesis(tokens, log_probability, score, ended)

    def _penalty(self, length: int) -> float:
        """lp = ((5 + |y|) / 6)^α."""
        return float(((5.0 + length) / 6.0) ** self.length_penalty)


def _score(hypothesis: Hypothesis) -> float:
    return hypothesis.score


def _likeliest(
    logits: np.ndarray[Any, Any], count: int, written: Sequence[Sequence[int]], constraints: Constraints
) -> tuple[IntArray, FloatArray]:
    """The ``count`` likeliest next tokens of each row of logits (R, V), and their log probabilities: both (R, count).

    Of equal logits the first is chosen, as argmax does. What the constraints forbid after the tokens that are written
    comes last, with probability 0. Different logits have different log probabilities, since these are float64.
    """
    highest = logits.max(axis=-1)
    shares = np.exp(logits - highest[:, None]).sum(axis=-1, dtype=np.float64)
    normaliser = highest + np.log(shares)
    remaining = logits.copy()
    constraints.apply(remaining, written)
    rows = np.arange(len(logits))
    tokens, log_probabilities = [], []
    for _ in range(min(count, logits.shape[1])):
        token = remaining.argmax(axis=-1)
        tokens.append(token)
        log_probabilities.append(remaining[rows, token] - normaliser)
        remaining[rows, token] = -np.inf
    return np.stack(tokens, axis=1), np.stack(log_probabilities, axis=1)
