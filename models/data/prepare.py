"""From a config to text, and from text to the two tokenizers that fit it."""

from __future__ import annotations

from ..config import DataConfig
from .dates import generate_dates
from .parallel import ParallelText, read_parallel_text
from .vocabulary import Tokenizer, train_tokenizer

__all__ = ["load_text", "train_tokenizers"]


def load_text(settings: DataConfig) -> ParallelText:
    """The pairs that the config asks for, generated or read.

    Raises:
        DataError: they cannot be had; see `generate_dates` and `read_parallel_text`.
    """
    if settings.kind == "parallel":
        return read_parallel_text(settings.directory, settings.source, settings.target)
    return generate_dates(settings.seed, train=settings.train_size, valid=settings.valid_size, test=settings.test_size)


def train_tokenizers(text: ParallelText, settings: DataConfig) -> tuple[Tokenizer, Tokenizer]:
    """A tokenizer of the source and one of the target, which know the symbols of the training pairs only."""
    sides = [source for source, _ in text.train], [target for _, target in text.train]
    source, target = (
        train_tokenizer(settings.tokenizer, side, lowercase=settings.lowercase, min_frequency=settings.min_frequency)
        for side in sides
    )
    return source, target
