"""The tables of an experiment: a row for each case, mean and spread; one of all numbers, and one for each curve."""

from __future__ import annotations

from typing import NamedTuple

from .experiment import Curve, Number, Words
from .results import Results

__all__ = ["Table", "tables"]


class Table(NamedTuple):
    """Cells as text."""

    title: str
    headers: list[str]
    """The first is empty: above the cases."""
    rows: list[list[str]]


_CURVE = Words("{what}, by {over}", "{what}, {over}별")


def tables(results: Results, language: str) -> list[Table]:
    """The tables in a language: a curve's columns are some of its points."""
    quantities = results.experiment.quantities
    cases = {case: getattr(words, language) for case, words in results.experiment.cases.items()}
    numbers = {key: quantity for key, quantity in quantities.items() if isinstance(quantity, Number)}
    found = []
    for key, quantity in quantities.items():
        if isinstance(quantity, Curve):
            what, over = getattr(quantity.words, language), getattr(quantity.over, language)
            curves = {case: results.curve(case, key) for case in cases}
            points = _shown(sorted({x for curve in curves.values() for x in curve}), quantity.shown)
            rows = [
                [name, *(curves[case][x].text(quantity.format) if x in curves[case] else "–" for x in points)]
                for case, name in cases.items()
            ]
            title = getattr(_CURVE, language).format(what=what, over=over)
            found.append(Table(title, ["", *(f"{x:g}" for x in points)], rows))
    if numbers:
        headers = [getattr(quantity.words, language) for quantity in numbers.values()]
        rows = [
            [name, *(results.number(case, key).text(quantity.format) for key, quantity in numbers.items())]
            for case, name in cases.items()
        ]
        found.append(Table("", ["", *headers], rows))
    return found


def _shown(points: list[float], count: int) -> list[float]:
    """So many of all points, evenly, the first and the last among them."""
    count = min(count, len(points))
    if count < 2:
        return points[:count]
    return [points[round(i * (len(points) - 1) / (count - 1))] for i in range(count)]
