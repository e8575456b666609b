"""The sentences that averages are taken over: drawn from a run's test set, or given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...console.errors import CommandError, UserError
from ...data import ParallelText, PlainText, encode_text
from ...data.windows import WINDOW
from ...interface import LanguageModel, Translator
from ...runs.folder import Run
from ...setting import short
from .example import LONGEST, Example, own_translation, read, read_text

__all__ = ["Drawn", "Given", "draw"]

Given = int | Sequence[Any]
"""How many sentences to draw; or the sentences: pairs, sources that the model translates itself, or texts."""

_SEED = 0


@dataclass(frozen=True)
class Drawn:
    """Sentences, as the model reads them."""

    examples: list[Example]
    split: Literal["test", "valid", "given"]
    left_out: int
    """How many were too long, or had nothing to predict."""


def draw(model: LanguageModel, given: Given, run: Run | None) -> Drawn:
    """The sentences of ``given``.

    Args:
        model: the model that reads them.
        given: how many of the run's test set, or if that is empty of its validation set, drawn always alike; or
            sentences: of a translator ``(source, target)`` or a source, which the model translates; else texts.
        run: the run whose tokenizers and data they are of.

    Raises:
        CommandError: a number without a run, or no sentence that the model can read.
        DataError: the run's data cannot be read.
    """
    if not isinstance(given, int):
        if isinstance(given, str):
            raise CommandError("sentences: expected a number or a list, got one text; put it in a list")
        return _read(model, given, run, len(given), "given")
    if given < 1:
        raise CommandError(f"sentences: expected at least 1, got {given}")
    if run is None:
        raise CommandError("a number of sentences is drawn from a run's test set; without a run give the sentences")
    text = run.config.data.load_only("test")
    split: Literal["test", "valid"] = "test" if text.test else "valid"
    return _read(model, _all_of(model, text, split, run), run, given, split)


def _all_of(
    model: LanguageModel, text: ParallelText | PlainText, split: Literal["test", "valid"], run: Run
) -> Iterator[Any]:
    """All sentences of a split, or all windows of a text, in an order of chance."""
    rng = np.random.default_rng(_SEED)
    if isinstance(text, ParallelText):
        pairs = text.test if split == "test" else text.valid
        yield from (pairs[i] for i in rng.permutation(len(pairs)))
        return
    content = text.test if split == "test" else text.valid
    if model.delimited:
        lines = "".join(content).splitlines()
        yield from (lines[i] for i in rng.permutation(len(lines)))
        return
    ids = encode_text(content, run.target, f"the {split} text")
    length = min(model.context or WINDOW, LONGEST - 1)
    yield from (ids[i * length : (i + 1) * length + 1] for i in rng.permutation(max(1, (len(ids) - 1) // length)))


def _read(
    model: LanguageModel, given: Iterable[Any], run: Run | None, count: int, split: Literal["test", "valid", "given"]
) -> Drawn:
    """The first ``count`` that the model can read."""
    examples: list[Example] = []
    left_out, why = 0, "there are none"
    for each in given:
        if len(examples) == count:
            break
        try:
            examples.append(_example(model, each, run))
        except UserError as error:
            left_out, why = left_out + 1, str(error)
    if not examples:
        raise CommandError(f"sentences: there is none that the model can read: {why}")
    return Drawn(examples, split, left_out)


def _example(model: LanguageModel, given: Any, run: Run | None) -> Example:
    if not isinstance(model, Translator):
        return Example(None, read_text(given, model, run), run)
    if isinstance(given, str) or all(isinstance(each, (int, np.integer)) for each in given):
        of_source = read(given, "source", run)
        return Example(of_source, own_translation(model, of_source, run), run)
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise CommandError(f"sentences: expected (source, target) or a source, got {short(given)}")
    source, target = given
    return Example(read(source, "source", run), read(target, "target", run), run)
