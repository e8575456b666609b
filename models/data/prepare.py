"""From text to the two tokenizers that fit it."""

from __future__ import annotations

from .corpus import ParallelText
from .task import Task
from .tokenizer import Tokenizer, train_tokenizer

__all__ = ["train_tokenizers"]


def train_tokenizers(text: ParallelText, settings: Task) -> tuple[Tokenizer, Tokenizer]:
    """A tokenizer of the source and one of the target, which know the symbols of the training pairs only.

    With ``data.shared_vocabulary`` they are one and the same, of both sides.
    """

    def train(texts: list[str]) -> Tokenizer:
        return train_tokenizer(
            settings.tokenizer,
            texts,
            lowercase=settings.lowercase,
            min_frequency=settings.min_frequency,
            vocabulary_size=settings.vocabulary_size,
        )

    sources, targets = [source for source, _ in text.train], [target for _, target in text.train]
    if settings.shared_vocabulary:
        shared = train(sources + targets)
        return shared, shared
    return train(sources), train(targets)
