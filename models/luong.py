"""The model of Luong et al. 2015: global or local attention from the decoder's current state.

Luong, Pham and Manning, "Effective Approaches to Attention-based Neural Machine Translation", 2015. A decoder state s_t
(the paper's h_t) attends to the encoder's states h_1 … h_S in six steps, numbered in the code:

    1. score            e_tj = score(s_t, h_j)
    2. softmax          α_t = softmax(e_t)
    3. weighted sum     a_t = Σ_j α_tj h_j
    4. concatenation    [a_t; s_t]
    5. attentional      s̃_t = tanh(W_c [a_t; s_t] + b_c)
    6. output           logits = W_y s̃_t + b_y

The paper has no biases. Attention follows the decoder's state, whereas Bahdanau's precedes it. So, unless s̃ is fed
back into the decoder (section 3.3), no step depends on the attention of another, and all are computed at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.modes import at_step, mark
from tinygrad_attn.nn import functional as F
from tinygrad_attn.tensor import Tensor, default_dtype

from .recurrence import Hidden, RecurrentSettings, RecurrentTranslator, recurrent_layers, run_layers
from .registry import register_model
from .setting import constant, setting

__all__ = ["ATTENTIONS", "Luong", "LuongSettings", "Memory", "PredictedPosition", "State"]

ATTENTIONS = ("global", "local-m", "local-p")


@dataclass(frozen=True)
class LuongSettings(RecurrentSettings):
    """Attention from the decoder's state."""

    name: str = constant("luong")
    score: str = setting("general", "the score of a decoder state and a source state", choices=nn.SCORES)
    attention: str = setting(
        "global",
        "all of the source, or a window around the same position (local-m) or a predicted one (local-p)",
        choices=ATTENTIONS,
    )
    window: int = setting(10, "D: local attention reaches D positions to each side", minimum=1)
    input_feeding: bool = setting(False, "feed the attentional state s̃ into the next step of the decoder")
    max_length: int = setting(256, "the most symbols of a source for the score 'location'", minimum=1)

    def longest_source(self) -> int | None:
        """``max_length`` with the score "location", which has a parameter for each position; else None."""
        return self.max_length if nn.SCORES[self.score].limits_length else None

    def limited_by(self) -> str:
        """See `ModelSettings.limited_by`."""
        return f"model.score {self.score!r}"


class Memory(NamedTuple):
    """The encoder's output for B sources of at most S symbols."""

    states: Tensor
    """h: (B, S, H)."""
    keys: Tensor
    """(B, S, …), the part of the scores that does not depend on the decoder."""
    mask: Tensor
    """(B, S), True where there is a symbol."""
    final: Hidden
    """The decoder's initial state: the encoder's state after the last symbol."""


class State(NamedTuple):
    """The decoder's state between two tokens."""

    hidden: Hidden
    """Of every layer; the last layer's is s."""
    attentional: Tensor
    """s̃: (B, H)."""
    tokens_read: int
    """t."""
    memory: Memory


class PredictedPosition(nn.Module):
    """The source position that a decoder state is aligned with: p_t = S · σ(v_p · tanh(W_p s_t)) (section 3.2)."""

    def __init__(self, hidden_size: int, dtype: Any = default_dtype) -> None:
        super().__init__()
        self.hidden = nn.Linear(hidden_size, hidden_size, bias=False, dtype=dtype)  # W_p
        self.share = nn.Linear(hidden_size, 1, bias=False, dtype=dtype)  # v_p

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """States (B, T, H) and lengths (B, 1, 1), as floats, to p (B, T, 1), within 0 and the length."""
        return F.sigmoid(self.share(ta.tanh(self.hidden(states)))) * lengths


@register_model(LuongSettings)
class Luong(RecurrentTranslator):
    """An encoder and a decoder of recurrent layers, and attention from the decoder's state.

    Global attention covers the whole source, local attention the positions within D of p_t. With local-m, p_t = t (the
    last position of the source if t is beyond it). With local-p, p_t is predicted and the weights are multiplied by a
    Gaussian around it, with σ = D/2, so that they no longer sum to 1. Positions are counted from 0.

    Args:
        source_size, target_size: the numbers of symbols.
        embedding_size: E.
        hidden_size: H, of each layer of the encoder and of the decoder, and of s̃.
        layers: of the encoder, and of the decoder.
        cell: "rnn", "gru" or "lstm".
        score: the name of an attention score, one of `nn.SCORES`: "dot", "general", "concat", …
        attention: "global", "local-m" or "local-p".
        window: D.
        input_feeding: let each step of the decoder read the s̃ of the step before, beside its token.
        max_length: the most symbols of a source, with the score "location".
        dropout: of embeddings, between layers, and of the output layer's input.
        dtype: of all parameters.

    Raises:
        ValueError: no such cell, score or attention, or a window less than 1.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        embedding_size: int,
        hidden_size: int,
        layers: int = 1,
        cell: str = "lstm",
        score: str = "general",
        attention: str = "global",
        window: int = 10,
        input_feeding: bool = False,
        max_length: int = 256,
        dropout: float = 0.0,
        dtype: Any = default_dtype,
    ) -> None:
        super().__init__()
        if attention not in ATTENTIONS:
            raise ValueError(f"Luong: attention must be one of {', '.join(ATTENTIONS)}, got {attention!r}")
        if score not in nn.SCORES:
            raise ValueError(f"Luong: {nn.SCORES.unknown(score)}")
        if window < 1:
            raise ValueError(f"Luong: window must be at least 1, got {window}")
        self.attention = attention
        self.window = window
        self.input_feeding = input_feeding
        self.source_embedding = nn.Embedding(source_size, embedding_size, dtype=dtype)
        self.target_embedding = nn.Embedding(target_size, embedding_size, dtype=dtype)
        self.encoder = recurrent_layers(cell, embedding_size, hidden_size, layers, dropout, dtype)
        decoder_input = embedding_size + (hidden_size if input_feeding else 0)
        self.decoder = recurrent_layers(cell, decoder_input, hidden_size, layers, dropout, dtype)
        self.score = nn.SCORES[score].make(hidden_size, hidden_size, hidden_size, max_length, dtype)
        if attention == "local-p":
            self.position = PredictedPosition(hidden_size, dtype)
        self.combine = nn.Linear(2 * hidden_size, hidden_size, dtype=dtype)  # W_c, b_c
        self.output = nn.Linear(hidden_size, target_size, dtype=dtype)  # W_o, b_o
        self.dropout = nn.Dropout(dropout)

    def encode(self, source: Tensor, source_mask: Tensor) -> Memory:
        """h_j for each symbol, and the part of the scores that depends on it alone."""
        states, final = run_layers(self.encoder, self.dropout(self.source_embedding(source)), mask=source_mask)
        states = mark("encoded", states)
        return Memory(states, self.score.project(states), source_mask, final)

    def start(self, memory: Memory) -> State:
        """The decoder starts from the encoder's last state, with s̃_0 = 0."""
        batch, _, size = memory.states.shape
        final = tuple(mark("start", of_layers) for of_layers in memory.final)
        return State(final, Tensor(np.zeros((batch, size), memory.states.dtype)), 0, memory)

    def decode(self, state: State, tokens: Tensor) -> tuple[Tensor, State, Tensor]:
        """See `RecurrentTranslator.decode`."""
        embedded = self.dropout(self.target_embedding(tokens))
        read = self._read_feeding if self.input_feeding else self._read
        attentional, state, weights = read(state, embedded)
        return mark("logits", self.output(self.dropout(attentional)), **_LOGITS), state, weights  # 6. output

    def _read(self, state: State, embedded: Tensor) -> tuple[Tensor, State, Tensor]:
        """Read embeddings (B, T, E) all at once.

        Returns:
            s̃ (B, T, H), the last state, and the weights (B, T, S).
        """
        states, hidden = run_layers(self.decoder, embedded, state.hidden)
        attentional, weights = self._attend(states, state.tokens_read, state.memory)
        after = State(hidden, attentional[:, -1], state.tokens_read + embedded.shape[1], state.memory)
        return attentional, after, weights

    def _read_feeding(self, state: State, embedded: Tensor) -> tuple[Tensor, State, Tensor]:
        """`_read` with input feeding: one embedding after the other, concatenated with the s̃ of the step before."""
        attentionals, weights = [], []
        for t, token in enumerate(ta.unbind(embedded, 1)):
            with at_step(t):
                fed = ta.cat([token, state.attentional], -1).unsqueeze(1)
                attentional, state, weight = self._read(state, fed)
                attentionals.append(attentional)
                weights.append(weight)
        return ta.cat(attentionals, 1), state, ta.cat(weights, 1)

    def _attend(self, states: Tensor, start: int, memory: Memory) -> tuple[Tensor, Tensor]:
        """From the states s (B, T, H) of the steps from ``start`` on to s̃ (B, T, H), and the weights (B, T, S)."""
        mask, gaussian = self._within_reach(states, start, memory)
        scores = self.score.compare(states, memory.keys)  # 1. score
        weights = mark("weights", F.masked_softmax(scores, mark("mask", mask), dim=-1))  # 2. softmax
        if gaussian is not None:
            weights = mark("mixed", weights * mark("gaussian", gaussian))
        context = mark("context", ta.matmul(weights, mark("value", memory.states)))  # 3. weighted sum
        joined = mark("joined", ta.cat([context, states], -1), **_JOINED)  # 4. concatenation
        announced = _ATTENTIONAL_FED if self.input_feeding else _ATTENTIONAL
        return mark("attentional", ta.tanh(self.combine(joined)), **announced), weights  # 5. attentional

    def _within_reach(self, states: Tensor, start: int, memory: Memory) -> tuple[Tensor, Tensor | None]:
        """The mask, (B, T or 1, S) bool, and local-p's Gaussian (B, T, S)."""
        symbols = memory.mask.unsqueeze(1)  # (B, 1, S)
        if self.attention == "global":
            return symbols, None
        positions = ta.arange(symbols.shape[-1])  # j
        lengths = symbols.sum(-1, keepdim=True)  # (B, 1, 1)
        if self.attention == "local-m":
            steps = ta.arange(start, start + states.shape[1]).unsqueeze(1)
            aligned = ta.minimum(steps, lengths - 1)  # p_t: (B, T, 1)
            return ta.logical_and(symbols, ta.abs(positions - aligned) <= self.window), None
        predicted = self.position(states, lengths.to(states.dtype))
        distance = positions.to(states.dtype) - predicted  # (B, T, S)
        gaussian = ta.exp(distance * distance * (-2.0 / self.window**2))  # exp(-(j - p)² / 2σ²) with σ = D / 2
        return ta.logical_and(symbols, ta.abs(distance.detach()) <= self.window), gaussian


# The formulas that the microscope shows for the tensors that `Luong` announces, and for their gradients.
_JOINED = {
    "formula": r"u_t = [c_t; s_t]",
    "gradient_formula": r"\bar u_t = W_c^\top \left(\bar{\tilde s}_t \odot (1 - \tilde s_t^2)\right)",
}
_ATTENTIONAL = {
    "formula": r"\tilde s_t = \tanh(W_c u_t + b_c)",
    "gradient_formula": r"\bar{\tilde s}_t = W_o^\top \bar o_t",
}
_ATTENTIONAL_FED = {**_ATTENTIONAL, "gradient_formula": r"\bar{\tilde s}_t = W_o^\top \bar o_t + \bar r_t"}
_LOGITS = {"formula": r"o_t = W_o \tilde s_t + b_o"}
