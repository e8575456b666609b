"""Transformer, its encoder and decoder, and their layers: Vaswani et al. 2017.

::

    encoder layer:  x = norm(x + attention(x, x))           decoder layer:  x = norm(x + causal_attention(x, x))
                    x = norm(x + feed_forward(x))                           x = norm(x + attention(x, memory))
                                                                            x = norm(x + feed_forward(x))

Vaswani et al., "Attention Is All You Need", 2017. Tensors are (length, B, d_model), or (B, length, d_model) if
``batch_first``; below, S is the source's length and T the target's. Masks follow `MultiheadAttention`: True, or -inf,
masks a key; key_padding_mask is (B, length), the others are (queries, keys).
`tinygrad_attn.nn.record_attention_weights` records the weights of every layer and head.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import numpy as np

from tinygrad_attn.checked import Count, FloatDtype, Layers, NonNegative, Probability, Refused, Size, checked
from tinygrad_attn.modes import mark
from tinygrad_attn.nn import init
from tinygrad_attn.nn.attention_masks import merge_padding_mask
from tinygrad_attn.nn.containers import ModuleList
from tinygrad_attn.nn.dropout import Dropout
from tinygrad_attn.nn.kv_cache import KVCache
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import Module
from tinygrad_attn.nn.multihead import MultiheadAttention
from tinygrad_attn.nn.norm import LayerNorm
from tinygrad_attn.ops.activation import gelu, relu
from tinygrad_attn.ops.arguments import layer_input
from tinygrad_attn.ops.fused.linear import activated_linear
from tinygrad_attn.ops.fused.normalize import add_layer_norm
from tinygrad_attn.ops.pointwise import add
from tinygrad_attn.tensor import Tensor, default_dtype

__all__ = [
    "DecoderLayerState", "DecoderState", "Transformer", "TransformerDecoder", "TransformerDecoderLayer",
    "TransformerEncoder", "TransformerEncoderLayer", "TransformerLayer", "generate_square_subsequent_mask",
]  # fmt: skip

# -- the layers --------------------------------------------------------------------------------------------------------


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": relu, "gelu": gelu}
_NAMES = {function: name for name, function in _ACTIVATIONS.items()}


def _activation(value: Any) -> Any:
    if not callable(value) and (not isinstance(value, str) or value not in _ACTIVATIONS):
        raise Refused(ValueError, f"must be {', '.join(repr(name) for name in _ACTIVATIONS)} or a function")
    return value


Activation = Annotated[str | Callable[[Tensor], Tensor], _activation]


def _check_heads(name: str, d_model: int, nhead: int) -> None:
    if nhead < 1 or d_model % nhead:
        raise ValueError(f"{name}: nhead {nhead} does not divide d_model {d_model}")


class TransformerLayer(Module):
    """Base of both layers: self-attention, the feed-forward network, and the residual with its norm.

    Args:
        d_model: the size of the vectors, the same for every sublayer.
        nhead: the number of heads.
        dim_feedforward: the inner size of the feed-forward network.
        dropout: of attention weights, inside the feed-forward network, and of each sublayer's output.
        activation: of the feed-forward network: "relu", "gelu", or a function.
        layer_norm_eps: of all layer norms.
        batch_first: (B, length, d_model) in place of (length, B, d_model).
        norm_first: x + sublayer(norm(x)) in place of the paper's norm(x + sublayer(x)).
        bias: of all linear maps and layer norms.
        dtype: of all parameters.

    Raises:
        ValueError: the heads do not divide ``d_model``, or an unknown activation.
    """

    @checked
    def __init__(
        self,
        d_model: Count,
        nhead: Count,
        dim_feedforward: Size = 2048,
        dropout: Probability = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: NonNegative = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: FloatDtype = default_dtype,
    ) -> None:
        _check_heads(type(self).__name__, d_model, nhead)
        super().__init__()
        self.activation = _ACTIVATIONS[activation] if isinstance(activation, str) else activation
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)

    def _wrapped(
        self, x: Tensor, name: str, sublayer: Callable[[Tensor], Tensor], norm: LayerNorm, dropout: Dropout
    ) -> Tensor:
        """norm(x + dropout(sublayer(x))), or x + dropout(sublayer(norm(x))) with ``norm_first``."""
        past, x = mark("skip", x), mark("branch", x, sublayer=name)
        if self.norm_first:
            return mark("residual", add(past, dropout(sublayer(norm(x)))))
        normed = add_layer_norm(dropout(sublayer(x)), past, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return mark("norm", normed)

    def _feed_forward(self, x: Tensor) -> Tensor:
        """W_2 activation(W_1 x + b_1) + b_2, at each position separately."""
        if self.activation in _NAMES:
            name = _NAMES[self.activation]
            inner = activated_linear(x, self.linear1.weight, self.linear1.bias, activation=name)
        else:
            inner = self.activation(self.linear1(x))
        return self.linear2(self.dropout(inner))


class TransformerEncoderLayer(TransformerLayer):
    """Self-attention and a feed-forward network; arguments as in `TransformerLayer`."""

    def forward(
        self, src: Tensor, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Tensor:
        """(S, B, d_model), or (B, S, d_model) if ``batch_first``, the same shape out.

        Args:
            src: the source, or the output of the layer below.
            src_mask: (S, S), or (B·heads, S, S).
            src_key_padding_mask: (B, S).
            is_causal: attend to earlier positions and the position itself only.

        Raises:
            ValueError: shapes other than these.
        """

        src = layer_input(type(self).__name__, "src", src)

        def attend(x: Tensor) -> Tensor:
            return self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0]

        x = self._wrapped(src, "self_attention", attend, self.norm1, self.dropout1)
        return self._wrapped(x, "feed_forward", self._feed_forward, self.norm2, self.dropout2)


class DecoderLayerState(NamedTuple):
    """The state of a decoder layer between two positions of the target."""

    memory: KVCache
    """The keys and values of the encoder's output."""
    past: KVCache | None
    """The keys and values of the earlier positions; None before the first."""


class TransformerDecoderLayer(TransformerLayer):
    """Self-attention, attention to the encoder's output, and a feed-forward network; arguments as in
    `TransformerLayer`."""

    @checked
    def __init__(
        self,
        d_model: Count,
        nhead: Count,
        dim_feedforward: Size = 2048,
        dropout: Probability = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: NonNegative = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: FloatDtype = default_dtype,
    ) -> None:
        super().__init__(
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, dtype
        )
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout3 = Dropout(dropout)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """(T, B, d_model), or (B, T, d_model) if ``batch_first``, the same shape out.

        Args:
            tgt: the target, or the output of the layer below.
            memory: the encoder's output, (S, B, d_model) or (B, S, d_model).
            tgt_mask: (T, T), or (B·heads, T, T).
            memory_mask: (T, S), or (B·heads, T, S).
            tgt_key_padding_mask: (B, T).
            memory_key_padding_mask: (B, S).
            tgt_is_causal, memory_is_causal: position i attends to positions 0 to i only.

        Raises:
            ValueError: shapes other than these.
        """

        tgt = layer_input(type(self).__name__, "tgt", tgt)
        memory = layer_input(type(self).__name__, "memory", memory)

        def attend_to_target(x: Tensor) -> Tensor:
            return self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)[0]

        def attend_to_memory(x: Tensor) -> Tensor:
            return self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask, is_causal=memory_is_causal
            )[0]

        return self._in_order(tgt, attend_to_target, attend_to_memory)

    def start(self, memory: Tensor) -> DecoderLayerState:
        """The state before the first position: ``memory``'s keys and values, projected once."""
        return DecoderLayerState(self.multihead_attn.project_keys_values(memory, memory), None)

    def step(
        self, tgt: Tensor, state: DecoderLayerState, memory_mask: Tensor | None = None
    ) -> tuple[Tensor, DecoderLayerState]:
        """The output of `forward` with a causal target at one position, (1, B, d_model) or (B, 1, d_model).

        Returns:
            The output and the new state. ``memory_mask`` is from
            `tinygrad_attn.nn.attention_masks.merge_padding_mask`.
        """
        past = state.past

        def attend_to_past(x: Tensor) -> Tensor:
            nonlocal past
            attended, past = self.self_attn.attend_to_past(x, past)
            return attended

        def attend_to_memory(x: Tensor) -> Tensor:
            return self.multihead_attn.attend(x, state.memory, memory_mask, need_weights=False)[0]

        after = self._in_order(tgt, attend_to_past, attend_to_memory)
        return after, DecoderLayerState(state.memory, past)

    def _in_order(
        self, x: Tensor, attend_to_target: Callable[[Tensor], Tensor], attend_to_memory: Callable[[Tensor], Tensor]
    ) -> Tensor:
        x = self._wrapped(x, "self_attention", attend_to_target, self.norm1, self.dropout1)
        x = self._wrapped(x, "attention", attend_to_memory, self.norm2, self.dropout2)
        return self._wrapped(x, "feed_forward", self._feed_forward, self.norm3, self.dropout3)


# -- the stacks of layers ----------------------------------------------------------------------------------------------


@checked
def generate_square_subsequent_mask(sz: Size, dtype: FloatDtype = default_dtype) -> Tensor:
    """PyTorch's causal mask, to add to scores: (sz, sz), 0 on and below the diagonal and -inf above it."""
    return Tensor(np.triu(np.full((sz, sz), -np.inf, dtype), 1))


class TransformerEncoder(Module):
    """A stack of encoder layers.

    Args:
        encoder_layer: copied ``num_layers`` times; all copies start with the same values, as in PyTorch.
        num_layers: N.
        norm: applied to the last layer's output, or None.
    """

    @checked
    def __init__(self, encoder_layer: Module, num_layers: Layers, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = ModuleList(copy.deepcopy(encoder_layer) for _ in range(num_layers))
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self, src: Tensor, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None
    ) -> Tensor:
        """Every layer in turn: see `TransformerEncoderLayer.forward`; ``is_causal`` None is False."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, bool(is_causal))
        return src if self.norm is None else self.norm(src)


class DecoderState(NamedTuple):
    """The state of a decoder between two positions of the target.

    Axis 0 of each tensor is B, so that beam search can reorder its sequences.
    """

    layers: list[DecoderLayerState]
    """The state of every layer."""
    memory_mask: Tensor | None
    """(B, 1, 1, S), the result of `tinygrad_attn.nn.attention_masks.merge_padding_mask`."""


class TransformerDecoder(Module):
    """A stack of decoder layers.

    Args:
        decoder_layer: copied ``num_layers`` times; all copies start with the same values, as in PyTorch.
        num_layers: N.
        norm: applied to the last layer's output, or None.
    """

    @checked
    def __init__(self, decoder_layer: Module, num_layers: Layers, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = ModuleList(copy.deepcopy(decoder_layer) for _ in range(num_layers))
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Every layer in turn: see `TransformerDecoderLayer.forward`; ``tgt_is_causal`` None is False."""
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        for layer in self.layers:
            tgt = layer(tgt, memory, *masks, bool(tgt_is_causal), memory_is_causal)
        return tgt if self.norm is None else self.norm(tgt)

    def start(self, memory: Tensor, memory_key_padding_mask: Any = None) -> DecoderState:
        """The state before the first position of the target; arguments as in `forward`."""
        layers = [layer.start(memory) for layer in self._decoder_layers()]
        if not layers:
            raise ValueError("TransformerDecoder: a decoder without layers has no state")
        batch, length, _ = layers[0].memory.joined.shape
        return DecoderState(layers, merge_padding_mask(memory_key_padding_mask, batch, length, memory.dtype))

    def step(self, tgt: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """One position of the target, (1, B, d_model) or (B, 1, d_model), and the state after it.

        The output is that of `forward` with a causal target at this position; earlier positions are not recomputed.
        """
        after = []
        for layer, before in zip(self._decoder_layers(), state.layers, strict=True):
            tgt, layer_state = layer.step(tgt, before, state.memory_mask)
            after.append(layer_state)
        return (tgt if self.norm is None else self.norm(tgt)), DecoderState(after, state.memory_mask)

    def _decoder_layers(self) -> list[TransformerDecoderLayer]:
        return list(self.layers)  # type: ignore[arg-type]


class Transformer(Module):
    """Encoder and decoder, both with a final layer norm as in PyTorch; embeddings and the output layer are the model's.

    All matrices are initialised Xavier-uniform, other parameters as in their layers. Arguments as in
    `TransformerLayer`, and:

    Args:
        num_encoder_layers: the number of encoder layers.
        num_decoder_layers: the number of decoder layers.
    """

    @checked
    def __init__(
        self,
        d_model: Count = 512,
        nhead: Count = 8,
        num_encoder_layers: Layers = 6,
        num_decoder_layers: Layers = 6,
        dim_feedforward: Size = 2048,
        dropout: Probability = 0.1,
        activation: Activation = "relu",
        *,
        layer_norm_eps: NonNegative = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: FloatDtype = default_dtype,
    ) -> None:
        _check_heads(type(self).__name__, d_model, nhead)
        super().__init__()
        sizes = (d_model, nhead, dim_feedforward, dropout, activation)
        options = (layer_norm_eps, batch_first, norm_first, bias, dtype)
        self.encoder = TransformerEncoder(
            TransformerEncoderLayer(*sizes, *options),
            num_encoder_layers,
            LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype),
        )
        self.decoder = TransformerDecoder(
            TransformerDecoderLayer(*sizes, *options),
            num_decoder_layers,
            LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype),
        )
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = batch_first
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values for all matrices."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Source (S, B, d_model) and target (T, B, d_model), or B first if ``batch_first``, to (T, B, d_model).

        Masks as in `TransformerEncoderLayer.forward` and `TransformerDecoderLayer.forward`.
        """
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        return self.decoder(tgt, memory, *masks, tgt_is_causal, memory_is_causal)

    generate_square_subsequent_mask = staticmethod(generate_square_subsequent_mask)
