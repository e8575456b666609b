"""Alignment: the attention weights over the source for each symbol of a translation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_attn import Tensor, nn, no_grad

from ..console.counts import counted
from ..data import END, START, Tokenizer
from ..interface import Translator
from ..memory import refuse_beyond_memory

__all__ = ["Alignment", "align"]


@dataclass(frozen=True)
class Alignment:
    """The attention weights of one translation, by layer and head, with a symbol for each row and column."""

    weights: dict[str, np.ndarray[Any, Any]]
    """The weights (heads, T, S) of each attention over the source, by module path; empty without attention."""
    source: Sequence[str]
    """The S symbols of the columns."""
    target: Sequence[str]
    """The T symbols of the rows; the last is ``</s>``."""

    def attended(self) -> list[int]:
        """For each of the T target symbols the source symbol with the largest weight, on average over layers and heads.

        Raises:
            ValueError: there is no attention.
        """
        if not self.weights:
            raise ValueError("attended: there are no attention weights")
        mean = np.mean([head for heads in self.weights.values() for head in heads], axis=0, dtype=np.float64)
        return [int(place) for place in mean.argmax(axis=-1)]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON.

        ``source`` and ``target`` are the symbols, ``attention`` the weights as nested lists [head][target][source], and
        ``alignment`` the pairs [source, target] of indices that `attended` gives, without that of ``</s>``.
        """
        return {
            "source": list(self.source),
            "target": list(self.target),
            "alignment": [[place, t] for t, place in enumerate(self.attended()[:-1])] if self.weights else [],
            "attention": {layer: np.round(heads.astype(float), 6).tolist() for layer, heads in self.weights.items()},
        }


def align(
    model: Translator, source: Tokenizer, target: Tokenizer, sentence: Sequence[int], translation: Sequence[int]
) -> Alignment:
    """The attention weights of ``model`` over ``sentence`` given the target prefix ``translation``.

    Args:
        model: in evaluation mode.
        source, target: the tokenizers of the ids.
        sentence, translation: ids without control symbols, at least one in the sentence. The translation need not be
            the model's own.

    Raises:
        TooLargeError: the weights of all heads do not fit into the machine's memory.
    """
    _refuse_beyond_memory(model, max(len(sentence), len(translation) + 1))
    ids = np.array([sentence], dtype=np.int64)
    with no_grad():
        _, weights = model(
            Tensor(ids),
            Tensor(np.ones_like(ids, dtype=bool)),
            Tensor(np.array([[START, *translation]])),
            need_weights=True,
        )
    return Alignment(
        # Self-attention is left out by its name: its shape may be the same, since T may equal S.
        {layer: tensor.array[0] for layer, tensor in weights.items() if not layer.endswith("self_attn")},
        source.symbols_of(sentence),
        target.symbols_of([*translation, END]),
    )


def _refuse_beyond_memory(model: Translator, symbols: int) -> None:
    """Raise if the weights between so many symbols, of every head, are more than the memory holds."""
    heads = sum(module.num_heads for module in model.modules() if isinstance(module, nn.MultiheadAttention))
    refuse_beyond_memory(
        4 * heads * symbols**2,
        f"the attention weights of {counted(heads, 'head')} between {symbols:,} symbols",
        "split the sentence, or translate without attention weights (--attention, --alignments, decoding.unknown)",
    )
