"""train_tokenizers: makes the tokenizers of source and target from the training pairs."""

from __future__ import annotations

from .corpus import ParallelText
from .task import Task
from .tokenizer import Tokenizer, train_tokenizer

__all__ = ["train_tokenizers"]


def train_tokenizers(text: ParallelText, settings: Task) -> tuple[Tokenizer, Tokenizer]:
    """A tokenizer for the source and one for the target, from the training pairs only.

    With ``data.shared_vocabulary`` both are the same object, made from both sides.
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
