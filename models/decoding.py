"""From a source to a translation: greedy decoding, in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinygrad_attn import Tensor, no_grad

from .config import DecodingConfig
from .data import END, PAD, START, pad
from .data.batches import BoolArray, IntArray
from .interface import Translator

__all__ = ["greedy", "translate"]


def greedy(model: Translator, source: IntArray, source_mask: BoolArray, max_length: int) -> list[list[int]]:
    """The likeliest next token, again and again, until ``</s>``.

    Args:
        source: (B, S) ids.
        source_mask: (B, S), True where ``source`` holds a token.
        max_length: the most tokens of a translation; one that has not ended by then is cut off.

    Returns:
        B lists of target ids, without ``<s>`` and ``</s>``.
    """
    chosen = []
    with no_grad():
        state = model.start(model.encode(Tensor(source), Tensor(source_mask)))
        token = np.full(len(source), START, dtype=np.int64)
        ended = np.zeros(len(source), dtype=bool)
        for _ in range(max_length):
            logits, state, _ = model.step(state, Tensor(token))
            scores = logits.array
            scores[:, [PAD, START]] = -np.inf  # no translation holds them
            token = np.where(ended, END, scores.argmax(axis=-1))
            ended |= token == END
            if ended.all():
                break
            chosen.append(token)
    rows = np.stack(chosen, axis=1).tolist() if chosen else [[] for _ in source]
    return [row[: row.index(END)] if END in row else row for row in rows]


def translate(model: Translator, sentences: Sequence[Sequence[int]], settings: DecodingConfig) -> list[list[int]]:
    """Greedy translations of sentences of any lengths, in their order.

    Args:
        sentences: source ids, without control symbols.
        settings: how many sentences are decoded together (those of similar length are), and the most tokens of one.

    Returns:
        A list of target ids for each sentence. An empty sentence has an empty translation.
    """
    order = sorted((i for i, sentence in enumerate(sentences) if len(sentence)), key=lambda i: len(sentences[i]))
    translations: list[list[int]] = [[] for _ in sentences]
    was_training = model.training
    model.eval()
    for first in range(0, len(order), settings.batch_size):
        chosen = order[first : first + settings.batch_size]
        source, mask = pad([sentences[i] for i in chosen])
        for i, translation in zip(chosen, greedy(model, source, mask, settings.max_length), strict=True):
            translations[i] = translation
    model.train(was_training)
    return translations
