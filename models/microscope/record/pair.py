"""The pair of sentences: its ids and symbols, and the model's prediction for each target token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...console.errors import CommandError
from ...data import END, START, UNKNOWN, Tokenizer
from ...runs.folder import Run
from ..checks.attention import softmax
from .schema import Sentence, Token
from .trace import Traced

__all__ = ["LONGEST", "Pair", "read", "sentence", "symbols_of", "tokens_of"]

LONGEST = 200
"""The most symbols of a source or a target."""
_PREDICTED = 5


@dataclass(frozen=True)
class Pair:
    """A source and a target, without <s> and </s>."""

    source: Sentence
    target: Sentence
    run: Run | None
    """The run whose tokenizers name the symbols; without one, their ids are shown."""


def read(given: str | Sequence[int], which: Literal["source", "target"], run: Run | None) -> Sentence:
    """A text, which needs a run with its tokenizers, or ids, as a sentence.

    Raises:
        CommandError: a sentence that is empty or too long, or a text without a run.
        DataError: a sentence that is too long for the model.
    """
    tokenizer = None if run is None else run.source if which == "source" else run.target
    if not isinstance(given, str):
        found = sentence([int(number) for number in given], tokenizer)
    elif tokenizer is None:
        raise CommandError(f"the {which} is a text, but there is no run with a tokenizer; give ids")
    else:
        found = _sentence_of(given.strip(), tokenizer)
    ids = found["ids"]
    if not ids and which == "source":
        raise CommandError("the source is empty; give at least one symbol")
    if len(ids) > LONGEST:
        raise CommandError(f"the {which} has {len(ids)} symbols, the microscope takes at most {LONGEST}")
    if run is not None:
        run.refuse_too_long(*(([ids], []) if which == "source" else ([], [ids])))
    return found


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


def tokens_of(traced: Traced, pair: Pair) -> list[Token]:
    """The prediction at each position of the target."""
    probabilities = softmax(traced.logits)
    tokenizer = pair.run.target if pair.run else None
    expected = [*traced.target, END]
    first, last = symbols_of([START, END], tokenizer)
    names = [first, *pair.target["tokens"], last]
    tokens: list[Token] = []
    for step, row in enumerate(probabilities):
        best = [int(i) for i in np.argsort(-row, kind="stable")[:_PREDICTED]]
        logits = traced.logits[step]
        highest = logits.max()
        loss = highest + np.log(np.exp(logits - highest).sum()) - logits[expected[step]]
        tokens.append(
            {
                "read": names[step],
                "expected": names[step + 1],
                "expected_id": expected[step],
                "loss": float(loss),
                "probability": float(row[expected[step]]),
                "predicted": [
                    (symbol, float(row[i])) for symbol, i in zip(symbols_of(best, tokenizer), best, strict=True)
                ],
            }
        )
    return tokens
