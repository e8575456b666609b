"""The Transformer of `models.speed.workloads` in PyTorch, and a training step as a good user writes it there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from tinygrad_attn_models.speed.bench import CLIP_NORM, LEARNING_RATE
from tinygrad_attn_models.speed.workloads import RandomBatch, TransformerWorkload
from torch import Tensor, nn
from torch.nn import functional as F


class TorchTransformer(nn.Module):
    """`tinygrad_attn_models.speed.workloads.TransformerWorkload`, with parameters of the same names."""

    def __init__(self, vocabulary: int, d_model: int, layers: int, heads: int, d_ff: int) -> None:
        super().__init__()
        self.se, self.te = nn.Embedding(vocabulary, d_model), nn.Embedding(vocabulary, d_model)
        self.tr = nn.Transformer(d_model, heads, layers, layers, d_ff, dropout=0.0, batch_first=True)
        self.out = nn.Linear(d_model, vocabulary)
        self.scale = math.sqrt(d_model)
        angles = torch.arange(1024)[:, None] / 10000 ** (torch.arange(0, d_model, 2) / d_model)
        self.register_buffer("positions", torch.stack([angles.sin(), angles.cos()], -1).flatten(1), persistent=False)

    def forward(self, source: Tensor, target_in: Tensor, source_mask: Tensor) -> Tensor:
        """Ids (B, S) and (B, T), and the mask (B, S), to logits (B, T, V)."""
        length, padding = target_in.shape[1], ~source_mask
        x = self.se(source) * self.scale + self.positions[: source.shape[1]]
        y = self.te(target_in) * self.scale + self.positions[:length]
        causal = torch.ones(length, length, dtype=torch.bool).triu(1)
        y = self.tr(
            x, y, tgt_mask=causal, tgt_is_causal=True, src_key_padding_mask=padding, memory_key_padding_mask=padding
        )  # fmt: skip
        return self.out(y)


def training_step(
    sizes: tuple[int, int, int, int, int], ours: TransformerWorkload, batch: RandomBatch
) -> Callable[[], float]:
    """`step_of` a model of ``sizes``, (V, D, layers, heads, FF), that begins with our weights."""
    model = TorchTransformer(*sizes)
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in ours.state_dict().items()})
    return step_of(model, [torch.from_numpy(tensor.array) for tensor in batch])


def step_of(model: nn.Module, batch: Sequence[Tensor]) -> Callable[[], float]:
    """A step of a model on source, target_in, target_out and the source's mask; it gives the loss."""
    source, target_in, target_out, mask = batch
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(source, target_in, mask).flatten(0, 1), target_out.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        return loss.item()

    return step
