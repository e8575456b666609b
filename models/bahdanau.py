"""RNNsearch, the model of Bahdanau et al. 2015: a GRU decoder with additive attention.

Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", 2015: the equations
of section 3 and appendix A, in their order, with biases, which the paper leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.modes import at_step, mark
from tinygrad_attn.nn import functional as F
from tinygrad_attn.nn.module import is_plain
from tinygrad_attn.tensor import Tensor, default_dtype

from .interface import ModelSettings
from .recurrence import RecurrentTranslator
from .registry import register_model
from .setting import Value, constant, setting

__all__ = ["Bahdanau", "BahdanauSettings", "Memory", "State"]


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

    def activations(self) -> int:
        """See `ModelSettings.activations`; measured: 23 times a state."""
        return 20 * self.hidden_size

    def smaller(self) -> str:
        """See `ModelSettings.smaller`."""
        return f"model.hidden_size={max(1, self.hidden_size // 2)}"

    @classmethod
    def suited(cls, width: int, steps: int) -> dict[str, Value]:
        """See `ModelSettings.suited`."""
        return {"model.embedding_size": width // 12 * 8, "model.hidden_size": width, "training.learning_rate": 0.002}


class Memory(NamedTuple):
    """The encoder's output for B sources of at most S symbols."""

    annotations: Tensor
    """h: (B, S, 2H), the annotations: h_j summarises the whole sentence around its j-th symbol."""
    keys: Tensor
    """U_a h: (B, S, A), the part of the scores that does not depend on the decoder."""
    mask: Tensor
    """(B, S), True where there is a symbol."""
    backward_state: Tensor
    """(B, H): the backward encoder's state at the first symbol, after reading the whole sentence."""


class State(NamedTuple):
    """The decoder's state between two tokens."""

    hidden: Tensor
    """s: (B, H)."""
    memory: Memory


@register_model(BahdanauSettings)
class Bahdanau(RecurrentTranslator):
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
        self.attention = nn.AdditiveScore(hidden_size, 2 * hidden_size, hidden_size, dtype=dtype)  # v_a, W_a, U_a
        self.decoder = nn.GRUCell(embedding_size + 2 * hidden_size, hidden_size, dtype=dtype)
        # U_o, V_o and C_o as one matrix: it makes 2H numbers, of which maxout leaves H.
        self.readout = nn.Linear(hidden_size + embedding_size + 2 * hidden_size, 2 * hidden_size, dtype=dtype)
        self.output = nn.Linear(hidden_size, target_size, dtype=dtype)  # W_o
        self.dropout = nn.Dropout(dropout)

    def encode(self, source: Tensor, source_mask: Tensor) -> Memory:
        """h_j = [→h_j; ←h_j] for each symbol, and the part of the scores that depends on it alone."""
        embedded = self.dropout(self.source_embedding(source))
        annotations, last = self.encoder(embedded, mask=source_mask)
        annotations = mark("encoded", annotations)
        return Memory(annotations, self.attention.project(annotations), source_mask, last[1])

    def start(self, memory: Memory) -> State:
        """s_0 = tanh(W_s ←h_1)."""
        return State(mark("start", ta.tanh(self.initial(memory.backward_state))), memory)

    def decode(self, state: State, tokens: Tensor) -> tuple[Tensor, State, Tensor]:
        """See `RecurrentTranslator.decode`."""
        embedded = self.dropout(self.target_embedding(tokens))  # E y_{i-1}
        states, contexts, weights = self._read(embedded, state.hidden, state.memory)
        logits = self._read_out(states, embedded, contexts)
        return logits, State(states[:, -1], state.memory), weights

    def _as_one_op(self, embedded: Tensor, s: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
        known = ((self.attention, nn.AdditiveScore), (self.attention.query, nn.Linear), (self.decoder, nn.GRUCell))
        if not all(is_plain(module, kind) for module, kind in known):
            return Bahdanau._read.__wrapped__(self, embedded, s, memory)  # type: ignore[attr-defined]
        w_query, energy = self.attention.weights()
        h, keys, mask, gru = memory.annotations, memory.keys, memory.mask, self.decoder.weights()
        return F.attention_gru(embedded, s, h, keys, w_query, energy, *gru, mask)

    @ta.fused_by(_as_one_op)
    def _read(self, embedded: Tensor, s: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
        """The decoder from the state ``s`` on, one symbol after the other.

        Args:
            embedded: E y_{i-1} for each i, (B, T, E).
            s: s_0, (B, H).
            memory: h and U_a h.

        Returns:
            For each i the state s_i (B, T, H), the context c_i (B, T, 2H) and the weights α_i (B, T, S).
        """
        h, mask = memory.annotations, memory.mask.unsqueeze(1)
        states, contexts, weights = [], [], []
        for i, y in enumerate(ta.unbind(embedded, 1)):
            with at_step(i):
                # e_ij = a(s_{i-1}, h_j) = v_a · tanh(W_a s_{i-1} + U_a h_j)
                e = self.attention.compare(s.unsqueeze(1), memory.keys)  # (B, 1, S)
                # α_i = softmax(e_i), over the symbols of the source
                alpha = mark("weights", F.masked_softmax(e, mark("mask", mask), dim=-1))
                # c_i = Σ_j α_ij h_j
                c = mark("context", ta.matmul(alpha, mark("value", h))).squeeze(1)
                # s_i = f(s_{i-1}, y_{i-1}, c_i), a GRU
                s = self.decoder(ta.cat([y, c], -1), s)
            states.append(s)
            contexts.append(c)
            weights.append(alpha)
        return ta.stack(states, 1), ta.stack(contexts, 1), ta.cat(weights, 1)

    def _read_out(self, states: Tensor, embedded: Tensor, contexts: Tensor) -> Tensor:
        """g(y_{i-1}, s_i, c_i) of equation 4: t = maxout(U_o s + V_o E y + C_o c), then the logits W_o t."""
        before = states.shape[-1] + embedded.shape[-1]
        joined = mark("joined", ta.cat([states, embedded, contexts], -1), context=before, **_JOINED)
        maxout = ta.maximum(*ta.chunk(self.readout(self.dropout(joined)), 2, -1))
        attentional = mark("attentional", maxout, **_MAXOUT)
        return mark("logits", self.output(attentional), **_LOGITS)


# The formulas that the microscope shows for the tensors that `Bahdanau` announces, and for their gradients.
_JOINED = {
    "formula": r"u_t = [s_t; E y_{t-1}; c_t]",
    "gradient_formula": (
        r"\bar u_t = W^\top ([a_t \ge a'_t] \odot \bar{\tilde s}_t) + W'^\top ([a_t < a'_t] \odot \bar{\tilde s}_t)"
    ),
}
_MAXOUT = {
    "formula": r"\tilde s_t = \max(a_t, a'_t), \quad a_t = W u_t + b, \quad a'_t = W' u_t + b'",
    "gradient_formula": r"\bar{\tilde s}_t = W_o^\top \bar o_t",
}
_LOGITS = {"formula": r"o_t = W_o \tilde s_t + b_o"}
