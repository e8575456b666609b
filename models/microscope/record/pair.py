"""The pair of sentences: its ids and symbols, and the model's prediction for each target token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...console.errors import CommandError
from ...data import END, START, Tokenizer
from ...runs.folder import Run
from ..checks.attention import softmax
from .schema import Sentence, Token
from .trace import Traced

__all__ = ["LONGEST", "Pair", "read_ids", "sentence", "tokens_of"]

LONGEST = 200
"""The most symbols of a source or a target."""
_PREDICTED = 5


@dataclass(frozen=True)
class Pair:
    """Ids without <s> and </s>."""

    source: list[int]
    target: list[int]
    run: Run | None
    """The run whose tokenizers name the symbols; without one, their ids are shown."""

    def sentences(self) -> tuple[Sentence, Sentence]:
        """The source and the target, as text and symbols."""
        of_source, of_target = (self.run.source, self.run.target) if self.run else (None, None)
        return sentence(self.source, of_source), sentence(self.target, of_target)


def read_ids(given: str | Sequence[int], which: Literal["source", "target"], run: Run | None) -> list[int]:
    """The ids of a text, which needs a run with its tokenizers, or the ids that are given.

    Raises:
        CommandError: a sentence that is empty or too long, or a text without a run.
        DataError: a sentence that is too long for the model.
    """
    if not isinstance(given, str):
        ids = [int(number) for number in given]
    elif run is None:
        raise CommandError(f"the {which} is a text, but there is no run with a tokenizer; give ids")
    else:
        ids = (run.source if which == "source" else run.target).encode(given.strip())
    if not ids and which == "source":
        raise CommandError("the source is empty; give at least one symbol")
    if len(ids) > LONGEST:
        raise CommandError(f"the {which} has {len(ids)} symbols, the microscope takes at most {LONGEST}")
    if run is not None:
        run.refuse_too_long(*(([ids], []) if which == "source" else ([], [ids])))
    return ids


def sentence(ids: Sequence[int], tokenizer: Tokenizer | None) -> Sentence:
    """Ids as text and symbols."""
    tokens = [str(number) for number in ids] if tokenizer is None else list(tokenizer.symbols_of(ids))
    text = " ".join(tokens) if tokenizer is None else tokenizer.decode(ids)
    return {"text": text, "tokens": tokens, "ids": list(ids)}


def tokens_of(traced: Traced, tokenizer: Tokenizer | None) -> list[Token]:
    """The prediction at each position of the target."""
    probabilities = softmax(traced.logits)

    def symbols(ids: Sequence[int]) -> list[str]:
        return [str(number) for number in ids] if tokenizer is None else list(tokenizer.symbols_of(ids))

    expected = [*traced.target, END]
    read, follow = symbols([START, *traced.target]), symbols(expected)
    tokens: list[Token] = []
    for step, row in enumerate(probabilities):
        best = [int(i) for i in np.argsort(-row, kind="stable")[:_PREDICTED]]
        logits = traced.logits[step]
        highest = logits.max()
        loss = highest + np.log(np.exp(logits - highest).sum()) - logits[expected[step]]
        tokens.append(
            {
                "read": read[step],
                "expected": follow[step],
                "loss": float(loss),
                "probability": float(row[expected[step]]),
                "predicted": [(symbol, float(row[i])) for symbol, i in zip(symbols(best), best, strict=True)],
            }
        )
    return tokens
