"""Plots of runs: learning curves, BLEU by source length, and attention weights as heatmaps."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from tinygrad_attn.atomic import atomic_path

from ..data.words import JOINER
from ..decoding.alignment import Alignment
from .fonts import find_fonts, font_advice
from .report import Evaluation

__all__ = ["plot_attention", "plot_bleu_by_length", "plot_comparison", "plot_learning_curve"]

# The largest size of a picture: a larger grid of layers and heads is drawn at a lower resolution.
_MOST_PIXELS = 40e6
_MARKERS = ("o-", "s-", "^-", "D-", "v-", "P-", "X-")


def plot_attention(alignments: Sequence[Alignment], path: str | os.PathLike[str]) -> str:
    """Heatmaps of how much each target symbol (a row) attended to each source symbol (a column).

    A sentence of a model with one attention layer and one head is one map; otherwise it is a grid of them, with a
    row for each layer and a column for each head.

    Args:
        alignments: at least one, each with weights.
        path: of the PNG file.

    Returns:
        A message about characters that no font has (drawn as code points) and the font to install; empty if there are
        none.
    """
    symbols = [symbol for alignment in alignments for symbol in (*alignment.source, *alignment.target)]
    fonts, missing = find_fonts("".join(map(_visible, symbols)))
    grids = [_Grid(alignment) for alignment in alignments]
    single = all(grid.layers == grid.heads == 1 for grid in grids)
    columns = min(2 if single else 1, len(grids))
    rows = -(-len(grids) // columns)
    cell = 0.24 if single else 0.14  # inches
    heights = [
        1.5 + cell * max(grid.map.shape[0] for grid in grids[i : i + columns]) for i in range(0, len(grids), columns)
    ]
    width = columns * (1.5 + cell * max(grid.map.shape[1] for grid in grids))
    with matplotlib.rc_context({"font.family": fonts, "axes.unicode_minus": False}):
        figure = Figure(figsize=(width, sum(heights)), layout="constrained")
        cells = figure.add_gridspec(rows, columns, height_ratios=heights)
        for position, grid in enumerate(grids):
            axes = figure.add_subplot(cells[divmod(position, columns)])
            image = grid.draw(axes, missing, fontsize=10.0 if single else 6.5)
        figure.colorbar(image, ax=figure.axes, label="attention weight", shrink=0.6)
        _save(figure, path)
    return font_advice(missing)


class _Grid:
    """The maps (T, S) of every layer and head of one sentence, laid out as one, with a gap between them."""

    def __init__(self, alignment: Alignment) -> None:
        self.alignment = alignment
        by_layer = list(alignment.weights.values())
        self.layers, self.heads = len(by_layer), max(len(weights) for weights in by_layer)
        self.height, self.width = len(alignment.target) + 1, len(alignment.source) + 1  # with the gap
        self.map = np.full((self.layers * self.height - 1, self.heads * self.width - 1), np.nan)
        for layer, weights in enumerate(by_layer):
            for head, weight in enumerate(weights):
                top, left = layer * self.height, head * self.width
                self.map[top : top + self.height - 1, left : left + self.width - 1] = weight

    def draw(self, axes: Axes, missing: str, fontsize: float) -> AxesImage:
        """Draw it, with the source's symbols above each column of maps, and the target's beside each row."""
        source = [_label(symbol, missing) for symbol in self.alignment.source]
        target = [_label(symbol, missing) for symbol in self.alignment.target]
        image = axes.imshow(self.map, cmap="cividis", vmin=0.0, vmax=1.0, aspect="equal", interpolation="nearest")
        lefts = [head * self.width for head in range(self.heads)]
        tops = [layer * self.height for layer in range(self.layers)]
        axes.set_xticks([left + i for left in lefts for i in range(len(source))], source * self.heads)
        axes.set_yticks([top + i for top in tops for i in range(len(target))], target * self.layers)
        axes.tick_params(axis="x", top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.tick_params(labelsize=fontsize, length=0.35 * fontsize)
        if any(len(label) > 2 for label in source):
            axes.tick_params(axis="x", labelrotation=90)
        if self.layers == self.heads == 1:
            axes.set(xlabel="source", ylabel="translation")
            return image
        axes.spines[:].set_visible(False)
        for head, left in enumerate(lefts if self.heads > 1 else ()):
            middle = left + (len(source) - 1) / 2
            axes.text(middle, len(self.map) + 0.5, f"head {head + 1}", ha="center", va="top", fontsize=9.0)
        for layer, top in enumerate(tops if self.layers > 1 else ()):
            middle = top + (len(target) - 1) / 2
            right = self.map.shape[1] + 0.5
            axes.text(right, middle, f"layer {layer + 1}", ha="left", va="center", rotation=270, fontsize=9.0)
        return image


def _label(symbol: str, missing: str) -> str:
    """The label of a symbol; a character that no font has is written as its code point."""
    shown = "".join(f"U+{ord(character):04X}" if character in missing else character for character in _visible(symbol))
    return shown.replace("$", r"\$")


def _visible(symbol: str) -> str:
    """A symbol with spaces and joiners replaced by visible characters that common fonts have."""
    return symbol.replace(" ", "␣").replace(JOINER, "▪")


def plot_learning_curve(
    history: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], headline: str = "exact_match"
) -> None:
    """Loss, and accuracy and exact match or BLEU, by epoch.

    Args:
        history: the lines of ``log.csv``.
        path: of the PNG file.
        headline: ``"exact_match"`` or ``"bleu"``, see `models.data.Task`.
    """
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, shares = figure.subplots(1, 2)
    loss.plot(epochs, [row["train_loss"] for row in history], "o--", label="training")
    loss.plot(epochs, [row["valid_loss"] for row in history], "s-", label="validation")
    loss.set(xlabel="epoch", ylabel="cross entropy, nats per token", ylim=(0, None))
    third = (
        ("valid_bleu", "^-", "BLEU, validation", 1)
        if headline == "bleu"
        else ("valid_exact_match", "^-", "exact match, validation", 100)
    )
    for key, marker, label, scale in (
        ("train_accuracy", "o--", "token accuracy, training", 100),
        ("valid_accuracy", "s-", "token accuracy, validation", 100),
        third,
    ):
        shares.plot(epochs, [scale * row.get(key, math.nan) for row in history], marker, label=label)
    shares.set(xlabel="epoch", ylabel="%" if headline == "exact_match" else "%, or BLEU", ylim=(0, 102))
    for axes in (loss, shares):
        axes.set_xticks(_ticks(epochs))
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def plot_bleu_by_length(evaluations: Mapping[str, Evaluation], path: str | os.PathLike[str]) -> None:
    """BLEU by source length.

    Args:
        evaluations: by their names in the legend.
        path: of the PNG file.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    _draw_bleu_by_length(figure.add_subplot(), evaluations)
    _save(figure, path)


def plot_comparison(
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    evaluations: Mapping[str, Evaluation],
    path: str | os.PathLike[str],
) -> None:
    """Validation loss by epoch, and BLEU by source length, of several runs.

    Args:
        histories: the lines of each run's ``log.csv``, by the run's name in the legend; runs without lines are left out
            of the curves.
        evaluations: by the same names.
        path: of the PNG file.
    """
    with matplotlib.rc_context({"font.family": find_fonts("".join(evaluations))[0]}):
        figure = Figure(figsize=(12, 4.5), layout="constrained")
        curves, lengths = figure.subplots(1, 2)
        for (name, history), marker in zip(histories.items(), itertools.cycle(_MARKERS)):
            curves.plot([row["epoch"] for row in history], [row["valid_loss"] for row in history], marker, label=name)
        curves.set(xlabel="epoch", ylabel="validation cross entropy, nats per token", ylim=(0, None))
        curves.set_xticks(_ticks(sorted({row["epoch"] for history in histories.values() for row in history})))
        curves.grid(alpha=0.3)
        if histories:
            curves.legend()
        _draw_bleu_by_length(lengths, evaluations)
        _save(figure, path)


def _draw_bleu_by_length(axes: Axes, evaluations: Mapping[str, Evaluation]) -> None:
    for (name, evaluation), marker in zip(evaluations.items(), itertools.cycle(_MARKERS)):
        rows = evaluation.by_source_length
        middles = [(row.shortest + row.longest) / 2 for row in rows]
        axes.plot(middles, [row.scores.bleu for row in rows], marker, label=name)
    (split,) = {evaluation.split for evaluation in evaluations.values()}
    highest = max(row.scores.bleu for evaluation in evaluations.values() for row in evaluation.by_source_length)
    axes.set(xlabel="symbols in the source", ylabel=f"BLEU, {split}", ylim=(0, min(102.0, 1.1 * highest + 2.0)))
    axes.grid(alpha=0.3)
    axes.legend()


def _ticks(epochs: Iterable[int]) -> list[int]:
    """At most a dozen whole epochs."""
    numbers = list(epochs)
    return numbers[:: max(1, -(-len(numbers) // 12))]


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    FigureCanvasAgg(figure)
    width, height = figure.get_size_inches()
    dpi = min(120.0, math.sqrt(_MOST_PIXELS / (width * height)))
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)
