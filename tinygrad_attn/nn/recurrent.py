"""RNN, GRU and LSTM over sequences, in any number of layers and in one or both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from tinygrad_attn.checked import Count, FloatDtype, Probability, Size, Whole, checked
from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.nn.cells import check_state, uniform_by_hidden_size
from tinygrad_attn.nn.counting import empty_parameter
from tinygrad_attn.nn.module import Module
from tinygrad_attn.ops.arguments import as_tensor, layer_input
from tinygrad_attn.ops.comparison import lt
from tinygrad_attn.ops.dropout import dropout
from tinygrad_attn.ops.fused.gru import gru
from tinygrad_attn.ops.fused.linear import linear
from tinygrad_attn.ops.fused.lstm import lstm
from tinygrad_attn.ops.fused.rnn import rnn
from tinygrad_attn.ops.joining import cat, stack, unbind
from tinygrad_attn.ops.pointwise import where
from tinygrad_attn.ops.shape import squeeze, transpose, unsqueeze
from tinygrad_attn.tensor import Tensor

__all__ = ["GRU", "LSTM", "RNN", "RNNBase"]


class RNNBase(Module):
    """The base of RNN, GRU and LSTM, which define the recurrence.

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0: the parameters of layer 0, with the layout of the cell's;
            those of layer k end in ``_lk``, and those of the reverse direction in ``_reverse`` besides. Layers above
            the first take (directions · hidden_size) inputs.

    All are initialised uniformly within ±1/√hidden_size.

    Args:
        input_size: the size of each step's input.
        hidden_size: H, the size of a state.
        num_layers: L; each layer reads the states of the one below.
        bias: False leaves out both biases.
        batch_first: input and outputs are (B, T, …) and not (T, B, …).
        dropout: the probability of dropping an output between layers, in training.
        bidirectional: read in both directions; the states of both are concatenated in the outputs.
        dtype: of all parameters.

    Raises:
        ValueError: no layer, or ``dropout`` is not a probability.
    """

    blocks: ClassVar[int]
    """The number of gates, each a block of rows of the parameters."""
    states: ClassVar[tuple[str, ...]] = ("hx",)
    """The names of the tensors that make up the state."""

    @checked
    def __init__(
        self,
        input_size: Size,
        hidden_size: Count,
        num_layers: Annotated[int, Whole(1, 10_000)] = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: Probability = 0.0,
        bidirectional: bool = False,
        dtype: FloatDtype = default_dtype,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        rows = self.blocks * hidden_size
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size * self.num_directions
            for suffix in self._suffixes(layer):
                setattr(self, f"weight_ih{suffix}", empty_parameter((rows, width), dtype))
                setattr(self, f"weight_hh{suffix}", empty_parameter((rows, hidden_size), dtype))
                setattr(self, f"bias_ih{suffix}", empty_parameter(rows, dtype) if bias else None)
                setattr(self, f"bias_hh{suffix}", empty_parameter(rows, dtype) if bias else None)
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        """2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.num_directions]

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        uniform_by_hidden_size(self, self.hidden_size)

    def sequence(
        self, gates: Tensor, state: tuple[Tensor, ...], w_hh: Tensor, b_hh: Tensor | None, mask: Any, reverse: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One layer in one direction, from the input's contribution to the gates; each subclass defines it.

        Args:
            gates: (T, B, blocks·H), W_ih x + b_ih.
            state: the initial state, (B, H) each.
            w_hh, b_hh: the layer's parameters.
            mask: bool (T, B), or None.
            reverse: from the last step to the first.

        Returns:
            The states (T, B, H) and the final state, (B, H) each.
        """
        raise NotImplementedError(f"{type(self).__name__} has no sequence")

    def _run(
        self, input: Tensor, initial: Sequence[Tensor] | None, mask: Any, lengths: Any
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The outputs, in the input's layout, and the final state, (L·directions, B, H) each."""
        name = type(self).__name__
        input = layer_input(name, "input", input)
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            raise ValueError(
                f"{name}: input must be three axes, or two without a batch, the last of size {self.input_size}; "
                f"it has shape {input.shape}"
            )
        batched = input.ndim == 3
        swapped = batched and self.batch_first
        x = input if batched else unsqueeze(input, 1)
        steps, batch = x.shape[1::-1] if swapped else x.shape[:2]
        if not steps:
            raise ValueError(f"{name}: input must have at least one step, its shape is {input.shape}")
        state = [_by_layer(tensor) for tensor in self._initial(batch, x.dtype, initial, batched)]
        mask = self._step_mask((steps, batch), mask, lengths, batched, swapped)
        finals: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            if layer > 0:
                x = dropout(x, self.dropout, self.training)
            directions = []
            for reverse, suffix in enumerate(self._suffixes(layer)):
                w_ih, w_hh, b_ih, b_hh = (
                    getattr(self, kind + suffix) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                )
                first = tuple(of_all_layers[len(finals)] for of_all_layers in state)
                gates = linear(x, w_ih, b_ih)
                gates = transpose(gates, 0, 1) if swapped else gates
                outputs, final = self.sequence(gates, first, w_hh, b_hh, mask, bool(reverse))
                directions.append(transpose(outputs, 0, 1) if swapped else outputs)
                finals.append(final)
            x = directions[0] if len(directions) == 1 else cat(directions, -1)
        if mask is not None:
            x = where(unsqueeze(transpose(mask, 0, 1) if swapped else mask, -1), x, 0.0)
        last = tuple(_stacked(of_all_layers) for of_all_layers in zip(*finals, strict=True))
        if not batched:
            return squeeze(x, 1), tuple(squeeze(tensor, 1) for tensor in last)
        return x, last

    def _initial(self, batch: int, dtype: Any, initial: Sequence[Tensor] | None, batched: bool) -> tuple[Tensor, ...]:
        """The initial state, (L·directions, B, H) each."""
        shape = (self.num_layers * self.num_directions, batch, self.hidden_size)
        if initial is None:
            return tuple(Tensor(np.zeros(shape, dtype)) for _ in self.states)
        check_state(type(self).__name__, self.states, initial)
        expected = shape if batched else (shape[0], shape[2])
        for which, tensor in zip(self.states, initial, strict=True):
            if tensor.shape != expected:
                raise ValueError(f"{type(self).__name__}: {which} must have shape {expected}, it has {tensor.shape}")
        return tuple(initial) if batched else tuple(unsqueeze(tensor, 1) for tensor in initial)

    def _step_mask(
        self, shape: tuple[int, ...], mask: Any, lengths: Any, batched: bool, swapped: bool
    ) -> Tensor | None:
        """Bool (T, B), True for the steps to take, or None for all of them."""
        name = type(self).__name__
        if mask is not None and lengths is not None:
            raise ValueError(f"{name}: give mask or lengths, not both")
        if lengths is not None:
            steps, batch = shape
            lengths = as_tensor(lengths, f"{name}: lengths")
            values = lengths.array
            if values.dtype.kind not in "iu":
                raise TypeError(f"{name}: lengths must be integers, they are {lengths.dtype}")
            if lengths.shape != (batch,):
                raise ValueError(f"{name}: lengths must have shape ({batch},), it has {lengths.shape}")
            if batch and (values.min() < 0 or values.max() > steps):
                raise ValueError(f"{name}: lengths must lie within 0 and the {steps} steps, got {values.tolist()}")
            return lt(Tensor(np.arange(steps)[:, None]), lengths)
        if mask is None:
            return None
        mask = as_tensor(mask, f"{name}: mask")
        expected = (shape[::-1] if swapped else shape) if batched else shape[:1]
        if mask.shape != expected:
            raise ValueError(f"{name}: mask must have shape {expected}, it has {mask.shape}")
        if swapped:
            return transpose(mask, 0, 1)
        return mask if batched else unsqueeze(mask, 1)

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, bidirectional={self.bidirectional}"
        )


def _by_layer(states: Tensor) -> Sequence[Tensor]:
    """Split states (L·directions, B, H) along axis 0; a single one is a view."""
    return (squeeze(states, 0),) if states.shape[0] == 1 else unbind(states, 0)


def _stacked(states: Sequence[Tensor]) -> Tensor:
    """The inverse of `_by_layer`."""
    return unsqueeze(states[0], 0) if len(states) == 1 else stack(states, 0)


class RNN(RNNBase):
    """A plain RNN (see `tinygrad_attn.nn.RNNCell`) over a sequence; arguments and parameters as in `RNNBase`.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    blocks = 1

    @checked
    def __init__(
        self,
        input_size: Size,
        hidden_size: Count,
        num_layers: Annotated[int, Whole(1, 10_000)] = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: Probability = 0.0,
        bidirectional: bool = False,
        dtype: FloatDtype = default_dtype,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype)
        self.nonlinearity = nonlinearity

    def sequence(
        self, gates: Tensor, state: tuple[Tensor, ...], w_hh: Tensor, b_hh: Tensor | None, mask: Any, reverse: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        states, last = rnn(gates, *state, w_hh, b_hh, mask, reverse=reverse, nonlinearity=self.nonlinearity)
        return states, (last,)

    def forward(
        self, input: Tensor, hx: Tensor | None = None, mask: Any = None, lengths: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Run over the sequence: see `GRU.forward`."""
        outputs, (final,) = self._run(input, None if hx is None else (hx,), mask, lengths)
        return outputs, final


class GRU(RNNBase):
    """A GRU (see `tinygrad_attn.nn.GRUCell`) over a sequence; arguments and parameters as in `RNNBase`."""

    blocks = 3

    def sequence(
        self, gates: Tensor, state: tuple[Tensor, ...], w_hh: Tensor, b_hh: Tensor | None, mask: Any, reverse: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        states, last = gru(gates, *state, w_hh, b_hh, mask, reverse=reverse)
        return states, (last,)

    def forward(
        self, input: Tensor, hx: Tensor | None = None, mask: Any = None, lengths: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Run over the sequence.

        A padded step does not change the state, and its output is 0, so that outputs and final states are those of
        PyTorch's packed sequences. The inputs there must be finite; they have no effect.

        Args:
            input: (T, B, input_size), or (B, T, input_size) if ``batch_first``, or (T, input_size) without a batch.
            hx: initial states, (L · directions, B, H), or (L · directions, H) without a batch; zeros if None.
            mask: bool (T, B), or (B, T) if ``batch_first``; False where a step is padding.
            lengths: (B,) integers; the steps from there on are padding. An alternative to ``mask``.

        Returns:
            The last layer's states, those of both directions concatenated, in the input's layout; and the final states
            in the layout of ``hx``: those after the last step that is not padding, in the reverse direction after the
            first.

        Raises:
            ValueError: shapes other than these, no step, both ``mask`` and ``lengths``, or lengths that do not fit.
            TypeError: a mask that is not bool, lengths that are not integers, or a state that is no ``hx``.
        """
        outputs, (final,) = self._run(input, None if hx is None else (hx,), mask, lengths)
        return outputs, final


class LSTM(RNNBase):
    """An LSTM (see `tinygrad_attn.nn.LSTMCell`) over a sequence; arguments and parameters as in `RNNBase`."""

    blocks = 4
    states = ("h_0", "c_0")

    def sequence(
        self, gates: Tensor, state: tuple[Tensor, ...], w_hh: Tensor, b_hh: Tensor | None, mask: Any, reverse: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        states, *last = lstm(gates, *state, w_hh, b_hh, mask, reverse=reverse)
        return states, tuple(last)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None, mask: Any = None, lengths: Any = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run over the sequence: see `GRU.forward`. ``hx`` and the final states are pairs (h, c)."""
        outputs, (h, c) = self._run(input, hx, mask, lengths)
        return outputs, (h, c)
