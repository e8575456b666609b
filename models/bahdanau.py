"""RNNsearch: Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", 2015.

The equations of the paper's section 3 and appendix A, in their order. Biases, which the paper leaves out, are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.modes import mark
from tinygrad_attn.nn import functional as F
from tinygrad_attn.tensor import Tensor, default_dtype

from .interface import ModelSettings, Translator, Weights
from .registry import register_model
from .setting import constant, setting

__all__ = ["AdditiveAttention", "Bahdanau", "BahdanauSettings", "Memory", "State"]


@dataclass(frozen=True)
class BahdanauSettings(ModelSettings):
    """RNNsearch: attention from the decoder's previous state."""

    name: str = constant("bahdanau")
    dropout: float = setting(0.0, "probability of dropping an activation in training", minimum=0, below=1)
    embedding_size: int = setting(32, "width of the embeddings", minimum=1)
    hidden_size: int = setting(64, "width of the recurrent states and of the alignment model", minimum=1)

    def width(self) -> int:
        """See `ModelSettings.width`."""
        return self.hidden_size

    def smaller(self) -> str:
        """See `ModelSettings.smaller`."""
        return f"model.hidden_size={max(1, self.hidden_size // 2)}"


class Memory(NamedTuple):
    """What the encoder makes of B sources of at most S symbols."""

    annotations: Tensor
    """h: (B, S, 2H); h_j is about the whole sentence, with a focus on its j-th symbol."""
    keys: Tensor
    """U_a h: (B, S, A), the part of the scores that does not depend on the decoder."""
    mask: Tensor
    """(B, S), True where there is a symbol."""
    backward_state: Tensor
    """(B, H): the backward encoder's state at the first symbol, after reading the whole sentence."""


class State(NamedTuple):
    """The decoder between two tokens."""

    hidden: Tensor
    """s: (B, H)."""
    memory: Memory


class AdditiveAttention(nn.Module):
    """The parameters of the alignment model: e_j = v_a · tanh(W_a s + U_a h_j), α = softmax(e), c = Σ_j α_j h_j."""

    def __init__(self, query_size: int, key_size: int, size: int, dtype: Any = default_dtype) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, size, bias=False, dtype=dtype)  # W_a
        self.key = nn.Linear(key_size, size, dtype=dtype)  # U_a
        self.energy = nn.Linear(size, 1, bias=False, dtype=dtype)  # v_a


@register_model(BahdanauSettings)
class Bahdanau(Translator):
    """A bidirectional GRU encoder, additive attention from the decoder's previous state, and a GRU decoder.

    Args:
        source_size, target_size: the numbers of symbols.
        embedding_size: E.
        hidden_size: H, of each direction of the encoder, of the decoder, and of the alignment model.
        dropout: of embeddings and of the output layer's input; the paper has none.
        dtype: of all parameters.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        embedding_size: int,
        hidden_size: int,
        dropout: float = 0.0,
        dtype: Any = default_dtype,
    ) -> None:
        super().__init__()
        self.source_embedding = nn.Embedding(source_size, embedding_size, dtype=dtype)
        self.target_embedding = nn.Embedding(target_size, embedding_size, dtype=dtype)
        self.encoder = nn.GRU(embedding_size, hidden_size, batch_first=True, bidirectional=True, dtype=dtype)
        self.initial = nn.Linear(hidden_size, hidden_size, dtype=dtype)  # W_s
        self.attention = AdditiveAttention(hidden_size, 2 * hidden_size, hidden_size, dtype=dtype)
        self.decoder = nn.GRUCell(embedding_size + 2 * hidden_size, hidden_size, dtype=dtype)
        # U_o, V_o and C_o as one matrix: it makes 2H numbers, of which maxout leaves H.
        self.readout = nn.Linear(hidden_size + embedding_size + 2 * hidden_size, 2 * hidden_size, dtype=dtype)
        self.output = nn.Linear(hidden_size, target_size, dtype=dtype)  # W_o
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, source: Tensor, source_mask: Tensor, target_in: Tensor, *, need_weights: bool = False
    ) -> Tensor | tuple[Tensor, Weights]:
        """See `Translator.forward`. The weights are those of ``"attention"``, with one head."""
        state = self.start(self.encode(source, source_mask))
        logits, _, weights = self._decode(state, target_in)
        return (logits, _by_place(weights)) if need_weights else logits

    def encode(self, source: Tensor, source_mask: Tensor) -> Memory:
        """h_j = [→h_j; ←h_j] for each symbol, and what of the scores depends on it alone."""
        embedded = self.dropout(self.source_embedding(source))
        annotations, last = self.encoder(embedded, mask=source_mask)
        return Memory(annotations, self.attention.key(annotations), source_mask, last[1])

    def start(self, memory: Memory) -> State:
        """s_0 = tanh(W_s ←h_1)."""
        return State(ta.tanh(self.initial(memory.backward_state)), memory)

    def step(self, state: State, token: Tensor, *, need_weights: bool = False) -> tuple[Tensor, State, Weights]:
        """See `Translator.step`."""
        logits, state, weights = self._decode(state, token.unsqueeze(1))
        return logits.squeeze(1), state, _by_place(weights) if need_weights else {}

    def _decode(self, state: State, tokens: Tensor) -> tuple[Tensor, State, Tensor]:
        """Read tokens (B, T), one after the other: logits (B, T, V), the last state, and the weights (B, T, S)."""
        embedded = self.dropout(self.target_embedding(tokens))  # E y_{i-1}
        attention, decoder, memory = self.attention, self.decoder, state.memory
        # For each i: e_ij = v_a · tanh(W_a s_{i-1} + U_a h_j), α_i = softmax(e_i), c_i = Σ_j α_ij h_j, and
        # s_i = GRU([E y_{i-1}; c_i], s_{i-1}).
        states, contexts, weights = F.attention_gru(
            embedded, state.hidden,
            memory.annotations, memory.keys, attention.query.weight, attention.energy.weight.squeeze(0),
            decoder.weight_ih, decoder.weight_hh, decoder.bias_ih, decoder.bias_hh,
            memory.mask,
        )  # fmt: skip
        return self._read_out(states, embedded, contexts), State(states[:, -1], memory), weights

    def _read_out(self, states: Tensor, embedded: Tensor, contexts: Tensor) -> Tensor:
        """g(y_{i-1}, s_i, c_i) of equation 4: t = maxout(U_o s + V_o E y + C_o c), then the logits W_o t."""
        joined = mark("joined", ta.cat([states, embedded, contexts], -1))
        attentional = mark("attentional", ta.maximum(*ta.chunk(self.readout(self.dropout(joined)), 2, -1)))
        return mark("logits", self.output(attentional))


def _by_place(weights: Tensor) -> Weights:
    """The weights (B, T, S) as those of the one place of attention, which has one head."""
    return {"attention": weights.unsqueeze(1)}
