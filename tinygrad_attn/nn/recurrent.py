"""Recurrent layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.nn import init
from tinygrad_attn.nn.module import Module, Parameter
from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.dropout import dropout
from tinygrad_attn.ops.elementwise import where
from tinygrad_attn.ops.matmul import linear
from tinygrad_attn.ops.parts import cat, stack
from tinygrad_attn.ops.recurrent import gru, gru_cell
from tinygrad_attn.ops.shape import transpose, unsqueeze
from tinygrad_attn.tensor import Tensor, default_dtype

__all__ = ["GRU", "GRUCell"]


class GRUCell(Module):
    """One step of a GRU (Cho et al. 2014), in PyTorch's form::

        r = σ(W_ir x + b_ir + W_hr h + b_hr)
        z = σ(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r ⊙ (W_hn h + b_hn))
        h' = (1 − z) ⊙ n + z ⊙ h

    Attributes:
        weight_ih: (3·hidden_size, input_size), the rows of r, z and n one under the other.
        weight_hh: (3·hidden_size, hidden_size).
        bias_ih, bias_hh: (3·hidden_size,), or None.

    All start uniform within ±1/√hidden_size.
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = default_dtype) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.weight_ih = Parameter(np.empty((3 * hidden_size, input_size), dtype))
        self.weight_hh = Parameter(np.empty((3 * hidden_size, hidden_size), dtype))
        self.bias_ih = Parameter(np.empty(3 * hidden_size, dtype)) if bias else None
        self.bias_hh = Parameter(np.empty(3 * hidden_size, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values anew."""
        _uniform(self, self.hidden_size)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Input (B, input_size) and state (B, hidden_size), zeros if None, to the next state."""
        if hx is None:
            hx = Tensor(np.zeros((input.shape[0], self.hidden_size), input.dtype))
        return gru_cell(input, hx, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class GRU(Module):
    """A GRU (see `GRUCell`) over a sequence, in any number of layers and in one or both directions.

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0: of layer 0 as in `GRUCell`, and so on for each layer; with
        the
            suffix ``_reverse`` for the other direction. Layers above the first take (directions · hidden_size) inputs.

    Args:
        dropout: the probability of dropping an output between layers, in training.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = default_dtype,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"GRU: num_layers must be at least 1, got {num_layers}")
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"GRU: dropout must be a probability, got {dropout}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size * self.num_directions
            for suffix in self._suffixes(layer):
                setattr(self, f"weight_ih{suffix}", Parameter(np.empty((3 * hidden_size, width), dtype)))
                setattr(self, f"weight_hh{suffix}", Parameter(np.empty((3 * hidden_size, hidden_size), dtype)))
                setattr(self, f"bias_ih{suffix}", Parameter(np.empty(3 * hidden_size, dtype)) if bias else None)
                setattr(self, f"bias_hh{suffix}", Parameter(np.empty(3 * hidden_size, dtype)) if bias else None)
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        """2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.num_directions]

    def reset_parameters(self) -> None:
        """Draw the initial values anew, uniform within ±1/√hidden_size."""
        _uniform(self, self.hidden_size)

    def forward(self, input: Tensor, hx: Tensor | None = None, mask: Any = None) -> tuple[Tensor, Tensor]:
        """Run over the sequence.

        Args:
            input: (T, B, input_size), or (B, T, input_size) if ``batch_first``.
            hx: initial states, (layers · directions, B, hidden_size); zeros if None.
            mask: bool (T, B), or (B, T) if ``batch_first``; False where a step is padding. A padded step leaves the
                state as it was and gives zeros, as PyTorch's packed sequences do.

        Returns:
            The last layer's states, of both directions side by side, in the input's layout, and the final states in the
            layout of ``hx``.

        Raises:
            ValueError: the shapes do not fit.
        """
        if input.ndim != 3 or input.shape[-1] != self.input_size:
            raise ValueError(
                f"GRU: input must have three axes, the last of size {self.input_size}, it has shape {input.shape}"
            )
        x = transpose(input, 0, 1) if self.batch_first else input
        batch, count = x.shape[1], self.num_layers * self.num_directions
        if hx is None:
            hx = Tensor(np.zeros((count, batch, self.hidden_size), x.dtype))
        if hx.shape != (count, batch, self.hidden_size):
            raise ValueError(f"GRU: hx must have shape {(count, batch, self.hidden_size)}, it has {hx.shape}")
        if mask is not None:
            mask = transpose(as_tensor(mask), 0, 1) if self.batch_first else as_tensor(mask)
        finals: list[Tensor] = []
        for layer in range(self.num_layers):
            if layer > 0:
                x = dropout(x, self.dropout, self.training)
            outputs = []
            for reverse, suffix in enumerate(self._suffixes(layer)):
                parameters = vars(self)
                gates = linear(x, parameters[f"weight_ih{suffix}"], parameters[f"bias_ih{suffix}"])
                states = gru(
                    gates,
                    hx[len(finals)],
                    parameters[f"weight_hh{suffix}"],
                    parameters[f"bias_hh{suffix}"],
                    mask,
                    reverse=bool(reverse),
                )
                finals.append(states[0 if reverse else -1])
                outputs.append(states)
            x = outputs[0] if len(outputs) == 1 else cat(outputs, -1)
            if mask is not None:
                x = where(unsqueeze(mask, -1), x, 0.0)
        return (transpose(x, 0, 1) if self.batch_first else x), stack(finals, 0)

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, bidirectional={self.bidirectional}"
        )


def _uniform(module: Module, hidden_size: int) -> None:
    bound = 1.0 / math.sqrt(hidden_size) if hidden_size else 0.0
    for parameter in module.parameters():
        init.uniform_(parameter, -bound, bound)
