"""The log-probability of each token of a text, or of a translation of a source."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..console.counts import counted
from ..console.errors import CommandError
from ..console.symbols import visible
from .options import add_run, warn_of_unknown

if TYPE_CHECKING:
    from ..evaluation.scoring import Score

NEEDS = ("rich", "safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    add_run(parser)
    parser.add_argument(
        "texts", metavar="TEXT", nargs="+", help="of a translator the source and a translation; else the text"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON line for each token, and one for the whole")


def run(arguments: argparse.Namespace) -> int:
    """Print each token's log-probability, their sum, and the perplexity."""
    from ..interface import Translator
    from ..trained import TrainedModel

    model = TrainedModel.load(arguments.run)
    translates = isinstance(model.module, Translator)
    if len(arguments.texts) != 1 + translates:
        wanted = "a source and its translation" if translates else "one text (quote what has blanks)"
        raise CommandError(
            f"score: {arguments.run} is a {model.config.model.name}, which needs {wanted}; got "
            f"{len(arguments.texts)} texts"
        )
    *source, text = arguments.texts
    for known_by, given in zip(model.tokenizers[-len(arguments.texts) :], arguments.texts, strict=True):
        warn_of_unknown(arguments, given, known_by.unknown(given))
    found = model.score(text, *source)
    for line in _as_json(found) if arguments.json else _as_text(found):
        print(line)
    return 0


def _as_json(found: Score) -> Iterator[str]:
    for token in found.tokens:
        record = {"token": token.symbol, "log_probability": token.log_probability}
        yield json.dumps(record, ensure_ascii=False)
    whole = {"tokens": len(found.tokens), "log_probability": found.log_probability, "perplexity": found.perplexity}
    yield json.dumps(whole)


def _as_text(found: Score) -> Iterator[str]:
    for token in found.tokens:
        yield f"{token.log_probability:10.4f}  {visible(token.symbol)}"
    yield f"{found.log_probability:10.4f}  log-probability of {counted(len(found.tokens), 'token')}, in nats"
    yield f"{found.perplexity:10.4f}  perplexity per token"
