"""Transformer, its encoder and decoder: Vaswani et al. 2017.

::

    encoder layer:  x = norm(x + attention(x, x))           decoder layer:  x = norm(x + causal_attention(x, x))
                    x = norm(x + feed_forward(x))                           x = norm(x + attention(x, memory))
                                                                            x = norm(x + feed_forward(x))

(in the paper's order; with ``norm_first`` x + attention(norm(x)), and so on).
Vaswani et al., "Attention Is All You Need", 2017. Tensors are (length, B, d_model), or (B, length, d_model) if
``batch_first``; below, S is the source's length and T the target's. Masks follow `MultiheadAttention`: True, or -inf,
masks a key; key_padding_mask is (B, length), the others are (queries, keys).
`tinygrad_attn.nn.record_attention_weights` records the weights of every layer and head.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.checked import Count, FloatDtype, Layers, NonNegative, Probability, Size, checked
from tinygrad_attn.nn import init
from tinygrad_attn.nn.attention_masks import merge_padding_mask
from tinygrad_attn.nn.containers import ModuleList
from tinygrad_attn.nn.module import Module
from tinygrad_attn.nn.multihead import check_heads
from tinygrad_attn.nn.positional import RotaryPositionalEncoding
from tinygrad_attn.nn.recomputed import layers_of
from tinygrad_attn.nn.transformer_layers import (
    Activation,
    DecoderLayerState,
    NormKind,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
    make_norm,
)
from tinygrad_attn.tensor import Tensor, default_dtype

__all__ = [
    "DecoderState", "Transformer", "TransformerDecoder", "TransformerEncoder", "generate_square_subsequent_mask",
]  # fmt: skip


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

    Attributes:
        recompute: whether layers are computed again in the backward pass; see `tinygrad_attn.nn.recompute_layers`.
    """

    recompute = False

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
        for layer in layers_of(self.layers, self.recompute):
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

    Attributes:
        recompute: whether layers are computed again in the backward pass; see `tinygrad_attn.nn.recompute_layers`.
    """

    recompute = False

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
        for layer in layers_of(self.layers, self.recompute):
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
    """Encoder and decoder, both with a final norm as in PyTorch; embeddings and the output layer are the model's.

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
        norm: NormKind = "layer",
        num_kv_heads: Count | None = None,
        qk_norm: bool = False,
        rotary: RotaryPositionalEncoding | None = None,
        alibi: bool = False,
    ) -> None:
        check_heads(type(self).__name__, {"d_model": d_model, "nhead": nhead}, num_kv_heads, rotary)
        super().__init__()
        sizes = (d_model, nhead, dim_feedforward, dropout, activation)
        options = (layer_norm_eps, batch_first, norm_first, bias, dtype)
        newer: dict[str, Any] = {"norm": norm, "num_kv_heads": num_kv_heads, "qk_norm": qk_norm}
        newer |= {"rotary": rotary, "alibi": alibi}
        last = (norm, d_model, layer_norm_eps, bias, dtype)
        self.encoder = TransformerEncoder(
            TransformerEncoderLayer(*sizes, *options, **newer), num_encoder_layers, make_norm(*last)
        )
        self.decoder = TransformerDecoder(
            TransformerDecoderLayer(*sizes, *options, **newer), num_decoder_layers, make_norm(*last)
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
