"""The Transformer of Vaswani et al., "Attention Is All You Need", 2017.

Embeddings, positions and the output layer are here; both stacks of layers are `tinygrad_attn.nn.Transformer`, whose
parameters are named as those of ``torch.nn.Transformer``. As there, and unlike the paper, each stack ends in one more
layer norm. By its settings it is also what became of it since: pre-norm, RMSNorm, SwiGLU, rotary positions or ALiBi,
grouped-query attention, QK-norm. Attention is `tinygrad_attn.nn.MultiheadAttention` in every layer;
softmax(Q Kᵀ / √d) V itself is written out, with its derivative, in `tinygrad_attn.ops.fused.attention`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.modes import mark
from tinygrad_attn.nn import functional as F
from tinygrad_attn.nn.fused_decoder import FusedDecoder, TokenVectors, can_fuse
from tinygrad_attn.nn.fused_encoder import encode_at_once
from tinygrad_attn.nn.module import is_plain
from tinygrad_attn.nn.transformer_layers import NormKind
from tinygrad_attn.tensor import Tensor, default_dtype

from .interface import Decoder, ModelSettings, Translator, Weights
from .multihead import NORMS, check_heads, rotary_of
from .registry import register_model
from .setting import ConfigError, Value, constant, setting

__all__ = ["POSITIONS", "Memory", "State", "Transformer", "TransformerSettings"]

POSITIONS = ("sinusoidal", "learned", "rotary", "alibi", "none")


@dataclass(frozen=True)
class TransformerSettings(ModelSettings):
    """The Transformer; the defaults are the paper's base model, except dropout."""

    name: str = constant("transformer")
    dropout: float = setting(0.0, "probability of dropping an activation in training", minimum=0, below=1)
    d_model: int = setting(512, "width of embeddings and layers", minimum=1)
    heads: int = setting(8, "heads of every attention", minimum=1)
    encoder_layers: int = setting(6, "layers of the encoder", minimum=1, most=1000)
    decoder_layers: int = setting(6, "layers of the decoder", minimum=1, most=1000)
    d_ff: int = setting(2048, "inner width of the feed-forward networks", minimum=1)
    positions: str = setting(
        "sinusoidal", "how positions are encoded: added to embeddings (sinusoidal, learned), in self-attention by "
        "turning queries and keys (rotary) or by a bias for distance (alibi), or not at all", choices=POSITIONS,
    )  # fmt: skip
    norm_first: bool = setting(False, "normalise what a sublayer reads (pre-norm), not its sum with the residual")
    norm: str = setting("layer", "the norm: layer, or rms (RMSNorm, which subtracts no mean)", choices=NORMS)
    activation: str = setting(
        "relu", "of the feed-forward networks; swiglu has a gate, a third matrix of d_model x d_ff",
        choices=("relu", "gelu", "swiglu"),
    )  # fmt: skip
    kv_heads: int = setting(
        0, "heads of keys and values, shared by the heads (grouped-query attention); 0: as many as heads", minimum=0
    )
    qk_norm: bool = setting(False, "normalise the queries and keys of every head by their root mean square")
    bias: bool = setting(True, "linear maps and layer norms of the layers have biases")
    tied_output: bool = setting(False, "the output layer's matrix is the target's embedding")
    shared_embeddings: bool = setting(False, "source and target have one embedding; they need one vocabulary")
    max_length: int = setting(
        256, "the most symbols of a source, and of a target with <s>, for learned positions", minimum=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads(self)

    def longest_source(self) -> int | None:
        """``max_length`` with learned positions, which have a vector for each position; else None."""
        return self.max_length if self.positions == "learned" else None

    def longest_target(self) -> int | None:
        """`longest_source` minus the position of ``<s>``."""
        return self.max_length - 1 if self.positions == "learned" else None

    def limited_by(self) -> str:
        """See `ModelSettings.limited_by`."""
        return f"model.positions {self.positions!r}"

    def check_vocabulary(self, shared: bool) -> None:
        """Raise `ConfigError` if source and target share an embedding but not a vocabulary."""
        if self.shared_embeddings and not shared:
            raise ConfigError("model.shared_embeddings needs data.shared_vocabulary: one embedding has one vocabulary")

    def width(self) -> int:
        """See `ModelSettings.width`."""
        return self.d_model

    def activations(self) -> int:
        """See `ModelSettings.activations`; measured: 14 times d_model in a layer whose d_ff is twice that."""
        inner = 4 if self.activation == "swiglu" else 2  # the gate, before and after silu, what it gates, the product
        return (self.encoder_layers + self.decoder_layers) // 2 * (8 * self.d_model + inner * self.d_ff)

    def smaller(self) -> str:
        """See `ModelSettings.smaller`; the result is a multiple of ``heads``."""
        return f"model.d_model={max(1, self.d_model // (2 * self.heads)) * self.heads}"

    @classmethod
    def suited(cls, width: int, steps: int) -> dict[str, Value]:
        """See `ModelSettings.suited`."""
        sizes: dict[str, Value] = {"model.d_model": width, "model.d_ff": 2 * width, "model.heads": 4}
        layers: dict[str, Value] = {"model.encoder_layers": 3, "model.decoder_layers": 3, "model.tied_output": True}
        rate: dict[str, Value] = {"training.learning_rate": 0.001, "training.schedule": "cosine"}
        return {**sizes, **layers, **rate, "training.warmup": steps // 10, "training.beta2": 0.98}


Positions: TypeAlias = nn.SinusoidalPositionalEncoding | nn.LearnedPositionalEncoding | None


class Memory(NamedTuple):
    """The encoder's output for B sources of at most S symbols."""

    encoded: Tensor
    """(B, S, d_model)."""
    padding: Tensor
    """Bool (B, S), True where there is no symbol: `nn.MultiheadAttention` attends where its masks are False."""


class State(NamedTuple):
    """The decoder's state between two tokens."""

    decoder: nn.DecoderState
    """Every layer's keys and values: of the source, projected once, and of the tokens so far."""
    tokens_read: int


@register_model(TransformerSettings)
class Transformer(Translator):
    """Stacks of self-attention and feed-forward layers; the decoder's layers attend to the encoder's output too.

    Embeddings are initialised with standard deviation 1/√d_model: multiplied by √d_model (section 3.4) they are as
    large as the positions, and as the matrix of the output layer they give logits of order one.

    Args:
        source_size, target_size: the numbers of symbols.
        d_model: the size of embeddings and of every layer's output.
        heads: h, which divides d_model.
        encoder_layers, decoder_layers: N.
        d_ff: the inner size of the feed-forward networks.
        positions: "sinusoidal", the paper's sines and cosines, or "learned", a vector for each position, both added to
            embeddings; "rotary" or "alibi", which are in self-attention; or "none", with which only the decoder's
            causal mask tells an order.
        max_length: the most symbols of a sentence, source or target with ``<s>``, with learned positions.
        tied_output: let the output layer's matrix be the target's embedding (section 3.4).
        shared_embeddings: let source and target have one embedding, for two languages with one vocabulary.
        dropout: P_drop, of embeddings with positions, and of all that `nn.Transformer` drops.
        norm_first, norm, activation, qk_norm, bias: as in `nn.TransformerEncoderLayer`.
        kv_heads: heads of keys and values, shared by the heads; 0 for as many as heads.
        dtype: of all parameters.

    Raises:
        ValueError: heads that do not divide d_model, no such positions, or a shared embedding for vocabularies of two
            sizes.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        d_model: int = 512,
        heads: int = 8,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        d_ff: int = 2048,
        positions: str = "sinusoidal",
        max_length: int = 256,
        tied_output: bool = False,
        shared_embeddings: bool = False,
        dropout: float = 0.1,
        norm_first: bool = False,
        norm: NormKind = "layer",
        activation: str = "relu",
        kv_heads: int = 0,
        qk_norm: bool = False,
        bias: bool = True,
        dtype: Any = default_dtype,
    ) -> None:
        super().__init__()
        if positions not in POSITIONS:
            raise ValueError(f"Transformer: positions must be one of {', '.join(POSITIONS)}, got {positions!r}")
        if shared_embeddings and source_size != target_size:
            raise ValueError(
                "Transformer: shared_embeddings needs one vocabulary for source and target, theirs have "
                f"{source_size} and {target_size} symbols"
            )
        self.d_model = d_model
        self.source_embedding = nn.Embedding(source_size, d_model, dtype=dtype)
        self.target_embedding = nn.Embedding(target_size, d_model, dtype=dtype)
        if shared_embeddings:
            self.target_embedding = self.source_embedding
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=d_model**-0.5)
        self.source_positions = self._make_positions(positions, max_length, dtype)
        self.target_positions = self._make_positions(positions, max_length, dtype)
        self.dropout = nn.Dropout(dropout)
        self.transformer = nn.Transformer(
            d_model, heads, encoder_layers, decoder_layers, d_ff, dropout, activation, batch_first=True,
            norm_first=norm_first, bias=bias, dtype=dtype, norm=norm, num_kv_heads=kv_heads or None, qk_norm=qk_norm,
            rotary=rotary_of(d_model, heads, positions),
            alibi=positions == "alibi",
        )  # fmt: skip
        self.output = nn.Linear(d_model, target_size, dtype=dtype)
        if tied_output:
            self.output.weight = self.target_embedding.weight

    def forward(
        self, source: Tensor, source_mask: Tensor, target_in: Tensor, *, need_weights: bool = False
    ) -> Tensor | tuple[Tensor, Weights]:
        """See `Translator.forward`.

        The weights are those of each layer i, all heads: of ``"encoder.layers.i.self_attn"`` (B, h, S, S), of
        ``"decoder.layers.i.self_attn"`` (B, h, T, T), and of ``"decoder.layers.i.multihead_attn"`` (B, h, T, S), the
        decoder's attention to the encoder. In training mode they are those after dropout.
        """
        if not need_weights:
            return self._teacher_forced(source, source_mask, target_in)
        with nn.record_attention_weights(self.transformer) as recorded:
            logits = self._teacher_forced(source, source_mask, target_in)
        return logits, {path: weights for path, (weights,) in recorded.items()}

    def encode(self, source: Tensor, source_mask: Tensor) -> Memory:
        """The encoder's output."""
        return self._encode(source, source_mask, at_once=True)

    def start(self, memory: Memory) -> State:
        """Every layer's keys and values of the source."""
        return State(self.transformer.decoder.start(memory.encoded, memory.padding), 0)

    def step(self, state: State, token: Tensor, *, need_weights: bool = False) -> tuple[Tensor, State, Weights]:
        """See `Translator.step`. The weights are the decoder's; those of its self-attention are over the tokens so
        far."""
        decoder = self.transformer.decoder
        if need_weights:
            with nn.record_attention_weights(decoder) as recorded:
                logits, state, _ = self.step(state, token)
            return logits, state, {f"decoder.{path}": weights for path, (weights,) in recorded.items()}
        tokens = Tensor(token.array[:, None])
        embedded = self._embed(tokens, self.target_embedding, self.target_positions, state.tokens_read)
        decoded, after = decoder.step(embedded, state.decoder)
        return mark("logits", self.output(decoded)).squeeze(1), State(after, state.tokens_read + 1), {}

    def fused_decoder(self, state: State, rows: int, *, int8: bool = False) -> Decoder | None:
        """See `Translator.fused_decoder`; the layers of this file's stacks run as one program."""
        fusible = can_fuse(self.transformer.decoder, state.decoder, self.output)
        if self.training or not fusible or not is_plain(self.target_embedding, nn.Embedding):
            return None

        def position(t: int) -> Any:
            if self.target_positions is None:
                return 0.0
            return self.target_positions.vectors(1, t, self.output.weight.dtype).array[0]

        embed = TokenVectors(self.target_embedding.weight, position, math.sqrt(self.d_model))
        return FusedDecoder(self.transformer.decoder, embed, self.output, state.decoder, rows, int8)

    def _teacher_forced(self, source: Tensor, source_mask: Tensor, target_in: Tensor) -> Tensor:
        """The logits (B, T, V), all steps at once: position t attends to positions up to t only."""
        memory = self._encode(source, source_mask)
        embedded = self._embed(target_in, self.target_embedding, self.target_positions)
        decoded = self.transformer.decoder(
            embedded, memory.encoded, memory_key_padding_mask=memory.padding, tgt_is_causal=True
        )
        return mark("logits", self.output(decoded))

    def _encode(self, source: Tensor, source_mask: Tensor, at_once: bool = False) -> Memory:
        """The encoder's output, ``at_once`` where that can be; a loss has the same bits with gradients and without."""
        padding = ta.logical_not(source_mask)
        embedded = self._embed(source, self.source_embedding, self.source_positions)
        encoded = encode_at_once(self.transformer.encoder, embedded, padding) if at_once else None
        if encoded is None:
            encoded = self.transformer.encoder(embedded, src_key_padding_mask=padding)
        return Memory(mark("encoded", encoded), padding)

    def _embed(self, tokens: Tensor, embedding: nn.Embedding, positions: Positions, start: int = 0) -> Tensor:
        """√d_model E x + PE: (B, T) ids, the first of which is at position ``start``, to (B, T, d_model); √d_model E x
        alone where attention knows positions, or nobody does."""
        if positions is None or not is_plain(embedding, nn.Embedding):
            x = embedding(tokens) * math.sqrt(self.d_model)
            return self.dropout(x if positions is None else x + positions.vectors(tokens.shape[1], start, x.dtype))
        vectors = positions.vectors(tokens.shape[1], start, embedding.weight.dtype)
        return self.dropout(F.placed_embedding(tokens, embedding.weight, vectors, scale=math.sqrt(self.d_model)))

    def _make_positions(self, kind: str, max_length: int, dtype: Any) -> Positions:
        if kind == "learned":
            return nn.LearnedPositionalEncoding(max_length, self.d_model, dtype=dtype)
        return nn.SinusoidalPositionalEncoding(self.d_model) if kind == "sinusoidal" else None
