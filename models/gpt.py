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
from typing import Any, ClassVar, Literal, NamedTuple

from tinygrad_attn import nn
from tinygrad_attn.modes import mark
from tinygrad_attn.nn import functional as F
from tinygrad_attn.nn.kv_cache import KVCache
from tinygrad_attn.tensor import Tensor, default_dtype

from .interface import LanguageModel, ModelSettings, Weights
from .registry import register_model
from .setting import ConfigError, constant, setting

__all__ = ["GPT", "Block", "GPTSettings", "State"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),  # as GPT-2 was trained
}
_STD = 0.02  # of initial weights


@dataclass(frozen=True)
class GPTSettings(ModelSettings):
    """A GPT; the defaults are the well-known small one for characters, of 0.8 million parameters."""

    reads: ClassVar[Literal["pairs", "text"]] = "text"

    name: str = constant("gpt")
    layers: int = setting(4, "blocks of attention and feed-forward network", minimum=1, most=1000)
    heads: int = setting(4, "heads of every attention", minimum=1)
    d_model: int = setting(128, "width of embeddings and blocks", minimum=1)
    context: int = setting(64, "the most symbols that are read at a time", minimum=1)
    activation: str = setting("gelu", "of the feed-forward network", choices=tuple(ACTIVATIONS))
    bias: bool = setting(False, "whether linear maps and norms have biases")
    dropout: float = setting(0.0, "probability of dropping an activation in training", minimum=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % self.heads:
            raise ConfigError(
                f"model.heads is {self.heads}, which does not divide model.d_model {self.d_model}; "
                "the heads share it evenly"
            )

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


class Block(nn.Module):
    """h + attention(norm(h)), then h + feed_forward(norm(h))."""

    def __init__(
        self, d_model: int, heads: int, activation: str, bias: bool, dropout: float, dtype: Any = default_dtype
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(d_model, bias=bias, dtype=dtype)
        self.self_attn = nn.MultiheadAttention(d_model, heads, dropout, bias, batch_first=True, dtype=dtype)
        self.norm2 = nn.LayerNorm(d_model, bias=bias, dtype=dtype)
        self.linear1 = nn.Linear(d_model, 4 * d_model, bias, dtype)
        self.linear2 = nn.Linear(4 * d_model, d_model, bias, dtype)
        self.dropout = nn.Dropout(dropout)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d_model), the same shape out: position t reads positions 0 to t."""

        def attend(x: Tensor) -> Tensor:
            return self.self_attn(x, x, x, need_weights=False, is_causal=True)[0]

        x = self._add(x, "self_attention", attend, self.norm1)
        return self._add(x, "feed_forward", self._feed_forward, self.norm2)

    def step(self, x: Tensor, past: KVCache | None) -> tuple[Tensor, KVCache | None]:
        """`forward` at the next position, (B, 1, d_model), given the keys and values of those before it."""

        def attend(x: Tensor) -> Tensor:
            nonlocal past
            attended, past = self.self_attn.attend_to_past(x, past)
            return attended

        x = self._add(x, "self_attention", attend, self.norm1)
        return self._add(x, "feed_forward", self._feed_forward, self.norm2), past

    def _add(self, x: Tensor, name: str, sublayer: Callable[[Tensor], Tensor], norm: nn.LayerNorm) -> Tensor:
        skip, x = mark("skip", x), mark("branch", x, sublayer=name)
        return mark("residual", skip + self.dropout(sublayer(norm(x))))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(ACTIVATIONS[self.activation](self.linear1(x)))


@register_model(GPTSettings)
class GPT(LanguageModel):
    """A stack of blocks between an embedding and its transpose.

    All weights are drawn from N(0, 0.02²); those that write to the residual stream, of which there are 2N, from
    N(0, 0.02² / 2N), so that the stream does not grow with depth (section 2.3 of the paper).

    Args:
        symbols: V, the number of symbols.
        layers: N.
        heads: of every attention; they divide d_model.
        d_model: the size of embeddings and of every block's output.
        context: the most symbols that are read at a time.
        activation: "gelu", or "gelu_tanh", GPT-2's approximation of it.
        bias: let linear maps and norms have biases.
        dropout: of embeddings, of attention weights, and of what each sublayer adds.
        dtype: of all parameters.

    Raises:
        ValueError: heads that do not divide d_model, or no such activation.
    """

    def __init__(
        self,
        symbols: int,
        layers: int = 4,
        heads: int = 4,
        d_model: int = 128,
        context: int = 64,
        activation: str = "gelu",
        bias: bool = False,
        dropout: float = 0.0,
        dtype: Any = default_dtype,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"GPT: activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        self.context = context
        self.embedding = nn.Embedding(symbols, d_model, dtype=dtype)
        self.positions = nn.LearnedPositionalEncoding(context, d_model, dtype=dtype)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(d_model, heads, activation, bias, dropout, dtype) for _ in range(layers))
        self.norm = nn.LayerNorm(d_model, bias=bias, dtype=dtype)
        self._draw_weights(layers)

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
        for block in self.blocks:
            x = block(x)
        return self._logits(x)

    def start(self, memory: None = None) -> State:
        """No symbol is read."""
        return State([None] * len(self.blocks), 0)

    def step(self, state: State, token: Tensor, *, need_weights: bool = False) -> tuple[Tensor, State, Weights]:
        """See `LanguageModel.step`; at most ``context`` symbols are read. The weights are over the symbols so far."""
        if need_weights:
            with nn.record_attention_weights(self) as recorded:
                logits, state, _ = self.step(state, token)
            return logits, state, {path: weights for path, (weights,) in recorded.items()}
        x = self._embed(Tensor(token.array[:, None]), state.tokens_read)
        after = []
        for block, past in zip(self.blocks, state.past, strict=True):
            assert isinstance(block, Block)
            x, past = block.step(x, past)
            after.append(past)
        return self._logits(x).squeeze(1), State(after, state.tokens_read + 1), {}

    def _embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """E[x] + P: (B, T) ids, the first of which is at position ``start``, to (B, T, d_model)."""
        if start + tokens.shape[1] > self.positions.max_length:
            raise ValueError(
                f"GPT: a text of {start + tokens.shape[1]} symbols is longer than its context of {self.context}"
            )
        positions = self.positions.vectors(tokens.shape[1], start)
        return self.dropout(F.placed_embedding(tokens, self.embedding.weight, positions, scale=1.0))

    def _logits(self, x: Tensor) -> Tensor:
        return mark("logits", F.linear(self.norm(x), self.embedding.weight))
