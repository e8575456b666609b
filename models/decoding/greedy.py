"""Greedy decoding: the likeliest next token at each step."""

from __future__ import annotations

import numpy as np

from tinygrad_attn import Tensor, no_grad

from ..data import END, START
from ..data.batches import BoolArray, IntArray
from ..interface import Translator
from .constraints import UNCONSTRAINED, Constraints
from .states import Rows

__all__ = ["greedy"]

# When this share of a batch has ended, the rows of the unfinished sentences are gathered.
_GATHER_SHARE = 0.25


def greedy(
    model: Translator,
    source: IntArray,
    source_mask: BoolArray,
    max_length: int,
    constraints: Constraints = UNCONSTRAINED,
) -> list[list[int]]:
    """Greedy decoding: the likeliest next token at each step, until ``</s>``.

    Args:
        source: (B, S) ids.
        source_mask: (B, S), True where ``source`` holds a token.
        max_length: the most tokens of a translation; longer ones are cut off.
        constraints: what the translations keep to.

    Returns:
        B lists of target ids, without ``<s>`` and ``</s>``.
    """
    translations: list[list[int]] = [[] for _ in source]
    with no_grad():
        state = model.start(model.encode(Tensor(source), Tensor(source_mask)))
        rows = Rows(state)
        sentences = np.arange(len(source))
        ended = np.zeros(len(source), dtype=bool)
        token = np.full(len(source), START, dtype=np.int64)
        for _ in range(max_length):
            logits, state, _ = model.step(state, Tensor(token))
            scores = logits.array
            constraints.apply(scores, [translations[sentence] for sentence in sentences.tolist()])
            token = scores.argmax(axis=-1)
            ended |= token == END
            for sentence, number, over in zip(sentences.tolist(), token.tolist(), ended.tolist(), strict=True):
                if not over:
                    translations[sentence].append(number)
            # Gathering the state costs as much as a few steps of finished sentences.
            if np.count_nonzero(ended) >= _GATHER_SHARE * len(ended):
                kept = np.flatnonzero(~ended)
                if not len(kept):
                    break
                state = rows.choose(state, kept)
                sentences, token, ended = sentences[kept], token[kept], ended[kept]
    return translations
