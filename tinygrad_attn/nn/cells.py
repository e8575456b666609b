"""RNNCell, GRUCell and LSTMCell: one step of a recurrent layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from tinygrad_attn.checked import Count, FloatDtype, Size, checked
from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.nn import init
from tinygrad_attn.nn.counting import empty_parameter
from tinygrad_attn.nn.module import Module
from tinygrad_attn.ops.arguments import layer_input
from tinygrad_attn.ops.fused.gru import gru_cell
from tinygrad_attn.ops.fused.lstm import lstm_cell
from tinygrad_attn.ops.fused.rnn import rnn_cell
from tinygrad_attn.ops.shape import squeeze, unsqueeze
from tinygrad_attn.tensor import Tensor

__all__ = ["GRUCell", "LSTMCell", "RNNCell", "RNNCellBase", "check_state", "uniform_by_hidden_size"]


def uniform_by_hidden_size(module: Module, hidden_size: int) -> None:
    """Draw all parameters uniform within ±1/√hidden_size, the initial values of PyTorch's recurrent layers."""
    bound = 1.0 / math.sqrt(hidden_size)
    for parameter in module.parameters():
        init.uniform_(parameter, -bound, bound)


def check_state(layer: str, names: Sequence[str], state: Any) -> None:
    """Check that a state consists of one tensor for each name.

    Args:
        layer: the layer's name, for the message.
        names: of the state's tensors.
        state: the given state; a layer with one tensor wraps it in a tuple.

    Raises:
        TypeError: something else.
    """
    if not isinstance(state, (tuple, list)) or len(state) != len(names):
        given = f"{len(state)} of them" if isinstance(state, (tuple, list)) else f"a {type(state).__name__}"
        raise TypeError(f"{layer}: hx must be the tensors ({', '.join(names)}), got {given}")
    for name, tensor in zip(names, state, strict=True):
        if not isinstance(tensor, (Tensor, np.ndarray)):
            raise TypeError(f"{layer}: {name} must be a tensor, got a {type(tensor).__name__}")


class RNNCellBase(Module):
    """Base of the cells: the parameters, the default state of zeros, and inputs without a batch axis.

    Attributes:
        weight_ih: (blocks·hidden_size, input_size), the rows of all gates stacked.
        weight_hh: (blocks·hidden_size, hidden_size).
        bias_ih, bias_hh: (blocks·hidden_size,), or None.

    All are initialised uniformly within ±1/√hidden_size.
    """

    blocks: ClassVar[int]
    """The number of gates, each a block of rows of the parameters."""
    states: ClassVar[tuple[str, ...]] = ("hx",)
    """The names of the tensors that make up the state."""

    @checked
    def __init__(
        self, input_size: Size, hidden_size: Count, bias: bool = True, dtype: FloatDtype = default_dtype
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        rows = self.blocks * hidden_size
        self.weight_ih = empty_parameter((rows, input_size), dtype)
        self.weight_hh = empty_parameter((rows, hidden_size), dtype)
        self.bias_ih = empty_parameter(rows, dtype) if bias else None
        self.bias_hh = empty_parameter(rows, dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        uniform_by_hidden_size(self, self.hidden_size)

    def weights(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """weight_ih, weight_hh, bias_ih and bias_hh, in the order of the ops' arguments."""
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def step(self, input: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One step from (B, input_size) and a state of (B, hidden_size) each; each subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} has no step")

    def _next(self, input: Tensor, state: Sequence[Tensor] | None) -> tuple[Tensor, ...]:
        name = type(self).__name__
        input = layer_input(name, "input", input)
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ValueError(
                f"{name}: input must be (B, {self.input_size}) or ({self.input_size},), it has shape {input.shape}"
            )
        expected = (*input.shape[:-1], self.hidden_size)
        if state is None:
            state = [Tensor(np.zeros(expected, input.dtype)) for _ in self.states]
        check_state(name, self.states, state)
        for which, tensor in zip(self.states, state, strict=True):
            if tensor.shape != expected:
                raise ValueError(f"{name}: {which} must have shape {expected}, it has {tensor.shape}")
        if input.ndim == 2:
            return self.step(input, tuple(state))
        state = self.step(unsqueeze(input, 0), tuple(unsqueeze(tensor, 0) for tensor in state))
        return tuple(squeeze(tensor, 0) for tensor in state)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class RNNCell(RNNCellBase):
    """One step of a plain RNN (Elman 1990): h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu in place of tanh.

    The parameters are those of `RNNCellBase` with one block.
    """

    blocks = 1

    @checked
    def __init__(
        self,
        input_size: Size,
        hidden_size: Count,
        bias: bool = True,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        dtype: FloatDtype = default_dtype,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype)
        self.nonlinearity = nonlinearity

    def step(self, input: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,) = state
        return (rnn_cell(input, h, *self.weights(), self.nonlinearity),)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Input (B, input_size) and state (B, hidden_size), zeros if None, to the next state; the axis B is optional.

        Raises:
            ValueError: shapes other than these.
            TypeError: a state that is not what ``hx`` should be.
        """
        return self._next(input, None if hx is None else (hx,))[0]


class GRUCell(RNNCellBase):
    """One step of a GRU (Cho et al. 2014), in PyTorch's form::

        r = σ(W_ir x + b_ir + W_hr h + b_hr)
        z = σ(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r ⊙ (W_hn h + b_hn))
        h' = (1 − z) ⊙ n + z ⊙ h

    The parameters are those of `RNNCellBase` with the blocks r, z, n.
    """

    blocks = 3

    def step(self, input: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,) = state
        return (gru_cell(input, h, *self.weights()),)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Input (B, input_size) and state (B, hidden_size), zeros if None, to the next state; the axis B is optional.

        Raises:
            ValueError: shapes other than these.
            TypeError: a state that is not what ``hx`` should be.
        """
        return self._next(input, None if hx is None else (hx,))[0]


class LSTMCell(RNNCellBase):
    """One step of an LSTM (Hochreiter and Schmidhuber 1997; Gers et al. 2000), with a state h and a cell c::

        i, f, o = σ(W_ii x + b_ii + W_hi h + b_hi), and so on with f and o
        g = tanh(W_ig x + b_ig + W_hg h + b_hg)
        c' = f ⊙ c + i ⊙ g
        h' = o ⊙ tanh c'

    The parameters are those of `RNNCellBase` with the blocks i, f, g, o.
    """

    blocks = 4
    states = ("h", "c")

    def step(self, input: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = state
        return lstm_cell(input, (h, c), *self.weights())

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Input (B, input_size) and state (h, c), each (B, hidden_size), zeros if None, to the next (h, c); the axis B
        is optional.

        Raises:
            ValueError: shapes other than these.
            TypeError: a state that is not what ``hx`` should be.
        """
        h, c = self._next(input, hx)
        return h, c
