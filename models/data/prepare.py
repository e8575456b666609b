"""From a config to text, and from text to the two tokenizers that fit it."""

from __future__ import annotations

from ..runs.config import DataConfig
from .dates import generate_dates
from .parallel import ParallelText, read_parallel_text
from .tasks import generate_task
from .vocabulary import Tokenizer, train_tokenizer

__all__ = ["load_text", "train_tokenizers"]


def load_text(settings: DataConfig) -> ParallelText:
    """The pairs that the config asks for, generated or read.

    Raises:
        DataError: they cannot be had; see `read_parallel_text`, `generate_dates` and `generate_task`.
    """
    if settings.kind == "parallel":
        return read_parallel_text(settings.directory, settings.source, settings.target)
    sizes = {"train": settings.train_size, "valid": settings.valid_size, "test": settings.test_size}
    if settings.kind == "dates":
        return generate_dates(settings.seed, **sizes)
    return generate_task(
        settings.kind,
        settings.seed,
        **sizes,
        shortest=settings.shortest,
        longest=settings.longest,
        longest_test=settings.longest_test,
    )


def train_tokenizers(text: ParallelText, settings: DataConfig) -> tuple[Tokenizer, Tokenizer]:
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
