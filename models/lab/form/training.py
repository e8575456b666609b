"""Training of small models in experiments: the loop, pairs of a task as ids, and what a translator gets right."""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn, optim
from tinygrad_attn.schedule import cosine

from ...console.working import worked_off
from ...data import Batches, Examples, PairBatch, Task, Tokenizer, encode_pairs, normalise, train_tokenizers
from ...data.batches import Example
from ...decoding.translate import translate
from ...evaluation.bleu import BleuSettings, bleu
from ...evaluation.metrics import exact_match, mean_loss, token_loss
from ...interface import Translator
from ...runs.config import DecodingConfig
from ...training.sampling import sampled_logits

__all__ = [
    "Pairs",
    "bleu_of",
    "captured",
    "eager",
    "fit",
    "fit_translator",
    "in_order",
    "milliseconds_of",
    "pairs_of",
    "translated",
    "translated_right",
]


def fit(
    model: nn.Module, gradients: Callable[[Any], float], batches: Iterator[Any], steps: int, rate: float,
    warmup: float = 0.1, times: list[float] | None = None,
) -> list[float]:  # fmt: skip
    """Train with Adam: a cosine schedule after a linear warmup, gradients clipped to the norm 1.

    Args:
        model: whose parameters are trained.
        gradients: computes the loss of a batch, and its gradients; see `captured` and `eager`.
        batches: for ever.
        steps: how many batches.
        rate: the largest learning rate.
        warmup: the share of the steps in which the rate rises.
        times: receives the processor seconds of each step.

    Returns:
        The loss of each step.
    """
    optimizer = optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98))
    schedule = cosine(rate, steps, warmup=int(warmup * steps))
    model.train()
    losses = []
    for number in worked_off(range(steps), "training, step", steps):
        optimizer.lr = schedule(number)
        batch, began = next(batches), time.process_time()
        optimizer.zero_grad()
        losses.append(gradients(batch))
        optimizer.step(clip_norm=1.0)
        if times is not None:
            times.append(time.process_time() - began)
    model.eval()
    return losses


def milliseconds_of(times: Sequence[float]) -> float:
    """What a step takes: the median, which the few that compile kernels or write programs do not move."""
    return 1000.0 * statistics.median(times)


def captured(loss: Callable[..., Tensor]) -> Callable[[Sequence[Any]], float]:
    """Gradients of a loss that depends on a batch's arrays alone, as a program (see `tinygrad_attn.capture`)."""
    program = ta.capture(loss)
    return lambda arrays: float(program(*map(Tensor, arrays)).item())


def eager(loss: Callable[[Any], Tensor]) -> Callable[[Any], float]:
    """Gradients of any loss of a batch."""

    def gradients(batch: Any) -> float:
        value = loss(batch)
        value.backward()
        return float(value.item())

    return gradients


@dataclass(frozen=True)
class Pairs:
    """The pairs of a task as ids."""

    train: Examples
    valid: Examples
    test: Examples
    tokenizers: tuple[Tokenizer, Tokenizer]
    references: list[str]
    """The targets of the test pairs."""

    @property
    def sizes(self) -> tuple[int, int]:
        """The numbers of source and target symbols, the first arguments of every translator."""
        return len(self.tokenizers[0]), len(self.tokenizers[1])

    def test_of(self, task: Task) -> Examples:
        """The test pairs of another task, in the same symbols."""
        return encode_pairs(task.load().test, *self.tokenizers)


@functools.lru_cache(maxsize=4)
def pairs_of(task: Task) -> Pairs:
    """The pairs of a task, all three splits."""
    text = task.load()
    tokenizers = train_tokenizers(text, task)
    train, valid, test = (encode_pairs(pairs, *tokenizers) for pairs in (text.train, text.valid, text.test))
    return Pairs(train, valid, test, tokenizers, [target for _, target in text.test])


def fit_translator(
    model: Translator, pairs: Pairs, steps: int, seed: int, rate: float = 0.003, batch_size: int = 64,
    forced: float = 1.0, times: list[float] | None = None,
) -> list[float]:  # fmt: skip
    """Train a translator on pairs; see `fit`.

    Args:
        forced: the probability that the decoder reads a token of the target, and not its own last one.
        times: see `fit`.
    """
    batches = _endless(pairs.train, batch_size, seed)
    if forced == 1.0:
        arrays = ((*batch.given, batch.target_in, batch.target_out) for batch in batches)
        return fit(
            model, captured(lambda *read: mean_loss(model(*read[:-1]), read[-1])), arrays, steps, rate, times=times
        )
    generator = np.random.default_rng(seed)

    def loss(batch: PairBatch) -> Tensor:
        return token_loss(sampled_logits(model, batch, forced, generator), batch)

    return fit(model, eager(loss), batches, steps, rate, times=times)


def _endless(examples: Sequence[Example], batch_size: int, seed: int) -> Iterator[PairBatch]:
    batches = Batches(examples, batch_size=batch_size, seed=seed)
    return (batch for epoch in itertools.count() for batch in batches.epoch(epoch))


def in_order(examples: Sequence[Example]) -> Iterator[PairBatch]:
    """The examples in batches, to measure with."""
    return Batches(examples, batch_size=128).in_order()


def translated(model: Translator, examples: Sequence[Example], max_length: int = 60) -> list[list[int]]:
    """The greedy translations of the sources."""
    decoding = DecodingConfig(batch_size=128, max_length=max_length)
    return translate(model, [source for source, _ in examples], decoding)


def translated_right(model: Translator, examples: Sequence[Example]) -> float:
    """The share of pairs whose greedy translation is the target, symbol for symbol."""
    return exact_match(translated(model, examples), [target for _, target in examples])


def bleu_of(translations: list[list[int]], pairs: Pairs, task: Task) -> float:
    """BLEU of translations of the test pairs, from 0 to 100."""
    texts = [pairs.tokenizers[1].decode(translation) for translation in translations]
    references = [normalise(reference, lowercase=task.lowercase) for reference in pairs.references]
    return bleu(texts, references, BleuSettings(task.bleu_tokenizer, task.lowercase)).score
