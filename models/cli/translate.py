"""Translate texts, a file's lines, or standard input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ..console.errors import USER_ERROR, CommandError
from .options import add_decoding, add_run, decoding, path_name, picture_name, positive, warn_of_unknown

if TYPE_CHECKING:
    from ..decoding.alignment import Alignment
    from ..trained import TrainedModel

NEEDS = ("rich", "safetensors")
ON_RANKS = True

# The number of batches whose sentences are sorted by length together.
_POOL = 16
# The largest number of sentences in the picture.
_DRAWN = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    add_run(parser)
    parser.add_argument(
        "texts", metavar="TEXT", nargs="*", default=[], help="a text (default: each line of standard input)"
    )
    parser.add_argument("--file", metavar="FILE", type=path_name, help="translate each line of a file")
    add_decoding(parser)
    parser.add_argument(
        "--n-best", metavar="N", type=positive, help="print N translations a line: its number, score, translation"
    )
    parser.add_argument(
        "--alignments",
        metavar="FILE",
        type=path_name,
        help="write symbols, alignment and attention weights of every translation, as JSON lines",
    )
    parser.add_argument(
        "--attention",
        metavar="FILE",
        type=picture_name,
        help="draw the attention weights of the first few sentences; the ending says the format: PNG, SVG, PDF, JPG",
    )


def run(arguments: argparse.Namespace) -> int:
    """Translate; lines that are too long are named on stderr and have an empty translation."""
    if arguments.texts and arguments.file:
        raise CommandError("give texts or --file, not both")
    if arguments.alignments and arguments.n_best:
        raise CommandError("--alignments is of the best translation of each line; leave out --n-best")
    if arguments.beam and (arguments.n_best or 1) > arguments.beam:
        raise CommandError(f"--n-best {arguments.n_best} needs a beam at least as wide; raise --beam {arguments.beam}")
    from ..trained import TrainedModel

    model = TrainedModel.load(arguments.run)
    texts = _Texts(arguments, arguments.batch_size or model.config.decoding.batch_size)
    first, failed = _print_translations(arguments, model, texts)
    if arguments.attention:
        _draw_attention(arguments, model, first)
    return USER_ERROR if failed else 0


class _Texts:
    """The texts to translate, in batches.

    Attributes:
        batches: of lines.
        total: the number of lines, None if it is not known; 0 if there are too few for a display of progress.
        name: what messages call a line, before its number.
    """

    def __init__(self, arguments: argparse.Namespace, size: int) -> None:
        from ..data.lines import STANDARD_INPUT, batched, batched_as_they_come, file_lines, standard_input_lines
        from ..parallel.launcher import is_open_mpi
        from ..parallel.ranks import current

        self.batches: Iterable[Sequence[str]]
        self.total: int | None = None
        if arguments.texts or arguments.file:
            lines = arguments.texts or current().of_first(lambda: list(file_lines(Path(arguments.file))))
            self.total = sum(map(bool, lines)) if len(lines) > size else 0
            self.batches = batched(lines, _POOL * size)
            self.name = f"{arguments.file}, line" if arguments.file else "text"
        else:
            if is_open_mpi():
                raise CommandError(
                    "Open MPI's mpirun does not tell a process that standard input has ended; give the sentences with "
                    "--file FILE"
                )
            if sys.stdin.isatty():
                self.total = 0
            self.batches = current().shared(batched_as_they_come(standard_input_lines(), size))
            self.name = f"{STANDARD_INPUT}, line"


def _print_translations(arguments: argparse.Namespace, model: TrainedModel, texts: _Texts) -> tuple[list[str], int]:
    """Translate batches of lines to stdout; warnings, and progress if there are many lines, go to stderr.

    Returns:
        The first few lines that are not empty, and the number of lines that are too long.
    """
    from ..console.json_lines import json_lines
    from ..console.sentences import SentenceProgress
    from ..parallel.ranks import current

    alignments = arguments.alignments if current().first else None
    first: list[str] = []
    number, failed = 0, 0
    showing = nullcontext() if texts.total == 0 else SentenceProgress(texts.total)
    with showing as progress, json_lines(alignments) as write:
        options = {**decoding(arguments), "on_batch": progress.advance if progress else None}
        for batch in texts.batches:
            lines = list(batch)
            for position, line in enumerate(lines):
                if problem := model.too_long(line):
                    print(f"error: {texts.name} {number + position + 1} {problem}", file=sys.stderr)
                    lines[position] = ""
                    failed += 1
                elif not arguments.quiet:
                    warn_of_unknown(arguments, line, model.unknown(line))
            if arguments.alignments:
                for position, (text, alignment) in enumerate(model.translate_aligned(lines, **options)):
                    print(text)
                    if alignment is not None:
                        _refuse_without_attention(model, alignment, "write to", arguments.alignments)
                        write({"line": number + position + 1, "translation": text, **alignment.to_dict()})
            elif arguments.n_best is None:
                print(*model.translate(lines, **options), sep="\n")
            else:
                for position, scored in enumerate(model.translate(lines, n_best=arguments.n_best, **options)):
                    for text, score in scored:
                        print(number + position + 1, f"{score:.4f}", text, sep="\t")
            number += len(lines)
            sys.stdout.flush()
            first += [line for line in lines if line][: _DRAWN - len(first)]
    return first, failed


def _refuse_without_attention(model: TrainedModel, alignment: Alignment, purpose: str, path: str | Path) -> None:
    if not alignment.weights:
        raise CommandError(f"nothing to {purpose} {path}: the model {model.config.model.name} has no attention")


def _draw_attention(arguments: argparse.Namespace, model: TrainedModel, texts: Sequence[str]) -> None:
    """Draw the attention weights of the translations of these texts."""
    from ..evaluation.plots import plot_attention

    path = Path(arguments.attention)
    if not texts:
        raise CommandError(f"nothing to draw in {path}: no sentence was translated")
    options = decoding(arguments)
    options["beam"] = model.decoding(**options, n_best=arguments.n_best).beam
    alignments = [model.align(text, **options) for text in texts]
    _refuse_without_attention(model, alignments[0], "draw in", path)
    notice = plot_attention(alignments, path)
    if notice and not arguments.quiet:
        print(f"note: {notice}", file=sys.stderr)
