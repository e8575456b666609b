"""Lines of text in, lines of translation out: what ``python -m models translate`` does."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ..console.sentences import SentenceProgress
from ..data import UNKNOWN, DataError, Tokenizer
from ..interface import Translator
from ..runs.config import DecodingConfig
from ..runs.folder import Run
from ..runs.limits import refuse_too_long
from .alignment import align
from .greedy import Told, search, translate

__all__ = [
    "batches_of",
    "draw_attention",
    "lines_of",
    "lines_of_standard_input",
    "print_translations",
]

Translated = tuple[list[int], list[int]]
"""The ids of a sentence, and those of its best translation."""

# Batches whose sentences are sorted by length together.
_POOL = 16
# The most sentences that a picture shows.
_DRAWN = 8


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, one after the other.

    Raises:
        DataError: the file cannot be read, or a line is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            yield from _decoded(file, str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def lines_of_standard_input() -> Iterator[str]:
    """The lines of standard input, as they come.

    Raises:
        DataError: a line is not UTF-8.
    """
    return _decoded(sys.stdin.buffer, "standard input")


def _decoded(file: BinaryIO, name: str) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}, line {number}: 0x{line[error.start]:02x} is not UTF-8; convert it first"
            ) from error
        yield text.strip()


def batches_of(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    """Consecutive lines, ``size`` at a time."""
    remaining = iter(lines)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


def print_translations(
    run: Run,
    model: Translator,
    lines: Sequence[str] | Iterator[str],
    settings: DecodingConfig,
    n_best: int | None = None,
    at_once: bool = False,
) -> list[Translated]:
    """Translate lines to stdout; warnings, and progress if there are many, go to stderr.

    Args:
        run, model: as `Run.load` gives them.
        lines: all of them, or an iterator that brings them as they come.
        settings: how to translate.
        n_best: print so many translations of each line, as ``line number<TAB>score<TAB>translation``; None prints the
            best as it stands.
        at_once: print each translation as soon as its line has come.

    Returns:
        The first few sentences, for `draw_attention`.
    """
    if at_once:
        return _print_translations(run, model, batches_of(lines, 1), settings, n_best, None)
    if not isinstance(lines, Sequence):
        with SentenceProgress(None) as progress:
            batches = batches_of(lines, settings.batch_size)
            return _print_translations(run, model, batches, settings, n_best, progress.advance)
    batches = batches_of(lines, _POOL * settings.batch_size)
    if len(lines) <= settings.batch_size:
        return _print_translations(run, model, batches, settings, n_best, None)
    with SentenceProgress(sum(map(bool, lines))) as progress:
        return _print_translations(run, model, batches, settings, n_best, progress.advance)


def _print_translations(
    run: Run,
    model: Translator,
    batches: Iterable[Sequence[str]],
    settings: DecodingConfig,
    n_best: int | None,
    tell: Told | None,
) -> list[Translated]:
    numbers = itertools.count(1)
    first: list[Translated] = []
    for lines in batches:
        sentences = [run.source.encode(line) for line in lines]
        refuse_too_long(run.config.model, sentences)
        for line, sentence in zip(lines, sentences, strict=True):
            if UNKNOWN in sentence:
                print(f"warning: unknown to the model in {line!r}: {_unknown(run.source, line)}", file=sys.stderr)
        if n_best is None:
            best = translate(model, sentences, settings, tell)
            for translation in best:
                print(run.target.decode(translation))
        else:
            found = search(model, sentences, settings, n_best, tell)
            best = [list(hypotheses[0].tokens) if hypotheses else [] for hypotheses in found]
            for hypotheses, number in zip(found, numbers, strict=False):
                for hypothesis in hypotheses:
                    print(number, f"{hypothesis.score:.4f}", run.target.decode(hypothesis.tokens), sep="\t")
        sys.stdout.flush()
        first += [pair for pair in zip(sentences, best, strict=True) if pair[0]][: _DRAWN - len(first)]
    return first


def draw_attention(run: Run, model: Translator, translated: Sequence[Translated], path: Path) -> str:
    """A picture of the attention with which the model wrote these translations.

    Args:
        run, model: as `Run.load` gives them.
        translated: at least one.
        path: of the PNG file.

    Returns:
        What the reader should know about the picture; empty if nothing.

    Raises:
        DataError: there is nothing to draw: no sentence, or a model without attention.
    """
    from ..evaluation.plots import plot_attention

    if not translated:
        raise DataError(f"nothing to draw in {path}: no sentence was translated")
    alignments = [align(model, run.source, run.target, *pair) for pair in translated]
    if not alignments[0].weights:
        raise DataError(f"nothing to draw in {path}: the model {run.config.model.name} has no attention")
    return plot_attention(alignments, path)


def _unknown(tokenizer: Tokenizer, line: str) -> str:
    """The words or characters of a line that the tokenizer does not know."""
    pieces = line if tokenizer.name == "characters" else line.split()
    return " ".join(dict.fromkeys(piece for piece in pieces if UNKNOWN in tokenizer.encode(piece)))
