"""Constraints on translations: no repeated n-gram, a least length, no unknown symbol. Greedy and beam search obey them.

A token that would break one is given the probability 0 before the next token is chosen; the probabilities of the others
stay what the model says, so the scores of translations are comparable with and without constraints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..data import END, PAD, START, UNKNOWN
from ..runs.config import DecodingConfig

__all__ = ["UNCONSTRAINED", "Constraints"]


@dataclass(frozen=True)
class Constraints:
    """What a translation must keep to; by default only that ``<pad>`` and ``<s>`` are no part of it."""

    min_length: int = 0
    """The fewest symbols, without ``</s>``. A translation that no symbol can continue may end before."""
    no_repeat_ngram_size: int = 0
    """n: no n symbols in a row come twice; 0 allows all."""
    forbid_unknown: bool = False
    """No ``<unk>``."""

    @classmethod
    def of(cls, settings: DecodingConfig) -> Self:
        """Those of the decoding settings."""
        return cls(settings.min_length, settings.no_repeat_ngram_size, settings.unknown == "forbid")

    def apply(self, scores: np.ndarray[Any, Any], written: Iterable[Sequence[int]]) -> None:
        """Set the scores of all tokens that must not come next to -∞, in place.

        Args:
            scores: (R, V), logits or log probabilities of the next token.
            written: for each of the R rows, the tokens so far.
        """
        for token in (PAD, START, UNKNOWN) if self.forbid_unknown else (PAD, START):
            scores[:, token] = -np.inf
        if not self.min_length and not self.no_repeat_ngram_size:
            return
        for row, tokens in zip(scores, written, strict=True):
            if self.no_repeat_ngram_size:
                row[_repeating(tokens, self.no_repeat_ngram_size)] = -np.inf
            if len(tokens) < self.min_length:
                ending, row[END] = row[END], -np.inf
                if row.max() == -np.inf:
                    row[END] = ending


UNCONSTRAINED = Constraints()


def _repeating(tokens: Sequence[int], size: int) -> list[int]:
    """The tokens that would complete an n-gram of this size that is in ``tokens`` already."""
    if len(tokens) < size:
        return []
    last = tuple(tokens[len(tokens) - size + 1 :])
    return [tokens[i + size - 1] for i in range(len(tokens) - size + 1) if tuple(tokens[i : i + size - 1]) == last]
