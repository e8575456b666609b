"""Training of small models in experiments: the loop, pairs of a task as ids, and what a translator gets right."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn, optim
from tinygrad_attn.schedule import cosine

from ...console.working import worked_off
from ...data import Batches, PairBatch, Task, encode_pairs, train_tokenizers
from ...data.batches import Example
from ...decoding.translate import translate
from ...evaluation.metrics import mean_loss
from ...interface import Translator
from ...runs.config import DecodingConfig

__all__ = ["Pairs", "fit", "fit_translator", "pairs_of", "translated_right"]


def fit(
    model: nn.Module, loss: Callable[..., Tensor], batches: Iterator[tuple[Any, ...]], steps: int, rate: float,
    warmup: float = 0.1, captured: bool = True,
) -> list[float]:  # fmt: skip
    """Train with Adam: a cosine schedule after a linear warmup, gradients clipped to the norm 1.

    Args:
        model: whose parameters are trained.
        loss: of the tensors of a batch.
        batches: of arrays.
        steps: how many batches.
        rate: the largest learning rate.
        warmup: the share of the steps in which the rate rises.
        captured: whether the loss depends on the tensors alone, so that its program can be captured.

    Returns:
        The loss of each step.
    """
    optimizer = optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98))
    schedule = cosine(rate, steps, warmup=int(warmup * steps))
    step = ta.capture(loss) if captured else functools.partial(_eagerly, loss)
    model.train()
    losses = []
    chosen = itertools.islice(batches, steps)
    for number, batch in enumerate(worked_off(chosen, "training, step", steps)):
        optimizer.lr = schedule(number)
        optimizer.zero_grad()
        losses.append(float(step(*map(Tensor, batch)).item()))
        optimizer.step(clip_norm=1.0)
    model.eval()
    return losses


def _eagerly(loss: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    value = loss(*inputs)
    value.backward()
    return value


@dataclass(frozen=True)
class Pairs:
    """The pairs of a task as ids."""

    train: list[Example]
    test: list[Example]
    sizes: tuple[int, int]
    """The numbers of source and target symbols, the first arguments of every translator."""


@functools.lru_cache(maxsize=4)
def pairs_of(task: Task) -> Pairs:
    """The training and test pairs of a task."""
    text = task.load()
    source, target = train_tokenizers(text, task)
    train, test = (encode_pairs(pairs, source, target) for pairs in (text.train, text.test))
    return Pairs(train, test, (len(source), len(target)))


def fit_translator(
    model: Translator, pairs: Pairs, steps: int, seed: int, rate: float = 0.003, batch_size: int = 64
) -> list[float]:
    """Train a translator on pairs by teacher forcing; see `fit`."""
    return fit(
        model, functools.partial(_forced_loss, model), _arrays(_endless(pairs.train, batch_size, seed)), steps, rate
    )


def _forced_loss(model: Translator, *tensors: Tensor) -> Tensor:
    return mean_loss(model(*tensors[:-1]), tensors[-1])


def _endless(examples: list[Example], batch_size: int, seed: int) -> Iterator[PairBatch]:
    batches = Batches(examples, batch_size=batch_size, seed=seed)
    return (batch for epoch in itertools.count() for batch in batches.epoch(epoch))


def _arrays(batches: Iterator[PairBatch]) -> Iterator[tuple[Any, ...]]:
    return ((*batch.given, batch.target_in, batch.target_out) for batch in batches)


def translated_right(model: Translator, examples: list[Example], max_length: int = 40) -> float:
    """The share of pairs whose greedy translation is the target, symbol for symbol."""
    decoding = DecodingConfig(batch_size=128, max_length=max_length)
    translations = translate(model, [source for source, _ in examples], decoding)
    right = [list(found) == list(target) for found, (_, target) in zip(translations, examples, strict=True)]
    return sum(right) / len(right)
