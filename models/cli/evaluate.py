"""Measure a translator: BLEU, chrF and more, and each by source length."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from ..console.errors import CommandError
from ..runs.bleu_tokenizers import BLEU_TOKENIZERS
from .options import add_decoding, add_files, add_run, add_split, decoding

if TYPE_CHECKING:
    from ..data import ParallelText
    from ..trained import TrainedModel

NEEDS = ("matplotlib", "rich", "sacrebleu", "safetensors")
ON_RANKS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    add_run(parser)
    add_split(parser)
    add_files(
        parser, "other sentences to measure, or the run's own if they have moved: test.L, or valid.L with --split"
    )
    add_decoding(parser)
    parser.add_argument(
        "--bleu-tokenizer",
        metavar="NAME",
        choices=BLEU_TOKENIZERS,
        help=f"the tokenizer of BLEU: {', '.join(BLEU_TOKENIZERS)} (default: the run's)",
    )
    parser.add_argument(
        "--bleu-lowercase",
        action=argparse.BooleanOptionalAction,
        help="ignore case (default: if the model was trained without case)",
    )
    parser.add_argument("--json", action="store_true", help="print the evaluation as JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    """Measure, keep the figures and the picture of BLEU by length in the run folder, and print them."""
    from ..console.sentences import SentenceProgress
    from ..demos import is_demo
    from ..evaluation.plots import plot_bleu_by_length
    from ..evaluation.report import EVALUATION, print_evaluation, refuse_language_model
    from ..trained import TrainedModel

    model, split = TrainedModel.load(arguments.run), arguments.split
    refuse_language_model(model.run)
    text = _other_text(arguments, model)
    with SentenceProgress(len(getattr(text or model.text_of(split), split))) as progress:
        evaluation = model.evaluate(
            split,
            text=text,
            bleu_tokenizer=arguments.bleu_tokenizer,
            bleu_lowercase=arguments.bleu_lowercase,
            on_batch=progress.advance,
            **decoding(arguments),
        )
    folder, picture = model.run.directory, f"bleu_by_length_{evaluation.split}.png"
    # First of all: the folder may be one that cannot be written to.
    if arguments.json:
        print(json.dumps(evaluation.to_dict(), ensure_ascii=False, indent=2), flush=True)
    else:
        print_evaluation(evaluation)
    if is_demo(folder) or not model.run.writes:  # in the package nothing is written
        return 0
    evaluation.save(folder)
    plot_bleu_by_length({evaluation.model: evaluation}, folder / picture)
    if not arguments.json:
        print(f"In {folder}: {EVALUATION}, {picture}")
    return 0


def _other_text(arguments: argparse.Namespace, model: TrainedModel) -> ParallelText | None:
    """The text that --data names; None if it is the run's own."""
    from ..data import read_parallel_text

    if arguments.data is None:
        if arguments.source or arguments.target:
            raise CommandError("--source and --target name files in the folder that --data names; give --data too")
        return None
    source = arguments.source or getattr(model.config.data, "source", None)
    target = arguments.target or getattr(model.config.data, "target", None)
    if not (source and target):
        raise CommandError(
            "--data needs --source and --target, the endings of the files, as in --source ko --target en"
        )
    return read_parallel_text(arguments.data, source, target, [arguments.split])
