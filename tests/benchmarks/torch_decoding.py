"""The Transformer and the Bahdanau model of `models` in PyTorch, and greedy decoding as a good user writes it there.

Parameters have the names of `models.transformer` and `models.bahdanau`, so that ``load_state_dict`` takes a run's
weights. The Transformer keeps the keys and values of every layer in arrays for the longest translation and projects
those of the source once; the Bahdanau model projects the source's annotations once, and packs padded sources.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from tinygrad_attn_models.data import END, PAD, START
from torch import Tensor, nn
from torch.nn import functional as F


class TorchTransformer(nn.Module):
    """`tinygrad_attn_models.transformer.Transformer` with sines and cosines for positions."""

    def __init__(self, settings: Any, source_size: int, target_size: int) -> None:
        super().__init__()
        width = settings.d_model
        self.source_embedding, self.target_embedding = (
            nn.Embedding(source_size, width),
            nn.Embedding(target_size, width),
        )
        self.transformer = nn.Transformer(
            width, settings.heads, settings.encoder_layers, settings.decoder_layers, settings.d_ff, batch_first=True
        )
        self.output = nn.Linear(width, target_size)
        self.heads, self.scale = settings.heads, math.sqrt(width)
        places, pairs = torch.arange(1024)[:, None], torch.arange(0, width, 2)
        angles = places / 10000 ** (pairs / width)
        self.register_buffer("positions", torch.stack([angles.sin(), angles.cos()], -1).flatten(1), persistent=False)

    def start(self, source: Tensor, mask: Tensor, max_length: int) -> dict[str, Any]:
        """Encode, project the source's keys and values for every layer, and make room for the target's."""
        embedded = self.source_embedding(source) * self.scale + self.positions[: source.shape[1]]
        encoded = self.transformer.encoder(embedded, src_key_padding_mask=~mask)
        memories, caches = [], []
        for layer in self.transformer.decoder.layers:
            attention = layer.multihead_attn
            width = attention.embed_dim
            keys, values = F.linear(
                encoded, attention.in_proj_weight[width:], attention.in_proj_bias[width:]
            ).chunk(2, -1)  # fmt: skip
            memories.append((self._split(keys).contiguous(), self._split(values).contiguous()))
            shape = (len(source), self.heads, max_length, width // self.heads)
            caches.append((encoded.new_empty(shape), encoded.new_empty(shape)))
        return {"memories": memories, "caches": caches, "mask": mask[:, None, None], "place": 0}

    def step(self, state: dict[str, Any], token: Tensor) -> Tensor:
        """The logits (B, V) of the next token; the state is written in place."""
        place = state["place"]
        x = self.target_embedding(token)[:, None] * self.scale + self.positions[place]
        layers = self.transformer.decoder.layers
        for layer, (keys, values), memory in zip(layers, state["caches"], state["memories"], strict=True):
            attention = layer.self_attn
            query, key, value = F.linear(x, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
            keys[:, :, place], values[:, :, place] = self._split(key)[:, :, 0], self._split(value)[:, :, 0]
            mixed = F.scaled_dot_product_attention(
                self._split(query), keys[:, :, : place + 1], values[:, :, : place + 1]
            )  # fmt: skip
            x = layer.norm1(x + attention.out_proj(mixed.transpose(1, 2).flatten(2)))
            attention = layer.multihead_attn
            width = attention.embed_dim
            query = F.linear(x, attention.in_proj_weight[:width], attention.in_proj_bias[:width])
            mixed = F.scaled_dot_product_attention(self._split(query), *memory, attn_mask=state["mask"])
            x = layer.norm2(x + attention.out_proj(mixed.transpose(1, 2).flatten(2)))
            x = layer.norm3(x + layer.linear2(F.relu(layer.linear1(x))))
        state["place"] = place + 1
        return self.output(self.transformer.decoder.norm(x[:, 0]))

    @staticmethod
    def keep(state: dict[str, Any], rows: Tensor) -> None:
        """Go on with these rows only."""
        state["caches"] = [(keys[rows], values[rows]) for keys, values in state["caches"]]
        state["memories"] = [(keys[rows], values[rows]) for keys, values in state["memories"]]
        state["mask"] = state["mask"][rows]

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class TorchAttention(nn.Module):
    """`tinygrad_attn.nn.AdditiveScore`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(size, size, bias=False)
        self.key = nn.Linear(2 * size, size)
        self.energy = nn.Linear(size, 1, bias=False)

    def forward(self, hidden: Tensor, annotations: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        scores = self.energy(torch.tanh(self.query(hidden)[:, None] + keys))[..., 0].masked_fill(~mask, -torch.inf)
        return torch.bmm(torch.softmax(scores, -1)[:, None], annotations)[:, 0]


class TorchBahdanau(nn.Module):
    """`tinygrad_attn_models.bahdanau.Bahdanau`."""

    def __init__(self, settings: Any, source_size: int, target_size: int) -> None:
        super().__init__()
        width, size = settings.embedding_size, settings.hidden_size
        self.source_embedding, self.target_embedding = (
            nn.Embedding(source_size, width),
            nn.Embedding(target_size, width),
        )
        self.encoder = nn.GRU(width, size, batch_first=True, bidirectional=True)
        self.initial = nn.Linear(size, size)
        self.attention = TorchAttention(size)
        self.decoder = nn.GRUCell(width + 2 * size, size)
        self.readout = nn.Linear(width + 3 * size, 2 * size)
        self.output = nn.Linear(size, target_size)

    def start(self, source: Tensor, mask: Tensor, max_length: int) -> dict[str, Tensor]:
        """Encode, and project the annotations."""
        packed = nn.utils.rnn.pack_padded_sequence(self.source_embedding(source), mask.sum(1), batch_first=True)
        encoded, last = self.encoder(packed)
        annotations, _ = nn.utils.rnn.pad_packed_sequence(encoded, batch_first=True)
        hidden = torch.tanh(self.initial(last[1]))
        return {"annotations": annotations, "keys": self.attention.key(annotations), "mask": mask, "hidden": hidden}

    def step(self, state: dict[str, Tensor], token: Tensor) -> Tensor:
        """The logits (B, V) of the next token."""
        embedded = self.target_embedding(token)
        context = self.attention(state["hidden"], state["annotations"], state["keys"], state["mask"])
        hidden = state["hidden"] = self.decoder(torch.cat([embedded, context], -1), state["hidden"])
        features = self.readout(torch.cat([hidden, embedded, context], -1))
        return self.output(torch.maximum(*features.chunk(2, -1)))

    @staticmethod
    def keep(state: dict[str, Tensor], rows: Tensor) -> None:
        """Go on with these rows only."""
        state.update({name: tensor[rows] for name, tensor in state.items()})


@torch.inference_mode()
def translate(
    model: TorchTransformer | TorchBahdanau,
    sentences: Sequence[Sequence[int]],
    batch_size: int,
    max_length: int,
    dropping: bool,
) -> list[list[int]]:
    """Greedy translations, of sentences of similar length together.

    Args:
        dropping: leave finished sentences out, whenever they are a quarter of the batch; if False, a batch stays whole
            until its last sentence ends.
    """
    translations: list[list[int]] = [[] for _ in sentences]
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]), reverse=True)
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        source = nn.utils.rnn.pad_sequence([torch.tensor(sentences[i]) for i in chosen], True, PAD)
        lengths = torch.tensor([len(sentences[i]) for i in chosen])
        state = model.start(source, torch.arange(source.shape[1]) < lengths[:, None], max_length)
        token = torch.full((len(chosen),), START)
        ended = torch.zeros(len(chosen), dtype=torch.bool)
        going_on = torch.arange(len(chosen))
        written = torch.full((len(chosen), max_length), END)
        for place in range(max_length):
            logits = model.step(state, token)
            logits[:, [PAD, START]] = -torch.inf
            token = logits.argmax(-1)
            ended |= token == END
            if ended.all():
                break
            token = token.masked_fill(ended, END)
            written[going_on, place] = token
            if dropping and 4 * int(ended.sum()) >= len(ended):
                rows = torch.nonzero(~ended)[:, 0]
                model.keep(state, rows)
                going_on, token, ended = going_on[rows], token[rows], ended[rows]
        for i, row in zip(chosen, written.tolist(), strict=True):
            translations[i] = row[: row.index(END)] if END in row else row
    return translations
