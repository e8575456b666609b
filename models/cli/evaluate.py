"""Measure a run: BLEU, chrF and more, and each by source length."""

from __future__ import annotations

import argparse
import json

from ..evaluation.bleu import BLEU_TOKENIZERS
from .options import add_decoding, add_run, add_split, decoding

NEEDS = ("matplotlib", "rich", "sacrebleu", "safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    add_run(parser)
    add_split(parser)
    add_decoding(parser)
    parser.add_argument(
        "--bleu-tokenizer",
        metavar="NAME",
        choices=BLEU_TOKENIZERS,
        help=f"the tokenizer of BLEU: {', '.join(BLEU_TOKENIZERS)} (default: 13a; for generated data its symbols)",
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
    from ..evaluation.plots import plot_bleu_by_length
    from ..evaluation.report import EVALUATION, print_evaluation
    from ..trained import TrainedModel

    model, split = TrainedModel.load(arguments.run), arguments.split
    with SentenceProgress(len(getattr(model.text, split))) as progress:
        evaluation = model.evaluate(
            split,
            bleu_tokenizer=arguments.bleu_tokenizer,
            bleu_lowercase=arguments.bleu_lowercase,
            on_batch=progress.advance,
            **decoding(arguments),
        )
    folder, picture = model.run.directory, f"bleu_by_length_{split}.png"
    evaluation.save(folder)
    plot_bleu_by_length({evaluation.model: evaluation}, folder / picture)
    if arguments.json:
        print(json.dumps(evaluation.to_dict(), ensure_ascii=False, indent=2))
    else:
        print_evaluation(evaluation)
        print(f"In {folder}: {EVALUATION}, {picture}")
    return 0
