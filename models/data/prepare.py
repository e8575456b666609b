"""train_tokenizers: makes the tokenizers of source and target from the training pairs."""

from __future__ import annotations

import warnings

from .corpus import ParallelText
from .task import Task
from .tokenizer import Tokenizer, train_tokenizer
from .vocabulary import CONTROL_SYMBOLS

__all__ = ["train_tokenizers"]

_CONTROLS = len(CONTROL_SYMBOLS)


def train_tokenizers(text: ParallelText, settings: Task) -> tuple[Tokenizer, Tokenizer]:
    """A tokenizer for the source and one for the target, from the training pairs only.

    With ``data.shared_vocabulary`` both are the same object, made from both sides. Warns if a vocabulary is empty.
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
        made = shared, shared
    else:
        made = train(sources), train(targets)
    _warn_of_empty(made, settings)
    return made


def _warn_of_empty(made: tuple[Tokenizer, Tokenizer], settings: Task) -> None:
    empty = [side for side, tokenizer in zip(("source", "target"), made, strict=True) if len(tokenizer) <= _CONTROLS]
    if not empty:
        return
    limit = f" or raise data.vocabulary_size {settings.vocabulary_size}" if settings.vocabulary_size else ""
    warnings.warn(
        f"the vocabulary of {' and '.join(empty)} is empty: every symbol is <unk>, so there is nothing to learn; lower "
        f"data.min_frequency {settings.min_frequency}{limit}",
        stacklevel=3,
    )
