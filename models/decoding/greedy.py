"""Greedy decoding: the likeliest next token at each step."""

from __future__ import annotations

import numpy as np

from tinygrad_attn import Tensor, no_grad

from ..data import END, START
from ..data.batches import BoolArray, IntArray
from ..interface import Translator
from .constraints import UNCONSTRAINED, Constraints
from .states import decoder_of

__all__ = ["greedy"]


def greedy(
    model: Translator,
    source: IntArray,
    source_mask: BoolArray,
    max_length: int,
    constraints: Constraints = UNCONSTRAINED,
    int8: bool = False,
) -> list[list[int]]:
    """Greedy decoding: the likeliest next token at each step, until ``</s>``.

    Args:
        source: (B, S) ids.
        source_mask: (B, S), True where ``source`` holds a token.
        max_length: the most tokens of a translation; longer ones are cut off.
        constraints: what the translations keep to.
        int8: see `tinygrad_attn_models.decoding.states.decoder_of`.

    Returns:
        B lists of target ids, without ``<s>`` and ``</s>``.
    """
    with no_grad():
        state = model.start(model.encode(Tensor(source), Tensor(source_mask)))
        decoder = decoder_of(model, state, len(source), int8)
        sentences = np.arange(len(source))
        written = np.full((len(source), max_length + 1), END)
        ended = np.zeros(len(source), dtype=bool)
        token = np.full(len(source), START, dtype=np.int64)
        for t in range(max_length):
            logits = decoder.step(token)
            constraints.apply(logits, (written[sentence, :t].tolist() for sentence in sentences))
            token = logits.argmax(axis=-1)
            ended |= token == END
            count = np.count_nonzero(ended)
            written[sentences, t] = np.where(ended, END, token) if count else token
            if count and count >= decoder.gather_share * len(ended):
                kept = np.flatnonzero(~ended)
                if not len(kept):
                    break
                decoder.choose(kept)
                sentences, token, ended = sentences[kept], token[kept], ended[kept]
    return [row[: row.index(END)] for row in written.tolist()]
