"""Plots of runs: learning curves, BLEU by source length, and attention weights as heatmaps."""

from __future__ import annotations

import itertools
import math
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from tinygrad_attn.atomic import atomic_path
from tinygrad_attn.contexts import context, undone_by

from ..console.working import working
from ..data.words import JOINER
from ..decoding.alignment import Alignment
from ..parallel.ranks import current
from .fonts import find_fonts, font_advice
from .report import Evaluation

__all__ = ["drawn_with", "plot_attention", "plot_bleu_by_length", "plot_comparison", "plot_learning_curve"]

# The largest size of a picture: a larger grid of layers and heads is drawn at a lower resolution.
_MOST_PIXELS, _LONGEST_SIDE = 40e6, 60_000
# In inches: the width of a picture of several sentences, the largest side of one map, and the space around it.
_PAGE, _WIDEST, _MARGIN = 14.0, 40.0, 1.5
# The most target symbols below each other.
_MOST_ROWS = 40
_LONGEST_LABEL = 24
# The height of a label in inches, for each point of its font's size.
_LINE = 1.1 / 72
_MARKERS = ("o-", "s-", "^-", "D-", "v-", "P-", "X-")


def plot_attention(alignments: Sequence[Alignment], path: str | os.PathLike[str]) -> str:
    """Heatmaps of how much each target symbol (a row) attended to each source symbol (a column).

    A sentence of a model with one attention layer and one head is one map, or, if it is long, several beside each
    other; otherwise it is a grid of them, with a row for each layer and a column for each head. Where symbols are too
    many to name them all, some are named.

    Args:
        alignments: at least one, each with weights.
        path: of the picture; its ending says the format (PNG without one).

    Returns:
        A message about characters that no font has (drawn as code points) and the font to install; empty if there are
        none.
    """
    symbols = [symbol for alignment in alignments for symbol in (*alignment.source, *alignment.target)]
    fonts, missing = find_fonts("".join(map(_visible, symbols)))
    grids = [_Grid(alignment) for alignment in alignments]
    single = all(grid.layers == grid.heads == 1 for grid in grids)
    panels = [panel for grid in grids for panel in (grid.panels(_MOST_ROWS) if single else [grid])]
    largest = max(panel.map.shape[1] for panel in panels), max(panel.map.shape[0] for panel in panels)
    cell = min(0.24 if single else 0.14, _WIDEST / max(largest))  # inches
    across = _MARGIN + cell * largest[0]
    columns = max(1, min(len(panels), int(_PAGE / across))) if single else 1
    rows = -(-len(panels) // columns)
    heights = [
        _MARGIN + cell * max(panel.map.shape[0] for panel in panels[i : i + columns])
        for i in range(0, len(panels), columns)
    ]
    with drawn_with(fonts):
        figure = Figure(figsize=(columns * across, sum(heights)), layout="constrained")
        cells = figure.add_gridspec(rows, columns, height_ratios=heights)
        for position, panel in enumerate(panels):
            axes = figure.add_subplot(cells[divmod(position, columns)])
            image = panel.draw(axes, missing, fontsize=10.0 if single else 6.5, cell=cell)
        figure.colorbar(image, ax=figure.axes, label="attention weight", shrink=0.6)
        _save(figure, path)
    return font_advice(missing)


class _Grid:
    """The maps (T, S) of every layer and head of one sentence, laid out as one, with a gap between them."""

    def __init__(self, alignment: Alignment, rows: slice = slice(None)) -> None:
        self.alignment = alignment
        self.source, self.target = list(alignment.source), list(alignment.target)[rows]
        by_layer = [weights[:, rows] for weights in alignment.weights.values()]
        self.layers, self.heads = len(by_layer), max(len(weights) for weights in by_layer)
        self.height, self.width = len(self.target) + 1, len(self.source) + 1  # with the gap
        self.map = np.full((self.layers * self.height - 1, self.heads * self.width - 1), np.nan)
        for layer, weights in enumerate(by_layer):
            for head, weight in enumerate(weights):
                top, left = layer * self.height, head * self.width
                self.map[top : top + self.height - 1, left : left + self.width - 1] = weight

    def panels(self, most: int) -> list[_Grid]:
        """The same maps with ``most`` rows each, as even as may be."""
        count = -(-len(self.target) // most)
        size = -(-len(self.target) // count)
        return [_Grid(self.alignment, slice(first, first + size)) for first in range(0, len(self.target), size)]

    def draw(self, axes: Axes, missing: str, fontsize: float, cell: float) -> AxesImage:
        """Draw it, with the source's symbols above each column of maps, and the target's beside each row.

        Args:
            axes: to draw into.
            missing: characters that no font has.
            fontsize: of the labels, in points.
            cell: the size of a cell of the maps, in inches.
        """
        source = [_label(symbol, missing) for symbol in self.source]
        target = [_label(symbol, missing) for symbol in self.target]
        image = axes.imshow(self.map, cmap="cividis", vmin=0.0, vmax=1.0, aspect="equal", interpolation="nearest")
        lefts = [head * self.width for head in range(self.heads)]
        tops = [layer * self.height for layer in range(self.layers)]
        named = max(1, math.ceil(fontsize * _LINE / cell))  # every symbol, or every so many
        axes.set_xticks(
            [left + i for left in lefts for i in range(0, len(source), named)], source[::named] * self.heads
        )
        axes.set_yticks([top + i for top in tops for i in range(0, len(target), named)], target[::named] * self.layers)
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
    """The label of a symbol; a character that no font has is written as its code point, and a long one is cut."""
    label = "".join(_code_point(char) if char in missing else char for char in _visible(symbol))
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _visible(symbol: str) -> str:
    """A symbol with spaces, joiners, control characters and lone marks replaced by visible characters."""
    lone = "◌" if symbol and unicodedata.combining(symbol[0]) else ""
    return lone + _printable(symbol).replace(" ", "␣").replace(JOINER, "▪")


def _printable(text: str) -> str:
    """A text with the code points of control characters, and of blanks other than the space."""
    return "".join(char if char.isprintable() else _code_point(char) for char in text)


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X}"


@context
def drawn_with(fonts: Sequence[str] = ("DejaVu Sans",)) -> Iterator[None]:
    """How all pictures are drawn: a dollar sign begins no formula, and equal data give equal bytes."""
    style = {
        "font.family": list(fonts),
        "axes.unicode_minus": False,
        "text.parse_math": False,
        "text.usetex": False,
        "svg.hashsalt": "tinygrad_attn",
    }
    before = {name: matplotlib.rcParams[name] for name in style}
    with undone_by(lambda: matplotlib.rcParams.update(before)):
        matplotlib.rcParams.update(style)
        yield


def _legend(axes: Axes, names: Iterable[str], missing: str) -> None:
    """A legend with the name of each line, in order; matplotlib itself leaves out names that begin with ``_``."""
    lines = axes.get_lines()
    legend = axes.legend(lines, [str(number) for number in range(len(lines))])
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text("".join(_code_point(char) if char in missing else char for char in _printable(name)))


def plot_learning_curve(
    history: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], headline: str = "exact_match"
) -> None:
    """Loss, and accuracy and exact match or BLEU, by epoch.

    Args:
        history: the lines of ``log.csv``.
        path: of the picture; its ending says the format.
        headline: ``"exact_match"`` or ``"bleu"``, see `models.data.Task`; another for neither.
    """
    with drawn_with():
        _draw_learning_curve(history, path, headline)


def _draw_learning_curve(history: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], headline: str) -> None:
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, shares = figure.subplots(1, 2)
    loss.plot(epochs, [row["train_loss"] for row in history], "o--", label="training")
    loss.plot(epochs, [row["valid_loss"] for row in history], "s-", label="validation")
    loss.set(xlabel="epoch", ylabel="cross entropy, nats per token", ylim=(0, None))
    thirds = {
        "bleu": [("valid_bleu", "^-", "BLEU, validation", 1)],
        "exact_match": [("valid_exact_match", "^-", "exact match, validation", 100)],
    }
    for key, marker, label, scale in (
        ("train_accuracy", "o--", "token accuracy, training", 100),
        ("valid_accuracy", "s-", "token accuracy, validation", 100),
        *thirds.get(headline, []),
    ):
        shares.plot(epochs, [scale * row.get(key, math.nan) for row in history], marker, label=label)
    shares.set(xlabel="epoch", ylabel="%, or BLEU" if headline == "bleu" else "%", ylim=(0, 102))
    for axes in (loss, shares):
        axes.set_xticks(_ticks(epochs))
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def plot_bleu_by_length(evaluations: Mapping[str, Evaluation], path: str | os.PathLike[str]) -> None:
    """BLEU by source length.

    Args:
        evaluations: by their names in the legend.
        path: of the picture; its ending says the format.
    """
    fonts, missing = find_fonts("".join(map(_printable, evaluations)))
    with drawn_with(fonts):
        figure = Figure(figsize=(7, 4), layout="constrained")
        _draw_bleu_by_length(figure.add_subplot(), evaluations, missing)
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
        path: of the picture; its ending says the format.
    """
    fonts, missing = find_fonts("".join(map(_printable, evaluations)))
    with drawn_with(fonts):
        figure = Figure(figsize=(12, 4.5), layout="constrained")
        curves, lengths = figure.subplots(1, 2)
        for history, marker in zip(histories.values(), itertools.cycle(_MARKERS)):
            curves.plot([row["epoch"] for row in history], [row["valid_loss"] for row in history], marker)
        curves.set(xlabel="epoch", ylabel="validation cross entropy, nats per token", ylim=(0, None))
        curves.set_xticks(_ticks(sorted({row["epoch"] for history in histories.values() for row in history})))
        curves.grid(alpha=0.3)
        if histories:
            _legend(curves, histories, missing)
        _draw_bleu_by_length(lengths, evaluations, missing)
        _save(figure, path)


def _draw_bleu_by_length(axes: Axes, evaluations: Mapping[str, Evaluation], missing: str) -> None:
    for evaluation, marker in zip(evaluations.values(), itertools.cycle(_MARKERS)):
        rows = evaluation.by_source_length
        middles = [(row.shortest + row.longest) / 2 for row in rows]
        axes.plot(middles, [row.scores.bleu for row in rows], marker)
    (split,) = {evaluation.split for evaluation in evaluations.values()}
    highest = max(row.scores.bleu for evaluation in evaluations.values() for row in evaluation.by_source_length)
    axes.set(xlabel="symbols in the source", ylabel=f"BLEU, {split}", ylim=(0, min(102.0, 1.1 * highest + 2.0)))
    axes.grid(alpha=0.3)
    _legend(axes, evaluations, missing)


def _ticks(epochs: Iterable[int]) -> list[int]:
    """At most a dozen whole epochs."""
    numbers = list(epochs)
    return numbers[:: max(1, -(-len(numbers) // 12))]


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write the picture in the format of its ending; the same figure gives the same bytes. Of several processes that
    share the work the first alone writes."""
    if not current().first:
        return
    FigureCanvasAgg(figure)
    width, height = figure.get_size_inches()
    dpi = min(120.0, math.sqrt(_MOST_PIXELS / (width * height)), _LONGEST_SIDE / max(width, height))
    kind = Path(path).suffix[1:].lower() or "png"
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with working(f"drawing {path}"), atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=undated)
