"""GPT: a language model of the Transformer's decoder alone.

Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2), 2019. A text x_1 … x_T is read from left
to right; at each position the model says how likely each symbol is to be the next:

    h   = E[x] + P                                   embeddings of symbols and positions
    h   = h + attention(norm(h))                     in each of N blocks: every position reads those before it,
    h   = h + W_2 gelu(W_1 norm(h))                  then thinks by itself
    p(x_t+1 | x_1 … x_t) = softmax(E norm(h_t))      the output layer is the embedding, transposed

Two things differ from the decoder in `models.transformer`: there is no source to attend to, and each sublayer reads a
normalised copy of the residual stream h, which itself passes through all blocks untouched (pre-norm). So a gradient
reaches every block by the additions alone; that is why deep stacks train without warmup tricks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tinygrad_attn import nn
from tinygrad_attn.modes import in_module, mark, marks_are_heard
from tinygrad_attn.nn import functional as F
from tinygrad_attn.nn.feed_forward import feed_forward_of
from tinygrad_attn.nn.fused_blocks import FusedBlock, FusedBlocks, can_fuse_blocks
from tinygrad_attn.nn.fused_decoder import TokenVectors
from tinygrad_attn.nn.kv_cache import KVCache
from tinygrad_attn.nn.module import is_plain
from tinygrad_attn.nn.norm import add_and_norm
from tinygrad_attn.nn.transformer_layers import make_norm
from tinygrad_attn.tensor import Tensor, default_dtype

from .interface import Decoder, LanguageModel, ModelSettings, Weights
from .multihead import NORMS, check_heads, rotary_of
from .registry import register_model
from .setting import constant, setting

__all__ = ["GPT", "Block", "GPTSettings", "State"]

ACTIVATIONS = ("gelu", "gelu_tanh", "swiglu")
POSITIONS = ("learned", "rotary", "alibi")
_STD = 0.02  # of initial weights
_EPS = 1e-5  # of every norm


@dataclass(frozen=True)
class GPTSettings(ModelSettings):
    """A GPT; the defaults are the well-known small one for characters, of 0.8 million parameters."""

    name: str = constant("gpt")
    layers: int = setting(4, "blocks of attention and feed-forward network", minimum=1, most=1000)
    heads: int = setting(4, "heads of every attention", minimum=1)
    d_model: int = setting(128, "width of embeddings and blocks", minimum=1)
    context: int = setting(64, "the most symbols that are read at a time", minimum=1)
    activation: str = setting(
        "gelu", "of the feed-forward network; gelu_tanh is GPT-2's approximation", choices=ACTIVATIONS
    )
    norm: str = setting("layer", "what normalises the input of each sublayer", choices=NORMS)
    positions: str = setting("learned", "how positions are told apart", choices=POSITIONS)
    kv_heads: int = setting(0, "heads of keys and values, shared by groups of queries; 0: one for each", minimum=0)
    qk_norm: bool = setting(False, "normalise queries and keys of every head")
    bias: bool = setting(False, "whether linear maps and norms have biases")
    dropout: float = setting(0.0, "probability of dropping an activation in training", minimum=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads(self)

    def longest_target(self) -> int | None:
        """``context``."""
        return self.context

    def limited_by(self) -> str:
        """See `ModelSettings.limited_by`."""
        return f"model.context {self.context}"

    def width(self) -> int:
        """See `ModelSettings.width`."""
        return self.d_model

    def activations(self) -> int:
        """See `ModelSettings.activations`."""
        return self.layers * 14 * self.d_model

    def smaller(self) -> str:
        """See `ModelSettings.smaller`; the result is a multiple of ``heads``."""
        return f"model.d_model={max(1, self.d_model // (2 * self.heads)) * self.heads}"


class State(NamedTuple):
    """What a model keeps of the symbols read so far."""

    past: list[KVCache | None]
    """Every block's keys and values."""
    tokens_read: int


class FeedForward(nn.Module):
    """W_2 gelu(W_1 x): at each position by itself, in a space four times as wide."""

    def __init__(self, d_model: int, activation: str, bias: bool, dtype: Any = default_dtype) -> None:
        super().__init__()
        self.linear1 = nn.Linear(d_model, 4 * d_model, bias, dtype)
        self.linear2 = nn.Linear(4 * d_model, d_model, bias, dtype)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d_model), the same shape out."""
        if self.activation != "gelu":
            return self.linear2(F.gelu(self.linear1(x), approximate="tanh"))
        return feed_forward_of(x, self.linear1, "gelu", None, self.linear2)


class Block(nn.Module):
    """h + attention(norm(h)), then h + feed_forward(norm(h))."""

    def __init__(self, settings: GPTSettings, dtype: Any = default_dtype) -> None:
        super().__init__()
        d_model, bias = settings.d_model, settings.bias
        self.norm1 = _norm(settings, dtype)
        self.self_attn = nn.MultiheadAttention(
            d_model, settings.heads, settings.dropout, bias, batch_first=True, dtype=dtype,
            num_kv_heads=settings.kv_heads or None, qk_norm=settings.qk_norm, alibi=settings.positions == "alibi",
            rotary=rotary_of(d_model, settings.heads, settings.positions),
        )  # fmt: skip
        self.norm2 = _norm(settings, dtype)
        self.feed_forward: nn.Module = (
            nn.SwiGLU(d_model, _swiglu_width(d_model), bias, dtype=dtype)
            if settings.activation == "swiglu"
            else FeedForward(d_model, settings.activation, bias, dtype)
        )
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d_model), the same shape out: position t reads positions 0 to t."""
        skip, output = self._sublayers(x, None, self._attend)
        return mark("residual", skip + output)

    def terms(self, x: Tensor, output: Tensor | None) -> tuple[Tensor, Tensor]:
        """`forward` of x + ``output``, as two terms: the next norm reads their sum, and is of one op with it."""
        with in_module(self):
            return self._sublayers(x, output, self._attend)

    def _attend(self, x: Tensor) -> Tensor:
        return self.self_attn(x, x, x, need_weights=False, is_causal=True)[0]

    def step(self, x: Tensor, past: KVCache | None) -> tuple[Tensor, KVCache | None]:
        """`forward` at the next positions, (B, T, d_model), given the keys and values of those before them."""

        def attend(x: Tensor) -> Tensor:
            nonlocal past
            attended, past = self.self_attn.attend_to_past(x, past)
            return attended

        skip, output = self._sublayers(x, None, attend)
        return mark("residual", skip + output), past

    def _sublayers(self, x: Tensor, output: Tensor | None, attend: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        if output is None:
            skip, normed = mark("skip", x), self.norm1(mark("branch", x, sublayer="self_attention"))
        else:
            skip, normed = add_and_norm(x, output, self.norm1, "self_attention")
        skip, normed = add_and_norm(skip, self.dropout(attend(normed)), self.norm2, "feed_forward")
        return skip, self.dropout(self.feed_forward(normed))


def _parts(block: nn.Module) -> FusedBlock | None:
    """What a block computes with, for `FusedBlocks`; None if it is not one of this file's."""
    if not (is_plain(block, Block) and is_plain(block.dropout, nn.Dropout)):
        return None
    inner = block.feed_forward
    sizes: tuple[Any, ...]
    if is_plain(inner, FeedForward):
        sizes = inner.linear1, inner.activation, None, inner.linear2
    elif is_plain(inner, nn.SwiGLU) and is_plain(inner.dropout, nn.Dropout):
        sizes = inner.linear1, "silu", inner.linear3, inner.linear2
    else:
        return None
    return FusedBlock(block.norm1, block.self_attn, block.norm2, *sizes)


def _norm(settings: GPTSettings, dtype: Any) -> nn.Module:
    return make_norm(settings.norm, settings.d_model, _EPS, settings.bias, dtype)


def _swiglu_width(d_model: int) -> int:
    """Two thirds of 4 d_model, since there are three matrices and not two; a multiple of 8."""
    return max(8, 8 * round(4 * d_model * 2 / 3 / 8))


@register_model(GPTSettings)
class GPT(LanguageModel):
    """A stack of blocks between an embedding and its transpose.

    All weights are drawn from N(0, 0.02²); those that write to the residual stream, of which there are 2N, from
    N(0, 0.02² / 2N), so that the stream does not grow with depth (section 2.3 of the paper).

    By its settings it is also what became of it since: RMSNorm (Zhang and Sennrich 2019), SwiGLU (Shazeer 2020),
    rotary positions (Su et al. 2021) or ALiBi (Press et al. 2022), keys and values shared by groups of heads (Ainslie
    et al. 2023), normalised queries and keys (Henry et al. 2020).

    Args:
        symbols: V, the number of symbols.
        sizes: the settings of `GPTSettings`, such as ``layers`` and ``d_model``.
        dtype: of all parameters.

    Attributes:
        recompute: whether blocks are computed again in the backward pass; see `tinygrad_attn.nn.recompute_layers`.

    Raises:
        ConfigError: settings that do not fit together, such as heads that do not divide d_model.
    """

    recompute = False

    def __init__(self, symbols: int, *, dtype: Any = default_dtype, **sizes: Any) -> None:
        super().__init__()
        settings = GPTSettings(**sizes)
        self.settings = settings
        self.context: int = settings.context
        self.embedding = nn.Embedding(symbols, settings.d_model, dtype=dtype)
        self.positions: nn.LearnedPositionalEncoding | None = None
        if settings.positions == "learned":
            self.positions = nn.LearnedPositionalEncoding(settings.context, settings.d_model, dtype=dtype)
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(Block(settings, dtype) for _ in range(settings.layers))
        self.norm = _norm(settings, dtype)
        self._draw_weights(settings.layers)

    def _draw_weights(self, layers: int) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                onto_stream = name.endswith(("out_proj.weight", "linear2.weight"))
                nn.init.normal_(parameter, std=_STD / math.sqrt(2 * layers) if onto_stream else _STD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, text: Tensor, *, need_weights: bool = False) -> Tensor | tuple[Tensor, Weights]:
        """See `LanguageModel.forward`; T is at most ``context``.

        The weights are those of ``"blocks.i.self_attn"``, (B, heads, T, T), for each block i. In training mode they are
        those after dropout.
        """
        if need_weights:
            with nn.record_attention_weights(self) as recorded:
                logits = self.forward(text)
            assert isinstance(logits, Tensor)
            return logits, {path: weights for path, (weights,) in recorded.items()}
        x = self._embed(text)
        if not self.recompute and not marks_are_heard() and all(is_plain(block, Block) for block in self.blocks):
            return self._logits(*self._terms(x))
        for block in nn.layers_of(self.blocks, self.recompute):
            x = block(x)
        return self._logits(x)

    def _terms(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The stream after all blocks as two terms, as long as nobody looks at the sums between blocks."""
        output: Tensor | None = None
        for block in self.blocks:
            assert isinstance(block, Block)
            x, output = block.terms(x, output)
        return x, output

    def start(self, memory: None = None) -> State:
        """No symbol is read."""
        return State([None] * len(self.blocks), 0)

    def step(self, state: State, token: Tensor, *, need_weights: bool = False) -> tuple[Tensor, State, Weights]:
        """See `LanguageModel.step`; at most ``context`` symbols are read. The weights are over the symbols so far."""
        if need_weights:
            with nn.record_attention_weights(self) as recorded:
                logits, state, _ = self.step(state, token)
            return logits, state, {path: weights for path, (weights,) in recorded.items()}
        logits, state = self.read(state, Tensor(token.array[:, None]))
        return logits, state, {}

    def read(self, state: State, text: Tensor) -> tuple[Tensor, State]:
        """See `LanguageModel.read`; all positions at once."""
        x = self._embed(text, state.tokens_read)
        after = []
        for block, past in zip(self.blocks, state.past, strict=True):
            assert isinstance(block, Block)
            x, past = block.step(x, past)
            after.append(past)
        last = x if x.shape[1] == 1 else x[:, -1:]
        return self._logits(last).squeeze(1), State(after, state.tokens_read + text.shape[1])

    def fused_decoder(self, state: State, rows: int, *, int8: bool = False) -> Decoder | None:
        """See `LanguageModel.fused_decoder`; the layers of this file run as one program."""
        positions, blocks = self.positions, [_parts(block) for block in self.blocks]
        known = [block for block in blocks if block]
        if len(known) < len(blocks) or any(module.training for module in self.modules()):
            return None
        if not (positions is None or is_plain(positions, nn.LearnedPositionalEncoding)):
            return None
        if not can_fuse_blocks(known, self.norm, self.embedding):
            return None

        def position(t: int) -> Any:
            self._check_length(t + 1)
            return 0.0 if positions is None else positions.weight.array[t]

        embed = TokenVectors(self.embedding.weight, position, 1.0)
        return FusedBlocks(known, self.norm, embed, state, rows, self.context, int8)

    def _embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """E[x] + P: (B, T) ids, the first of which is at position ``start``, to (B, T, d_model)."""
        self._check_length(start + tokens.shape[1])
        if self.positions is None:  # attention tells positions apart
            return self.dropout(self.embedding(tokens))
        positions = self.positions.vectors(tokens.shape[1], start)
        if not is_plain(self.embedding, nn.Embedding):
            return self.dropout(self.embedding(tokens) + positions)
        return self.dropout(F.placed_embedding(tokens, self.embedding.weight, positions, scale=1.0))

    def _check_length(self, length: int) -> None:
        if length > self.context:
            raise ValueError(f"GPT: a text of {length} symbols is longer than its context of {self.context}")

    def _logits(self, x: Tensor, output: Tensor | None = None) -> Tensor:
        normed = self.norm(x) if output is None else add_and_norm(x, output, self.norm, "logits")[1]
        return mark("logits", F.linear(normed, self.embedding.weight))
