"""Which source symbols a model attended to while it wrote each target symbol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_attn import Tensor, no_grad

from .data import END, START, Tokenizer
from .interface import Translator

__all__ = ["Alignment", "align"]


@dataclass(frozen=True)
class Alignment:
    """The attention of one translation: weights (T, S), and a symbol for each of its T rows and S columns."""

    weights: np.ndarray[Any, Any]
    source: Sequence[str]
    target: Sequence[str]


def align(
    model: Translator, source: Tokenizer, target: Tokenizer, sentence: Sequence[int], translation: Sequence[int]
) -> dict[str, list[Alignment]]:
    """The attention with which ``model`` reads ``sentence`` while it is led along ``translation``.

    Args:
        model: in evaluation mode.
        source, target: the tokenizers of the ids.
        sentence, translation: ids without control symbols. The translation may be the model's own or any other.

    Returns:
        For each place of attention on the source, as the model names it, one alignment a head. The last row is that of
        ``</s>``.
    """
    ids = np.array([sentence], dtype=np.int64)
    with no_grad():
        _, weights = model(
            Tensor(ids),
            Tensor(np.ones_like(ids, dtype=bool)),
            Tensor(np.array([[START, *translation]])),
            need_weights=True,
        )
    columns, rows = source.symbols_of(sentence), target.symbols_of([*translation, END])
    return {
        place: [Alignment(head, columns, rows) for head in tensor.array[0]]
        for place, tensor in weights.items()
        if tensor.shape[-2:] == (len(rows), len(columns))
    }
