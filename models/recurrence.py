"""Shared by the recurrent models: decoding by decode(), and RNN, GRU and LSTM layers by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.nn.recurrent import RNNBase
from tinygrad_attn.tensor import Tensor

from .interface import ModelSettings, Translator, Weights
from .setting import Value, setting

__all__ = ["CELLS", "Hidden", "RecurrentSettings", "RecurrentTranslator", "recurrent_layers", "run_layers"]

CELLS: dict[str, type[RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}

Hidden = tuple[Tensor, ...]
"""A state of L layers: (h,), or (h, c) of an LSTM, each (B, L, H). The batch is on axis 0, as in all decoder states."""


@dataclass(frozen=True)
class RecurrentSettings(ModelSettings):
    """The settings of a model whose encoder and decoder are `recurrent_layers`."""

    dropout: float = setting(0.0, "probability of dropping an activation in training", minimum=0, below=1)
    embedding_size: int = setting(32, "width of the embeddings", minimum=1)
    hidden_size: int = setting(64, "width of the recurrent states", minimum=1)
    cell: str = setting("lstm", "the recurrent layers", choices=CELLS)
    layers: int = setting(1, "recurrent layers of the encoder, and of the decoder", minimum=1, most=1000)

    def width(self) -> int:
        """See `ModelSettings.width`."""
        return self.hidden_size

    def activations(self) -> int:
        """See `ModelSettings.activations`; measured: 10 to 13 times the states of a layer for GRU and LSTM."""
        return 5 * CELLS[self.cell].blocks * self.layers * self.hidden_size // 2

    def smaller(self) -> str:
        """See `ModelSettings.smaller`."""
        return f"model.hidden_size={max(1, self.hidden_size // 2)}"

    @classmethod
    def suited(cls, width: int, steps: int) -> dict[str, Value]:
        """See `ModelSettings.suited`."""
        return {"model.embedding_size": width // 12 * 8, "model.hidden_size": width, "training.learning_rate": 0.002}


class RecurrentTranslator(Translator):
    """A translator that defines `decode` for any number of tokens; `forward` and `step` follow from it."""

    def decode(self, state: Any, tokens: Tensor) -> tuple[Tensor, Any, Tensor | None]:
        """Read tokens (B, T), one after the other.

        Returns:
            The logits (B, T, V), the last state, and the attention weights (B, T, S); None if the model has none.
        """
        raise NotImplementedError

    def forward(
        self, source: Tensor, source_mask: Tensor, target_in: Tensor, *, need_weights: bool = False
    ) -> Tensor | tuple[Tensor, Weights]:
        """See `Translator.forward`. The weights are those of ``"attention"``, with one head, if the model attends."""
        state = self.start(self.encode(source, source_mask))
        logits, _, weights = self.decode(state, target_in)
        return (logits, _with_heads(weights)) if need_weights else logits

    def step(self, state: Any, token: Tensor, *, need_weights: bool = False) -> tuple[Tensor, Any, Weights]:
        """See `Translator.step`."""
        logits, state, weights = self.decode(state, token.unsqueeze(1))
        return logits.squeeze(1), state, _with_heads(weights) if need_weights else {}


def _with_heads(weights: Tensor | None) -> Weights:
    return {} if weights is None else {"attention": weights.unsqueeze(1)}


def recurrent_layers(
    cell: str, input_size: int, hidden_size: int, layers: int, dropout: float, dtype: Any = default_dtype
) -> RNNBase:
    """Layers of ``cell`` "rnn", "gru" or "lstm", which read (B, T, input_size) in one direction.

    Raises:
        ValueError: no such cell.
    """
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {cell!r}")
    return CELLS[cell](input_size, hidden_size, layers, batch_first=True, dropout=dropout, dtype=dtype)


def run_layers(
    layers: RNNBase, inputs: Tensor, hidden: Hidden | None = None, mask: Tensor | None = None
) -> tuple[Tensor, Hidden]:
    """Read a sequence.

    Args:
        layers: made by `recurrent_layers`.
        inputs: (B, T, input_size).
        hidden: the state before the first step; zeros if None.
        mask: bool (B, T), False where a step is padding, which does not change the state.

    Returns:
        The last layer's states (B, T, H), and the state after the last step.
    """
    before = None if hidden is None else tuple(ta.transpose(of_layers, 0, 1) for of_layers in hidden)
    outputs, after = layers(inputs, before if before is None or len(before) > 1 else before[0], mask=mask)
    after = after if isinstance(after, tuple) else (after,)
    return outputs, tuple(ta.transpose(of_layers, 0, 1) for of_layers in after)
