"""The output of training a translator: its headline, example translations, plots, a closing message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..console.counts import clock
from ..console.program import command_line
from ..data import Task, Tokenizer
from ..data.corpus import Pair
from ..decoding.alignment import align
from ..decoding.translate import translate
from ..evaluation.metrics import Figures, exact_match
from ..interface import Translator
from ..runs.folder import Run
from .advice import Advice
from .goal import closing

__all__ = ["choose_examples", "closing_message", "draw", "headline", "show_translations"]

_EXAMPLES = 4
# Longer sentences make a heatmap too small to read.
_LONGEST = 40


def choose_examples(pairs: Sequence[Pair], source: Tokenizer, seed: int) -> list[Pair]:
    """A few pairs drawn at random, short ones if there are any."""
    short = [pair for pair in pairs if len(source.encode(pair[0])) <= _LONGEST] or list(pairs)
    chosen = np.random.default_rng(seed).choice(len(short), size=min(_EXAMPLES, len(short)), replace=False)
    return [short[i] for i in sorted(chosen.tolist())]


def headline(data: Task, row: Mapping[str, Any]) -> str:
    """How good the model is, from a line of ``log.csv``: exact match, and for a text BLEU before it."""
    exact = f"exact match {100 * row['valid_exact_match']:.2f} %"
    return f"BLEU {row['valid_bleu']:.2f}, {exact}" if data.headline == "bleu" else exact


def show_translations(run: Run, model: Translator, examples: Sequence[Pair]) -> str:
    """A line for each example: source, translation, and the reference if it differs."""
    lines = []
    translations = translate(model, [run.source.encode(source) for source, _ in examples], run.config.decoding)
    for (source, target), translation in zip(examples, translations, strict=True):
        right = exact_match([translation], [run.target.encode(target)])
        lines.append(f"    {source} → {run.target.decode(translation)} {'✓' if right else f'✗ ({target})'}")
    return "\n".join(lines)


def draw(run: Run, model: Translator, history: Sequence[Mapping[str, Any]], examples: Sequence[Pair]) -> str:
    """Draw ``learning_curve.png``, and ``attention.png`` if the model has attention on the source.

    Returns:
        A message about characters that could not be drawn; empty if there are none.
    """
    from ..evaluation.plots import plot_attention, plot_learning_curve

    plot_learning_curve(history, run.to_write("learning_curve.png"), run.config.pairs.headline)
    sources = [run.source.encode(source) for source, _ in examples]
    model.eval()
    alignments = [
        align(model, run.source, run.target, source, translation)
        for source, translation in zip(sources, translate(model, sources, run.config.decoding), strict=True)
    ]
    has_attention = any(alignment.weights for alignment in alignments)
    return plot_attention(alignments, run.to_write("attention.png")) if has_attention else ""


def closing_message(run: Run, figures: Figures, seconds: float, examples: Sequence[Pair], advice: Advice) -> str:
    """The test results, the files of the run, and commands to try next."""
    pictures = ", ".join(sorted(path.name for path in run.directory.glob("*.png")))
    example = examples[0][0]
    separator = ["--"] if example.startswith("-") else []
    exact = f"{100 * figures.exact_match:.2f} %"
    accuracy = f"token accuracy {100 * figures.teacher_forced.accuracy:.2f} %"
    tested = f"{figures.pairs:,} unseen test pairs"
    if run.config.pairs.headline == "bleu":
        result = f"BLEU: {figures.bleu:.2f} on {tested} (exact match {exact}, {accuracy})"
        look = command_line("evaluate", run.directory)
    else:
        result = f"Exact match: {exact} of {tested} ({accuracy})"
        look = command_line("gradcheck", "softmax", "tanh", "matmul")
    changed = ("--config", str(run.directory / "config.toml"), "--set", *advice.setting.split())
    found = [
        f"{result}, after {clock(seconds)} of training.",
        f"In {run.directory}: {pictures}, log.csv, best.safetensors",
    ]
    return closing(
        found,
        [
            f"    {command_line('translate', run.directory, *separator, example)}",
            f"    {look}",
            advice.reason,
            f"    {command_line('train', *(advice.options or changed))}",
        ],
    )
