"""train_tokenizers: makes the tokenizers of source and target from the training pairs, or that of a text."""

from __future__ import annotations

import dataclasses
import itertools
import json
import warnings
from collections.abc import Iterable
from pathlib import Path

from tinygrad_attn.serialize import load_file, save_file

from ..console.working import worked_off
from .cache import Damaged, kept, key_of
from .corpus import Fingerprint, ParallelText, PlainText
from .encode import MANY_PAIRS
from .file_text import MANY_CHARACTERS, pieces
from .task import SYMBOL_SETTINGS, BaseTask, Task
from .tokenizer import Tokenizer, code_of, tokenizer_class, tokenizer_from_dict, train_tokenizer
from .vocabulary import CONTROL_SYMBOLS

__all__ = ["train_tokenizers"]

_CONTROLS = len(CONTROL_SYMBOLS)
_STORED = "tokenizers"


def train_tokenizers(text: ParallelText | PlainText, settings: BaseTask) -> tuple[Tokenizer, Tokenizer]:
    """A tokenizer for the source and one for the target, from the training pairs only.

    With ``data.shared_vocabulary``, and of a text without sources, both are the same object. Those of a large text are
    kept on disk (see `models.data.cache`). Warns if a vocabulary is empty.
    """
    made = _kept(text, settings) if _is_large(text) else None
    if made is None:
        made = _train(text, settings)
    _warn_of_empty(made, settings)
    return made


def _train(text: ParallelText | PlainText, settings: BaseTask) -> tuple[Tokenizer, Tokenizer]:
    def train(texts: Iterable[str], total: int) -> Tokenizer:
        return train_tokenizer(
            settings.tokenizer,
            worked_off(texts, "making the vocabulary: text", total),
            lowercase=settings.lowercase,
            min_frequency=settings.min_frequency,
            vocabulary_size=settings.vocabulary_size,
            whole_text=isinstance(text, PlainText),
        )

    if isinstance(text, PlainText):
        whole = train(pieces(text.train), 0)
        return whole, whole
    pairs, count = text.train, len(text.train)
    sources, targets = (source for source, _ in pairs), (target for _, target in pairs)
    if isinstance(settings, Task) and settings.shared_vocabulary:
        shared = train(itertools.chain(sources, targets), 2 * count)
        return shared, shared
    return train(sources, count), train(targets, count)


def _is_large(text: ParallelText | PlainText) -> bool:
    return len(text.train) >= (MANY_CHARACTERS if isinstance(text, PlainText) else MANY_PAIRS)


def _kept(text: ParallelText | PlainText, settings: BaseTask) -> tuple[Tokenizer, Tokenizer] | None:
    """The tokenizers in the cache, which are made if they are not there; None if nothing can be kept."""

    def write(path: Path) -> None:
        source, target = _train(text, settings)
        stored = [source.to_dict()] if source is target else [source.to_dict(), target.to_dict()]
        save_file({}, path, {_STORED: json.dumps(stored)})

    def read(path: Path) -> tuple[Tokenizer, Tokenizer]:
        try:
            made = [tokenizer_from_dict(stored) for stored in json.loads(load_file(path)[1][_STORED])]
            return made[0], made[-1]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise Damaged(str(error)) from error

    of_text = isinstance(text, PlainText)
    made_from = Fingerprint.of_text(text.train) if isinstance(text, PlainText) else Fingerprint.of(text.train)
    code = code_of(tokenizer_class(settings.tokenizer, of_text))
    cut = {name: getattr(settings, name, None) for name in SYMBOL_SETTINGS}
    return kept(f"tokenizers-{key_of(dataclasses.asdict(made_from), of_text, cut, code)}.safetensors", write, read)


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
