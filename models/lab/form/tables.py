"""The table of an experiment: a row for each case, and mean and spread of each quantity."""

from __future__ import annotations

from .experiment import Curve
from .results import Results

__all__ = ["headers", "rows"]


def headers(results: Results, language: str) -> list[str]:
    """The columns: the case, each number, and of each curve some points."""
    found = [""]
    for key, quantity in results.experiment.quantities.items():
        name = getattr(quantity.words, language)
        if isinstance(quantity, Curve):
            over = getattr(quantity.over, language)
            found += [f"{name}, {over} {x:g}" for x in _shown(results, key, quantity)]
        else:
            found.append(name)
    return found


def rows(results: Results, language: str) -> list[list[str]]:
    """A row for each case: its name, and the numbers as text."""
    table = []
    for case, words in results.experiment.cases.items():
        cells = [getattr(words, language)]
        for key, quantity in results.experiment.quantities.items():
            if isinstance(quantity, Curve):
                curve = results.curve(case, key)
                points = [curve.get(x) for x in _shown(results, key, quantity)]
                cells += ["–" if point is None else point.text(quantity.format) for point in points]
            else:
                cells.append(results.number(case, key).text(quantity.format))
        table.append(cells)
    return table


def _shown(results: Results, key: str, quantity: Curve) -> list[float]:
    """Some of all points of the curves, evenly, the first and the last among them."""
    points = sorted({x for case in results.experiment.cases for x in results.curve(case, key)})
    count = min(quantity.shown, len(points))
    if count < 2:
        return points[:count]
    return [points[round(i * (len(points) - 1) / (count - 1))] for i in range(count)]
