"""Teacher-forced loss, perplexity and token accuracy, and exact match and BLEU of translations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tinygrad_attn import Tensor, no_grad
from tinygrad_attn.nn import functional as F
from tinygrad_attn.nn.evaluating import evaluating

from ..console.working import worked_off
from ..data import PAD, UNKNOWN, Batch, Batches
from ..data.batches import Example
from ..decoding.translate import translate
from ..interface import LanguageModel, Translator
from ..parallel.ranks import current
from ..runs.config import DecodingConfig
from .bleu import References

__all__ = [
    "Figures",
    "TeacherForced",
    "correct_tokens",
    "exact_match",
    "mean_loss",
    "measure",
    "teacher_forced",
    "token_loss",
]


@dataclass(frozen=True)
class TeacherForced:
    """Means over all target tokens, ``</s>`` included, given the reference prefix at each step (teacher forcing)."""

    loss: float
    """The cross entropy, in nats per token."""
    accuracy: float
    """The share of tokens to which the model gives the highest probability."""
    tokens: int
    """The number of target tokens."""

    @property
    def perplexity(self) -> float:
        """e^loss, teacher-forced and per token: comparable only between runs with the same tokenizer."""
        return math.exp(min(self.loss, 700.0))

    @classmethod
    def pooled(cls, parts: Sequence[Self]) -> Self:
        """The means over all tokens of several sets (at least one), from the means of each."""
        tokens = sum(part.tokens for part in parts)
        return cls(
            loss=sum(part.loss * part.tokens for part in parts) / tokens,
            accuracy=sum(part.accuracy * part.tokens for part in parts) / tokens,
            tokens=tokens,
        )


@dataclass(frozen=True)
class Figures:
    """The metrics of a model on a set of pairs."""

    pairs: int
    teacher_forced: TeacherForced
    exact_match: float
    """The share of pairs whose translation is the reference, symbol for symbol."""
    bleu: float
    """From 0 to 100."""


def measure(
    model: Translator, examples: Sequence[Example], settings: DecodingConfig, references: References
) -> Figures:
    """Measure ``model`` on ``examples``, without dropout or label smoothing.

    Args:
        settings: how to translate.
        references: the targets of the examples as texts.
    """
    batches = Batches(examples, batch_size=settings.batch_size)
    translations = translate(model, batches.examples.sources, settings)
    with evaluating(model):
        score = references.bleu(model, translations, settings).score
    return Figures(
        pairs=len(examples),
        teacher_forced=teacher_forced(model, batches.in_order()),
        exact_match=exact_match(translations, batches.examples.targets),
        bleu=score,
    )


def mean_loss(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The mean cross entropy of target tokens; padding does not count.

    Args:
        logits: (B, T, V).
        target: (B, T) ids.
        label_smoothing: the share of probability that is spread evenly over all V symbols.
    """
    flat = logits.reshape(-1, logits.shape[-1])
    return F.cross_entropy(flat, target.reshape(-1), ignore_index=PAD, label_smoothing=label_smoothing)


def token_loss(logits: Tensor, batch: Batch, label_smoothing: float = 0.0) -> Tensor:
    """The `mean_loss` of a batch's ``target_out``."""
    return mean_loss(logits, Tensor(batch.target_out), label_smoothing)


def correct_tokens(logits: Tensor, batch: Batch) -> int:
    """How many target tokens have the highest of their ``logits`` (B, T, V)."""
    return int(np.count_nonzero((logits.array.argmax(axis=-1) == batch.target_out) & batch.target_mask))


def teacher_forced(model: LanguageModel, batches: Iterable[Batch]) -> TeacherForced:
    """Loss and accuracy over all batches, which the processes of this run share; every token with the same weight.

    Raises:
        ValueError: there is no batch.
    """

    def work(batch: Batch) -> tuple[float, int, int]:
        logits = model(*map(Tensor, batch.given), Tensor(batch.target_in))
        loss = float(token_loss(logits, batch).item()) * batch.target_tokens
        return loss, correct_tokens(logits, batch), batch.target_tokens

    with evaluating(model), no_grad():
        found = current().divided(worked_off(batches, "measuring batches"), work)
    if not found:
        raise ValueError("teacher_forced: no batches were given")
    loss, correct, tokens = 0.0, 0, 0
    for of_batch, right, count in found:
        loss += of_batch
        correct += right
        tokens += count
    return TeacherForced(loss / tokens, correct / tokens, tokens)


def exact_match(translations: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> float:
    """The share of translations (ids) that equal their reference; one with an unknown symbol never does.

    Raises:
        ValueError: their numbers differ, or there are none.
    """
    if len(translations) != len(references) or not references:
        raise ValueError(f"exact_match: {len(translations)} translations for {len(references)} references")
    pairs = zip(translations, references, strict=True)
    same = sum(list(mine) == list(theirs) and UNKNOWN not in theirs for mine, theirs in pairs)
    return same / len(references)
