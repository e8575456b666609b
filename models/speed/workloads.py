"""Benchmark workloads, with and without dropout: three small models, three of translation size, the base Transformer,
two GPTs on characters.

The models have the sizes usual in tutorials, and the architecture, parameter names and layouts of the same model in
PyTorch, so that a ``state_dict`` of one loads into the other. The Transformer is that of `models.transformer`. The
other two are simpler than `models.bahdanau` (one direction, no readout layer) and `models.luong` (one score, fused
attention), and their encoders do not mask padding. Dropped are embeddings (with positions), the input of the output
layer of the recurrent models, and all that `nn.Transformer` drops. The GPTs are `models.gpt.GPT` itself, in the sizes
of nanoGPT's configurations for characters: that for a laptop, and that for an accelerator with a smaller batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.nn import functional as F
from tinygrad_attn.tensor import Tensor

from ..console.errors import UserError
from ..console.suggest import hint
from ..gpt import GPT
from ..transformer import Transformer

__all__ = [
    "WORKLOADS", "BahdanauWorkload", "LuongWorkload", "RandomBatch", "RandomText", "TransformerWorkload",
    "UnknownWorkload", "Workload", "batch_loss", "find_workload", "random_batch", "random_text",
]  # fmt: skip

FIRST_WORD = 4  # the ids below are those of padding, unknown words, and a sentence's start and end


class UnknownWorkload(UserError):
    """No workload has that name."""


class RandomBatch(NamedTuple):
    """B sentence pairs: sources of at most S tokens, targets of T."""

    source: Tensor
    """(B, S) ids."""
    target_in: Tensor
    """(B, T) ids that the decoder reads."""
    target_out: Tensor
    """(B, T) ids to predict: each is the next of ``target_in``."""
    source_mask: Tensor
    """(B, S) bool, True where there is a token."""

    @property
    def operands(self) -> tuple[Tensor, ...]:
        """What the model is called with."""
        return self.source, self.target_in, self.source_mask


class RandomText(NamedTuple):
    """B texts of T symbols, for a language model."""

    target_in: Tensor
    """(B, T) ids that the model reads."""
    target_out: Tensor
    """(B, T) ids to predict: each is the next of ``target_in``."""

    @property
    def operands(self) -> tuple[Tensor, ...]:
        """What the model is called with."""
        return (self.target_in,)


class BahdanauWorkload(nn.Module):
    """GRU encoder, GRU decoder with additive attention from the decoder's previous state, teacher forced.

    Step t: e_j = v · tanh(W_q h_{t-1} + W_k h_j + b), α = softmax(e), c = Σ_j α_j h_j, h_t = GRU([y_t; c], h_{t-1}).

    Args:
        vocabulary: the number of symbols on either side, V.
        embedding_size: E.
        hidden_size: H, of the encoder, the decoder and the score.
        dropout: of embeddings and of the output layer's input.
        dtype: of all parameters.
    """

    def __init__(
        self, vocabulary: int, embedding_size: int, hidden_size: int, dropout: float = 0.0, dtype: Any = default_dtype
    ) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.se = nn.Embedding(vocabulary, embedding_size, dtype=dtype)
        self.te = nn.Embedding(vocabulary, embedding_size, dtype=dtype)
        self.enc = nn.GRU(embedding_size, hidden_size, batch_first=True, dtype=dtype)
        self.cell = nn.GRUCell(embedding_size + hidden_size, hidden_size, dtype=dtype)
        self.wq = nn.Linear(hidden_size, hidden_size, bias=False, dtype=dtype)
        self.wk = nn.Linear(hidden_size, hidden_size, dtype=dtype)
        self.v = nn.Linear(hidden_size, 1, bias=False, dtype=dtype)
        self.out = nn.Linear(hidden_size, vocabulary, dtype=dtype)

    def forward(self, source: Tensor, target_in: Tensor, source_mask: Tensor) -> Tensor:
        """Ids (B, S) and (B, T), and the mask (B, S), to logits (B, T, V)."""
        encoded, last = self.enc(self.drop(self.se(source)))
        states = self.decode(encoded, last[0], self.drop(self.te(target_in)), source_mask)
        return self.out(self.drop(states))

    def decode(self, encoded: Tensor, hidden: Tensor, embedded: Tensor, source_mask: Tensor) -> Tensor:
        """The decoder's states (B, T, H), from the encoder's states (B, S, H) and the last of them, (B, H)."""
        cell = self.cell
        states, _, _ = F.attention_gru(
            embedded, hidden,
            encoded, self.wk(encoded), self.wq.weight, self.v.weight.squeeze(0),
            cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh,
            source_mask,
        )  # fmt: skip
        return states


class LuongWorkload(nn.Module):
    """LSTM encoder and decoder; attention with the general score for all decoder states at once, no input feeding.

    With the decoder's states d_t: e_tj = d_t · W_a h_j, α_t = softmax(e_t), c_t = Σ_j α_tj h_j,
    d̃_t = tanh(W_c [d_t; c_t]).

    Args:
        vocabulary: the number of symbols on either side, V.
        embedding_size: E.
        hidden_size: H, of the encoder and the decoder.
        dropout: of embeddings and of the output layer's input.
        dtype: of all parameters.
    """

    def __init__(
        self, vocabulary: int, embedding_size: int, hidden_size: int, dropout: float = 0.0, dtype: Any = default_dtype
    ) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.se = nn.Embedding(vocabulary, embedding_size, dtype=dtype)
        self.te = nn.Embedding(vocabulary, embedding_size, dtype=dtype)
        self.enc = nn.LSTM(embedding_size, hidden_size, batch_first=True, dtype=dtype)
        self.dec = nn.LSTM(embedding_size, hidden_size, batch_first=True, dtype=dtype)
        self.wa = nn.Linear(hidden_size, hidden_size, bias=False, dtype=dtype)
        self.wc = nn.Linear(2 * hidden_size, hidden_size, dtype=dtype)
        self.out = nn.Linear(hidden_size, vocabulary, dtype=dtype)

    def forward(self, source: Tensor, target_in: Tensor, source_mask: Tensor) -> Tensor:
        """Ids (B, S) and (B, T), and the mask (B, S), to logits (B, T, V)."""
        encoded, last = self.enc(self.drop(self.se(source)))
        decoded, _ = self.dec(self.drop(self.te(target_in)), last)
        context = F.scaled_dot_product_attention(
            decoded, self.wa(encoded), encoded, source_mask.unsqueeze(1), scale=1.0
        )  # fmt: skip
        return self.out(self.drop(ta.tanh(self.wc(ta.cat([decoded, context], -1)))))


class TransformerWorkload(nn.Module):
    """`models.transformer.Transformer` under the names that it has in PyTorch.

    Args:
        vocabulary: the number of symbols on either side, V.
        d_model: D.
        layers: of the encoder, and of the decoder.
        heads: of every attention.
        d_ff: of the feed-forward layers.
        dropout: of embeddings with positions, and of all that `nn.Transformer` drops.
        dtype: of all parameters.
    """

    def __init__(
        self,
        vocabulary: int,
        d_model: int,
        layers: int,
        heads: int,
        d_ff: int,
        dropout: float = 0.0,
        dtype: Any = default_dtype,
    ) -> None:
        super().__init__()
        model = Transformer(vocabulary, vocabulary, d_model, heads, layers, layers, d_ff, dropout=dropout, dtype=dtype)
        self.se, self.te = model.source_embedding, model.target_embedding
        self.tr, self.out, self.drop = model.transformer, model.output, model.dropout
        for embedding in (self.se, self.te):
            nn.init.normal_(embedding.weight)  # as PyTorch's embeddings are
        self._model = (model,)  # in a tuple, so that its parts are not registered twice

    def forward(self, source: Tensor, target_in: Tensor, source_mask: Tensor) -> Tensor:
        """Ids (B, S) and (B, T), and the mask (B, S), to logits (B, T, V)."""
        (model,) = self._model
        return model(source, source_mask, target_in)


@dataclass(frozen=True)
class Workload:
    """A model and the size of its batch."""

    make: Callable[[], nn.Module]
    vocabulary: int
    batch_size: int
    source_length: int | None
    """None for a language model, which has no source."""
    target_length: int

    def batch(self, seed: int = 0) -> RandomBatch | RandomText:
        """Random pairs, or texts, of this size."""
        if self.source_length is None:
            return random_text(self.vocabulary, self.batch_size, self.target_length, seed)
        return random_batch(self.vocabulary, self.batch_size, self.source_length, self.target_length, seed)

    @property
    def target_tokens(self) -> int:
        """The number of target tokens in a batch."""
        return self.batch_size * self.target_length


def _gpt(vocabulary: int, layers: int, heads: int, d_model: int, context: int) -> Callable[[float], nn.Module]:
    sizes = {"layers": layers, "heads": heads, "d_model": d_model, "context": context}
    return lambda dropout: GPT(vocabulary, dropout=dropout, **sizes)


# The model for a dropout; vocabulary, batch, source and target length.
_SIZES: dict[str, tuple[Callable[[float], nn.Module], int, int, int | None, int]] = {
    "bahdanau-small": (lambda p: BahdanauWorkload(1000, 64, 128, p), 1000, 32, 12, 12),
    "bahdanau-m30k": (lambda p: BahdanauWorkload(8000, 256, 512, p), 8000, 64, 15, 15),
    "luong-small": (lambda p: LuongWorkload(1000, 64, 128, p), 1000, 32, 12, 12),
    "luong-m30k": (lambda p: LuongWorkload(8000, 256, 512, p), 8000, 64, 15, 15),
    "transformer-small": (lambda p: TransformerWorkload(1000, 64, 2, 4, 128, p), 1000, 32, 12, 12),
    "transformer-m30k": (lambda p: TransformerWorkload(8000, 256, 3, 8, 512, p), 8000, 128, 15, 15),
    "transformer-base": (lambda p: TransformerWorkload(8000, 512, 6, 8, 2048, p), 8000, 32, 32, 32),
    "gpt-char": (_gpt(65, 4, 4, 128, 64), 65, 12, None, 64),
    "gpt-char-large": (_gpt(65, 6, 6, 384, 256), 65, 16, None, 256),
}
WORKLOADS = {
    name + ending: Workload(partial(make, dropout), vocabulary, size, source, target)
    for ending, dropout in (("", 0.0), ("-dropout", 0.1))
    for name, (make, vocabulary, size, source, target) in _SIZES.items()
}


def find_workload(name: str) -> Workload:
    """The workload of that name.

    Raises:
        UnknownWorkload: there is none; the message suggests a similar name, or lists all.
    """
    if name in WORKLOADS:
        return WORKLOADS[name]
    raise UnknownWorkload(f"no workload is named {name!r}; {hint(name, WORKLOADS)}")


def random_batch(
    vocabulary: int, batch_size: int, source_length: int, target_length: int, seed: int = 0
) -> RandomBatch:  # fmt: skip
    """Sentence pairs of random words; the sources' lengths are uniform in [S/2, S], the targets all of length T."""
    rng = np.random.default_rng(seed)
    source = rng.integers(FIRST_WORD, vocabulary, (batch_size, source_length))
    target = rng.integers(FIRST_WORD, vocabulary, (batch_size, target_length + 1))
    lengths = rng.integers(source_length // 2, source_length + 1, batch_size)
    mask = np.arange(source_length) < lengths[:, None]
    return RandomBatch(Tensor(source), Tensor(target[:, :-1].copy()), Tensor(target[:, 1:].copy()), Tensor(mask))


def random_text(vocabulary: int, batch_size: int, length: int, seed: int = 0) -> RandomText:
    """Texts of random symbols, all of ``length``."""
    ids = np.random.default_rng(seed).integers(vocabulary, size=(batch_size, length + 1))
    return RandomText(Tensor(ids[:, :-1].copy()), Tensor(ids[:, 1:].copy()))


def batch_loss(model: nn.Module, batch: RandomBatch | RandomText) -> Tensor:
    """The mean cross entropy of a batch's target tokens."""
    logits = model(*batch.operands)
    return F.cross_entropy(logits.flatten(0, 1), batch.target_out.flatten())
