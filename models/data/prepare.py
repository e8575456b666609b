"""train_tokenizers: makes the tokenizers of source and target from the training pairs, or that of a text."""

from __future__ import annotations

import warnings

from .corpus import ParallelText, PlainText
from .task import BaseTask, Task
from .tokenizer import Tokenizer, train_tokenizer
from .vocabulary import CONTROL_SYMBOLS

__all__ = ["train_tokenizers"]

_CONTROLS = len(CONTROL_SYMBOLS)


def train_tokenizers(text: ParallelText | PlainText, settings: BaseTask) -> tuple[Tokenizer, Tokenizer]:
    """A tokenizer for the source and one for the target, from the training pairs only.

    With ``data.shared_vocabulary``, and of a text without sources, both are the same object. Warns if a vocabulary is
    empty.
    """

    def train(texts: list[str]) -> Tokenizer:
        return train_tokenizer(
            settings.tokenizer,
            texts,
            lowercase=settings.lowercase,
            min_frequency=settings.min_frequency,
            vocabulary_size=settings.vocabulary_size,
            whole_text=isinstance(text, PlainText),
        )

    if isinstance(text, PlainText):
        whole = train([text.train])
        _warn_of_empty((whole, whole), settings)
        return whole, whole
    sources, targets = [source for source, _ in text.train], [target for _, target in text.train]
    if isinstance(settings, Task) and settings.shared_vocabulary:
        shared = train(sources + targets)
        made = shared, shared
    else:
        made = train(sources), train(targets)
    _warn_of_empty(made, settings)
    return made


def _warn_of_empty(made: tuple[Tokenizer, Tokenizer], settings: BaseTask) -> None:
    empty = [side for side, tokenizer in zip(("source", "target"), made, strict=True) if len(tokenizer) <= _CONTROLS]
    if not empty:
        return
    fixes = [f"lower data.min_frequency {settings.min_frequency}"] if settings.min_frequency > 1 else []
    fixes += [f"raise data.vocabulary_size {settings.vocabulary_size}"] if settings.vocabulary_size else []
    warnings.warn(
        f"the vocabulary of {' and '.join(empty)} is empty: every symbol is <unk>, so there is nothing to learn; "
        f"{' or '.join(fixes)}",
        stacklevel=3,
    )
