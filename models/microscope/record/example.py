"""What the model reads, a pair of sentences or a text: ids and symbols, and the prediction for each token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...console.errors import CommandError
from ...data import END, START, UNKNOWN, Tokenizer
from ...evaluation.scoring import read_and_said
from ...interface import LanguageModel, Translator
from ...runs.folder import Run
from ...setting import short
from ..checks.softmax import cross_entropies, softmax
from .schema import Data, Sentence, Token
from .trace import Traced, greedy_translation

__all__ = [
    "LONGEST", "Example", "headline", "name_of", "own_translation", "read", "read_text", "sentence", "symbols_of",
    "tokens_of",
]  # fmt: skip

LONGEST = 200
"""The most symbols of a source, a target or a text."""
_PREDICTED = 5


@dataclass(frozen=True)
class Example:
    """A source and a target, or a text alone, without <s> and </s>."""

    source: Sentence | None
    """None of a model that has none."""
    target: Sentence
    """The target, or the text."""
    run: Run | None
    """The run whose tokenizers name the symbols; without one, their ids are shown."""


def name_of(run: Run | None) -> str:
    """The name of a run's folder; empty without a run."""
    return run.directory.resolve().name if run else ""


def read(given: str | Sequence[int], which: Literal["source", "target"], run: Run | None) -> Sentence:
    """A text, which needs a run with its tokenizers, or ids, as a sentence.

    Raises:
        CommandError: a sentence that is empty or too long, a text without a run, or an id that the vocabulary does not
            have.
        DataError: a sentence that is too long for the model.
    """
    tokenizer = None if run is None else run.source if which == "source" else run.target
    found = _read(given.strip() if isinstance(given, str) else given, f"the {which}", tokenizer)
    ids = found["ids"]
    if not ids and which == "source":
        raise CommandError("the source is empty; give at least one symbol")
    if run is not None:
        run.refuse_too_long(*(([ids], []) if which == "source" else ([], [ids])))
    return found


def read_text(given: str | Sequence[int], model: LanguageModel, run: Run | None) -> Sentence:
    """A text for a model without a source, with its blanks at both ends, or ids.

    Raises:
        CommandError: a text with nothing to predict, one that is longer than the model reads from one start, a text
            without a run, or an id that the vocabulary does not have.
    """
    found = _read(given, "the text", run.target if run else None)
    ids, (reads, _) = found["ids"], read_and_said(model, found["ids"])
    if not reads:
        only = "has one symbol, which is given, so that nothing is predicted" if ids else "is empty"
        raise CommandError(f"the text {only}; give more")
    if model.context is not None and len(reads) > model.context:
        most = len(ids) - len(reads) + model.context
        limit = f", by {run.config.model.limited_by()}" if run else ""
        raise CommandError(
            f"the text has {len(ids)} symbols; {type(model).__name__} reads and predicts at most {most} from one "
            f"start{limit}: shorten the text"
        )
    return found


def _read(given: str | Sequence[int], name: str, tokenizer: Tokenizer | None) -> Sentence:
    if not isinstance(given, str):
        try:
            ids = [int(number) for number in given]
        except (TypeError, ValueError):
            raise CommandError(f"{name} must be a text, or a list of ids; it is {short(given)}") from None
        unknown = [] if tokenizer is None else [number for number in ids if not 0 <= number < len(tokenizer)]
        if tokenizer is not None and unknown:
            raise CommandError(f"{name} has the id {unknown[0]}; those of the vocabulary are 0 to {len(tokenizer) - 1}")
        found = sentence(ids, tokenizer)
    elif tokenizer is None:
        raise CommandError(f"{name} is a string, but there is no run with a tokenizer; give ids")
    else:
        found = _sentence_of(given, tokenizer)
    if len(found["ids"]) > LONGEST:
        raise CommandError(f"{name} has {len(found['ids'])} symbols, the microscope takes at most {LONGEST}")
    return found


def own_translation(model: Translator, source: Sentence, run: Run | None) -> Sentence:
    """The model's greedy translation of a source."""
    longest = min(run.config.decoding.max_length, LONGEST) if run else LONGEST
    return sentence(greedy_translation(model, source["ids"], longest), run.target if run else None)


def headline(data: Data, form: Callable[[str], str] = str) -> str:
    """What was read, in one line: source → target, or the text; each as ``form`` writes it."""
    texts = [form(each["text"]) for each in (data["source"], data["target"]) if each is not None]
    return " → ".join(texts).replace("\n", "↵")


def sentence(ids: Sequence[int], tokenizer: Tokenizer | None) -> Sentence:
    """Ids as text and symbols."""
    tokens = symbols_of(ids, tokenizer)
    text = " ".join(tokens) if tokenizer is None else tokenizer.decode(ids)
    return {"text": text, "tokens": tokens, "ids": list(ids)}


def symbols_of(ids: Sequence[int], tokenizer: Tokenizer | None) -> list[str]:
    """A name for each id: its symbol, or the id itself without a tokenizer."""
    return [str(number) for number in ids] if tokenizer is None else list(tokenizer.symbols_of(ids))


def _sentence_of(text: str, tokenizer: Tokenizer) -> Sentence:
    """A text; what the vocabulary does not have keeps its spelling, beside the <unk> that the model reads."""
    ids = list(tokenizer.encode(text))
    names = zip(ids, tokenizer.pieces(text), tokenizer.symbols_of(ids), strict=True)
    return {"text": text, "tokens": [f"{piece} ({s})" if i == UNKNOWN else s for i, piece, s in names], "ids": ids}


def tokens_of(traced: Traced, example: Example) -> list[Token]:
    """The prediction after each symbol that is read of the target, or of the text; none with a loss of the user's."""
    if not isinstance(traced.model, LanguageModel) or not traced.expected:
        return []
    probabilities, expected = softmax(traced.logits), traced.expected
    losses = cross_entropies(traced.logits, expected)
    tokenizer = example.run.target if example.run else None
    names = example.target["tokens"]
    if traced.model.delimited:
        first, last = symbols_of([START, END], tokenizer)
        names = [first, *names, last]
    tokens: list[Token] = []
    for step, row in enumerate(probabilities):
        best = [int(i) for i in np.argsort(-row, kind="stable")[:_PREDICTED]]
        tokens.append(
            {
                "read": names[step],
                "expected": names[step + 1],
                "expected_id": expected[step],
                "loss": float(losses[step]),
                "probability": float(row[expected[step]]),
                "predicted": [
                    (symbol, float(row[i])) for symbol, i in zip(symbols_of(best, tokenizer), best, strict=True)
                ],
            }
        )
    return tokens
