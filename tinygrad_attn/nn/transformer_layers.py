"""The layers of a Transformer's encoder and decoder: attention and a feed-forward network, with residuals and norms.

`tinygrad_attn.nn.transformer` stacks them, and says what they compute and which masks they take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from tinygrad_attn.checked import Count, FloatDtype, NonNegative, Probability, Refused, Size, checked
from tinygrad_attn.modes import mark
from tinygrad_attn.nn.dropout import Dropout
from tinygrad_attn.nn.feed_forward import SwiGLU, feed_forward_of
from tinygrad_attn.nn.kv_cache import KVCache
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import Module, is_plain
from tinygrad_attn.nn.multihead import MultiheadAttention, check_heads
from tinygrad_attn.nn.norm import LayerNorm, RMSNorm
from tinygrad_attn.nn.positional import RotaryPositionalEncoding
from tinygrad_attn.ops.activation import gelu, relu
from tinygrad_attn.ops.arguments import layer_input
from tinygrad_attn.ops.fused.normalize import add_layer_norm
from tinygrad_attn.ops.pointwise import add
from tinygrad_attn.tensor import Tensor, default_dtype

__all__ = [
    "Activation", "DecoderLayerState", "NormKind", "TransformerDecoderLayer", "TransformerEncoderLayer",
    "TransformerLayer", "make_norm",
]  # fmt: skip


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": relu, "gelu": gelu}
_NAMES = {function: name for name, function in _ACTIVATIONS.items()}


def _activation(value: Any) -> Any:
    named = (*_ACTIVATIONS, "swiglu")
    if not callable(value) and (not isinstance(value, str) or value not in named):
        raise Refused(ValueError, f"must be {', '.join(repr(name) for name in named)} or a function")
    return value


Activation = Annotated[str | Callable[[Tensor], Tensor], _activation]


NormKind = Literal["layer", "rms"]
"""Which norm: `LayerNorm` or `RMSNorm`."""


def make_norm(kind: str, d_model: int, eps: float, bias: bool, dtype: Any) -> LayerNorm | RMSNorm:
    return RMSNorm(d_model, eps, dtype=dtype) if kind == "rms" else LayerNorm(d_model, eps, bias=bias, dtype=dtype)


class TransformerLayer(Module):
    """Base of both layers: self-attention, the feed-forward network, and the residual with its norm.

    Args:
        d_model: the size of the vectors, the same for every sublayer.
        nhead: the number of heads.
        dim_feedforward: the inner size of the feed-forward network.
        dropout: of attention weights, inside the feed-forward network, and of each sublayer's output.
        activation: of the feed-forward network: "relu", "gelu", or a function; "swiglu" makes it a `SwiGLU`.
        layer_norm_eps: of all norms.
        batch_first: (B, length, d_model) in place of (length, B, d_model).
        norm_first: x + sublayer(norm(x)) in place of the paper's norm(x + sublayer(x)).
        bias: of all linear maps and layer norms.
        dtype: of all parameters.
        norm: "layer", or "rms" for `RMSNorm`.
        num_kv_heads, qk_norm: of every attention, as in `MultiheadAttention`.
        rotary, alibi: of self-attention, as in `MultiheadAttention`; positions of two sequences are not comparable.

    Raises:
        ValueError: the heads do not divide ``d_model``, or an unknown activation.
    """

    attends_to_memory: ClassVar[bool] = False
    """Whether there is a further attention, to the encoder's output, between the two sublayers."""

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
        *,
        norm: NormKind = "layer",
        num_kv_heads: Count | None = None,
        qk_norm: bool = False,
        rotary: RotaryPositionalEncoding | None = None,
        alibi: bool = False,
    ) -> None:
        check_heads(type(self).__name__, {"d_model": d_model, "nhead": nhead}, num_kv_heads, rotary)
        super().__init__()
        self.activation = _ACTIVATIONS.get(activation) if isinstance(activation, str) else activation
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype, num_kv_heads=num_kv_heads,
            qk_norm=qk_norm, rotary=rotary, alibi=alibi,
        )  # fmt: skip
        if self.activation is None:
            self.feed_forward = SwiGLU(d_model, dim_feedforward, bias, dropout, dtype)
        else:
            self.linear1 = Linear(d_model, dim_feedforward, bias, dtype)
            self.dropout = Dropout(dropout)
            self.linear2 = Linear(dim_feedforward, d_model, bias, dtype)
        self.norm1 = make_norm(norm, d_model, layer_norm_eps, bias, dtype)
        self.norm2 = make_norm(norm, d_model, layer_norm_eps, bias, dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        if self.attends_to_memory:
            self.multihead_attn = MultiheadAttention(
                d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype, num_kv_heads=num_kv_heads,
                qk_norm=qk_norm,
            )  # fmt: skip
            self.norm3 = make_norm(norm, d_model, layer_norm_eps, bias, dtype)
            self.dropout3 = Dropout(dropout)

    def _wrapped(
        self, x: Tensor, name: str, sublayer: Callable[[Tensor], Tensor], norm: LayerNorm | RMSNorm, dropout: Dropout
    ) -> Tensor:
        """norm(x + dropout(sublayer(x))), or x + dropout(sublayer(norm(x))) with ``norm_first``."""
        past, x = mark("skip", x), mark("branch", x, sublayer=name)
        if self.norm_first:
            return mark("residual", add(past, dropout(sublayer(norm(x)))))
        if not is_plain(norm, LayerNorm):
            return norm(mark("residual", add(dropout(sublayer(x)), past)))
        normed = add_layer_norm(dropout(sublayer(x)), past, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return mark("norm", normed)

    def _feed_forward(self, x: Tensor) -> Tensor:
        """W_2 activation(W_1 x + b_1) + b_2, at each position separately; or a `SwiGLU`."""
        if self.activation is None:
            return self.feed_forward(x)
        if self.activation in _NAMES:
            return feed_forward_of(x, self.linear1, _NAMES[self.activation], self.dropout, self.linear2)
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


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

    attends_to_memory = True

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
