"""Training as people run it, beside the same model and loop in PyTorch.

    python tests/benchmarks/bench_epoch.py FOLDER [--steps 100] [--rounds 3] [--threads 2]

FOLDER has Multi30k. The config is multi30k-transformer: dropout, label smoothing, batches by tokens and so of ever new
shapes, clipping, Adam. Both begin with the same weights and take the same batches, in turns in processes of their own;
what is counted are all steps, with the loss as a number after each, but not the first `WARM`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from harness import run_in_process
from tinygrad_attn_models.console.progress import PlainProgress
from tinygrad_attn_models.data import PAD, Batch, train_tokenizers
from tinygrad_attn_models.runs.config import find_config, load_config
from tinygrad_attn_models.runs.folder import Run
from tinygrad_attn_models.training.trainer import Trainer
from torch import Tensor, nn
from torch.nn import functional as F

CONFIG = "multi30k-transformer"
WARM = 20


class TorchTransformer(nn.Module):
    """`tinygrad_attn_models.transformer.Transformer` with shared embeddings, tied to the output."""

    def __init__(self, vocabulary: int, settings) -> None:
        super().__init__()
        width = settings.d_model
        self.embedding = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(settings.dropout)
        self.transformer = nn.Transformer(
            width, settings.heads, settings.encoder_layers, settings.decoder_layers, settings.d_ff, settings.dropout,
            batch_first=True,
        )  # fmt: skip
        self.output = nn.Linear(width, vocabulary)
        self.output.weight = self.embedding.weight
        angles = torch.arange(1024)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
        self.register_buffer("positions", torch.stack([angles.sin(), angles.cos()], -1).flatten(1), persistent=False)

    def forward(self, source: Tensor, padding: Tensor, target_in: Tensor) -> Tensor:
        """Ids (B, S) and (B, T), and where the source is padding (B, S), to logits (B, T, V)."""
        causal = torch.ones(2 * (target_in.shape[1],), dtype=torch.bool).triu(1)
        decoded = self.transformer(
            self._embed(source), self._embed(target_in), tgt_mask=causal, tgt_is_causal=True,
            src_key_padding_mask=padding, memory_key_padding_mask=padding,
        )  # fmt: skip
        return self.output(decoded)

    def _embed(self, ids: Tensor) -> Tensor:
        vectors = self.embedding(ids) * math.sqrt(self.embedding.embedding_dim)
        return self.dropout(vectors + self.positions[: ids.shape[1]])


def torch_step(trainer: Trainer) -> Callable[[Batch], float]:
    """The step that PyTorch's users write, from the weights of ``trainer``."""
    settings = trainer.settings
    model = TorchTransformer(trainer.model.output.weight.shape[0], trainer.run.config.model)
    weights = trainer.model.state_dict()
    weights["embedding.weight"] = weights.pop("source_embedding.weight")
    del weights["target_embedding.weight"]
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    optimizer = torch.optim.Adam(
        model.parameters(), settings.learning_rate, (settings.beta1, settings.beta2), settings.eps, fused=True
    )
    number = itertools.count()

    def step(batch: Batch) -> float:
        for group in optimizer.param_groups:
            group["lr"] = trainer.schedule(next(number))
        optimizer.zero_grad(set_to_none=True)
        logits = model(*map(torch.from_numpy, (batch.source, ~batch.source_mask, batch.target_in)))
        target = torch.from_numpy(batch.target_out)
        loss = F.cross_entropy(
            logits.flatten(0, 1), target.flatten(), ignore_index=PAD, label_smoothing=settings.label_smoothing
        )
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        return loss.item()

    return step


def our_step(trainer: Trainer) -> Callable[[Batch], float]:
    """The step that ``python -m models train`` takes."""
    number = itertools.count()

    def step(batch: Batch) -> float:
        trainer.position.step = next(number)
        return trainer.step(batch)[0]

    return step


STEPS = {"ours": our_step, "torch": torch_step}


def measure(name: str, folder: Path, threads: int, steps: int) -> dict[str, float]:
    """Seconds for ``steps`` steps after the first `WARM`, the target tokens that they read, and their mean loss."""
    torch.set_num_threads(threads)
    config = load_config(find_config(CONFIG), {"data.directory": str(folder)})
    text = config.data.load()
    with tempfile.TemporaryDirectory() as temporary:
        run = Run(Path(temporary) / "run", config, *train_tokenizers(text, config.data))
        run.create()
        trainer = Trainer(run, text, PlainProgress())
        batches: Iterator[Batch] = trainer.train_batches.epoch(0)
        step = STEPS[name](trainer)
        for batch in itertools.islice(batches, WARM):
            step(batch)
        losses, tokens, began = [], 0, time.perf_counter()
        for batch in itertools.islice(batches, steps):
            losses.append(step(batch))
            tokens += batch.target_tokens
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "tokens": tokens, "loss": statistics.fmean(losses)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Training on Multi30k beside PyTorch.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=100, help="of an epoch's 230 or so")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.folder, options.threads, options.steps)))
        return
    ratios = []
    for _ in range(options.rounds):
        found = {}
        for name in STEPS:
            arguments = [str(options.folder), "--measure", name, "--steps", str(options.steps)]
            arguments += ["--threads", str(options.threads)]
            found[name] = run_in_process(__file__, arguments, options.threads)
            row = found[name]
            rate = row["tokens"] / row["seconds"]
            print(f"{name:>6}: {row['seconds']:6.1f} s, {rate:7,.0f} target tokens/s, mean loss {row['loss']:.3f}")
        ratios.append(found["torch"]["seconds"] / found["ours"]["seconds"])
    print(f"PyTorch's time over ours: {statistics.median(ratios):.2f}, median of {len(ratios)} rounds")


if __name__ == "__main__":
    main()
