"""Figures of an experiment: a panel for each quantity, the mean of the seeds, and a band or bar for their spread.

SVG in two languages, light and dark.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ...evaluation.fonts import find_fonts
from ...evaluation.plots import drawn_with
from .experiment import Curve, Number, Words
from .results import Results, Spread

__all__ = ["THEMES", "draw", "figure_name"]


@dataclass(frozen=True)
class Theme:
    """Colours of a picture."""

    paper: str
    ink: str
    line: str
    cases: tuple[str, ...]
    """One after the other, told apart with colour-blind eyes too; markers differ besides."""


THEMES = {
    "light": Theme(
        "#ffffff", "#16181d", "#dedbd2",
        ("#00695c", "#b3541e", "#2f5d8a", "#8e2f6f", "#6f6a00", "#c0392b", "#5b616b", "#3f8f3a", "#7a4fbf"),
    ),
    "dark": Theme(
        "#1a1d22", "#ecebe6", "#343941",
        ("#5fd0bd", "#f2a269", "#8fbdf0", "#ef9fd0", "#d9d26a", "#ff9a92", "#a3aab5", "#8fdc8a", "#c4a8ff"),
    ),
}  # fmt: skip
"""By name; the colours are those of the microscope's page."""

_MARKERS = "osD^vPX*<"
_PANEL, _HEIGHT, _ROW = 4.6, 3.5, 0.3  # inches
_WIDEST = 2  # panels beside each other


def figure_name(language: str, theme: str) -> str:
    """The file of a figure."""
    return f"figure-{language}-{theme}.svg"


def draw(results: Results, language: str, theme: str) -> str:
    """The figure as an SVG text; the same results give the same bytes."""
    experiment, colours = results.experiment, THEMES[theme]
    panels = {
        key: quantity
        for key, quantity in experiment.quantities.items()
        if isinstance(quantity, Curve) or quantity.drawn
    }
    cases = {case: _in(words, language) for case, words in experiment.cases.items()}
    shown = "".join([*cases.values(), *(_in(quantity.words, language) for quantity in panels.values())])
    shown += "".join(_in(quantity.over, language) for quantity in panels.values() if isinstance(quantity, Curve))
    fonts, _ = find_fonts(shown)
    columns = min(_WIDEST, len(panels))
    rows = -(-len(panels) // columns)
    height = max(_HEIGHT, 1.0 + _ROW * len(cases))
    with drawn_with(fonts), matplotlib.rc_context({"svg.hashsalt": results.name}):
        figure = Figure(figsize=(columns * _PANEL, rows * height), layout="constrained", facecolor=colours.paper)
        for number, (key, quantity) in enumerate(panels.items()):
            axes = figure.add_subplot(rows, columns, number + 1)
            _dress(axes, colours)
            if isinstance(quantity, Curve):
                _draw_curves(axes, results, key, quantity, cases, colours, language)
            else:
                _draw_numbers(axes, results, key, quantity, cases, colours, language)
        return _written(figure)


def _in(words: Words, language: str) -> str:
    text: str = getattr(words, language)
    return text


def _draw_curves(
    axes: Axes, results: Results, key: str, quantity: Curve, cases: Mapping[str, str], colours: Theme, language: str
) -> None:
    """A line for each case, with a band from the least to the largest of the seeds."""
    for (case, name), colour, marker in zip(cases.items(), colours.cases * 9, _MARKERS * 9, strict=False):
        curve = {x: spread for x, spread in results.curve(case, key).items() if _drawable(spread, quantity.log)}
        if not curve:
            continue
        every = max(1, len(curve) // 12)
        axes.plot(
            list(curve), [spread.mean for spread in curve.values()], color=colour, marker=marker, markersize=4,
            markevery=every, linewidth=1.5, label=name,
        )  # fmt: skip
        least = [spread.least for spread in curve.values()]
        most = [spread.most for spread in curve.values()]
        axes.fill_between(list(curve), least, most, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlabel(_in(quantity.over, language))
    axes.set_ylabel(_in(quantity.words, language))
    if quantity.log and axes.lines:
        axes.set_yscale("log")
        _label_powers(axes.yaxis, axes.get_ylim())
    if quantity.log_over and axes.lines:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(_plainly)
    if axes.lines:
        axes.legend(fontsize=8, facecolor=colours.paper, edgecolor=colours.line, labelcolor=colours.ink)


def _draw_numbers(
    axes: Axes, results: Results, key: str, quantity: Number, cases: Mapping[str, str], colours: Theme, language: str
) -> None:
    """A dot for each case, with a bar from the least to the largest of the seeds."""
    for row, ((case, _), colour, marker) in enumerate(
        zip(cases.items(), colours.cases * 9, _MARKERS * 9, strict=False)
    ):
        spread = results.number(case, key)
        if _drawable(spread, quantity.log):
            reach = [[max(0.0, spread.mean - spread.least)], [max(0.0, spread.most - spread.mean)]]
            axes.errorbar(spread.mean, row, xerr=reach, color=colour, marker=marker, markersize=6, capsize=3)
    axes.set_yticks(range(len(cases)), list(cases.values()))
    axes.set_ylim(len(cases) - 0.5, -0.5)
    axes.set_xlabel(_in(quantity.words, language))
    if quantity.log and axes.lines:
        axes.set_xscale("log")
        _label_powers(axes.xaxis, axes.get_xlim())


def _label_powers(axis: Axis, limits: tuple[float, float]) -> None:
    """Label the powers of ten, and where there are few of them what lies between."""
    axis.set_major_formatter(_plainly)
    axis.set_minor_formatter(_plainly if limits[1] < 10.0 * limits[0] else NullFormatter())
    axis.set_tick_params(which="minor", labelsize=7, labelcolor=axis.label.get_color(), color=axis.label.get_color())


def _plainly(value: float, position: float | None) -> str:
    """The label of a tick; matplotlib's own powers are formulas, which pictures here do not have."""
    return f"{value:g}"


def _drawable(spread: Spread, log: bool) -> bool:
    values = spread.values
    return bool(values) and all(math.isfinite(value) and (not log or value > 0.0) for value in values)


def _dress(axes: Axes, colours: Theme) -> None:
    axes.set_facecolor(colours.paper)
    axes.grid(color=colours.line, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=colours.ink, labelsize=8.5)
    axes.spines[:].set_color(colours.line)
    axes.xaxis.label.set_color(colours.ink)
    axes.yaxis.label.set_color(colours.ink)


def _written(figure: Any) -> str:
    FigureCanvasSVG(figure)
    text = io.StringIO()
    figure.savefig(text, format="svg", facecolor=figure.get_facecolor(), metadata={"Date": None})
    return text.getvalue()
