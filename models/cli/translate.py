"""Translate texts, a file's lines, or standard input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console.errors import CommandError
from ..console.sentences import SentenceProgress
from .options import add_decoding, add_run, path_name, positive

if TYPE_CHECKING:
    from ..trained import TrainedModel

NEEDS = ("rich", "safetensors")

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
        "--attention",
        metavar="FILE",
        type=path_name,
        help="draw the attention weights of the first few sentences, as PNG",
    )


def run(arguments: argparse.Namespace) -> int:
    """See `parser.Command`."""
    if arguments.texts and arguments.file:
        raise CommandError("give texts or --file, not both")
    if arguments.beam and (arguments.n_best or 1) > arguments.beam:
        raise CommandError(f"--n-best {arguments.n_best} needs a beam at least as wide; raise --beam {arguments.beam}")
    from ..data.lines import batched, file_lines, standard_input_lines
    from ..trained import TrainedModel

    model = TrainedModel.load(arguments.run)
    size = model.config.decoding.batch_size
    if arguments.texts or arguments.file:
        lines = arguments.texts or list(file_lines(Path(arguments.file)))
        total = sum(map(bool, lines)) if len(lines) > size else 0
        first = _print_translations(arguments, model, batched(lines, _POOL * size), total)
    elif sys.stdin.isatty():  # a user who types expects an answer after each line
        first = _print_translations(arguments, model, batched(standard_input_lines(), 1), 0)
    else:
        first = _print_translations(arguments, model, batched(standard_input_lines(), size), None)
    if arguments.attention:
        _draw_attention(arguments, model, first)
    return 0


def _print_translations(
    arguments: argparse.Namespace, model: TrainedModel, batches: Iterable[Sequence[str]], total: int | None
) -> list[str]:
    """Translate batches of lines to stdout; warnings, and progress if there are many lines, go to stderr.

    Args:
        total: the number of lines, None if it is not known; for 0 no progress is shown.

    Returns:
        The first few lines that are not empty.
    """
    first: list[str] = []
    number = 0
    with nullcontext() if total == 0 else SentenceProgress(total) as progress:
        options = {**_decoding(arguments), "on_batch": progress.advance if progress else None}
        for lines in batches:
            for line in lines:
                if unknown := model.unknown(line):
                    print(f"warning: unknown to the model in {line!r}: {' '.join(unknown)}", file=sys.stderr)
            if arguments.n_best is None:
                print(*model.translate(lines, **options), sep="\n")
            else:
                found = model.translate(lines, n_best=arguments.n_best, **options)
                for number, scored in enumerate(found, number + 1):  # noqa: B020, counts on from batch to batch
                    for text, score in scored:
                        print(number, f"{score:.4f}", text, sep="\t")
            sys.stdout.flush()
            first += [line for line in lines if line][: _DRAWN - len(first)]
    return first


def _draw_attention(arguments: argparse.Namespace, model: TrainedModel, texts: Sequence[str]) -> None:
    """Draw the attention weights of the translations of these texts."""
    from ..evaluation.plots import plot_attention

    path = Path(arguments.attention)
    if not texts:
        raise CommandError(f"nothing to draw in {path}: no sentence was translated")
    options = _decoding(arguments)
    options["beam"] = model.decoding(**options, n_best=arguments.n_best).beam
    alignments = [model.align(text, **options) for text in texts]
    if not alignments[0].weights:
        raise CommandError(f"nothing to draw in {path}: the model {model.config.model.name} has no attention")
    notice = plot_attention(alignments, path)
    if notice:
        print(f"note: {notice}", file=sys.stderr)


def _decoding(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"beam": arguments.beam, "length_penalty": arguments.length_penalty}
