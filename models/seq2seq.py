"""The encoder-decoder without attention: the source becomes one vector of fixed size.

Sutskever, Vinyals and Le, "Sequence to Sequence Learning with Neural Networks", 2014: the encoder's last state, of
every layer, is the decoder's first. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for
Statistical Machine Translation", 2014, introduced the GRU; their decoder reads the vector at every step, this one at
the first only. Sentences are read from left to right, whereas Sutskever et al. reversed the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from tinygrad_attn import nn
from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.modes import mark
from tinygrad_attn.tensor import Tensor

from .recurrence import Hidden, RecurrentSettings, RecurrentTranslator, recurrent_layers, run_layers
from .registry import register_model
from .setting import constant

__all__ = ["Seq2Seq", "Seq2SeqSettings", "State"]


@dataclass(frozen=True)
class Seq2SeqSettings(RecurrentSettings):
    """The encoder-decoder without attention."""

    name: str = constant("seq2seq")


class State(NamedTuple):
    """The decoder's state between two tokens; before the first token it is the context vector."""

    hidden: Hidden
    """(h,), or (h, c) of an LSTM, each (B, layers, H)."""


@register_model(Seq2SeqSettings)
class Seq2Seq(RecurrentTranslator):
    """An encoder whose last state is the context vector, and a decoder that starts from it.

    Args:
        source_size, target_size: the numbers of symbols.
        embedding_size: E.
        hidden_size: H, of each layer of the encoder and of the decoder.
        layers: of the encoder, and of the decoder.
        cell: "rnn", "gru" or "lstm".
        dropout: of embeddings, between layers, and of the output layer's input.
        dtype: of all parameters.

    Raises:
        ValueError: no such cell.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        embedding_size: int,
        hidden_size: int,
        layers: int = 1,
        cell: str = "lstm",
        dropout: float = 0.0,
        dtype: Any = default_dtype,
    ) -> None:
        super().__init__()
        self.source_embedding = nn.Embedding(source_size, embedding_size, dtype=dtype)
        self.target_embedding = nn.Embedding(target_size, embedding_size, dtype=dtype)
        self.encoder = recurrent_layers(cell, embedding_size, hidden_size, layers, dropout, dtype)
        self.decoder = recurrent_layers(cell, embedding_size, hidden_size, layers, dropout, dtype)
        self.output = nn.Linear(hidden_size, target_size, dtype=dtype)
        self.dropout = nn.Dropout(dropout)

    def encode(self, source: Tensor, source_mask: Tensor) -> Hidden:
        """The context vector: the state of every layer after the last symbol."""
        embedded = self.dropout(self.source_embedding(source))
        states, context = run_layers(self.encoder, embedded, mask=source_mask)
        mark("encoded", states)  # to be seen; the decoder gets the last one alone
        return context

    def start(self, memory: Hidden) -> State:
        """The decoder starts from the encoder's last state."""
        return State(tuple(mark("start", of_layers) for of_layers in memory))

    def decode(self, state: State, tokens: Tensor) -> tuple[Tensor, State, None]:
        """See `RecurrentTranslator.decode`. The weights are None: there is no attention."""
        embedded = self.dropout(self.target_embedding(tokens))
        states, hidden = run_layers(self.decoder, embedded, state.hidden)
        return mark("logits", self.output(self.dropout(states))), State(hidden), None
