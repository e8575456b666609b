"""The averages over many sentences, with their spread, and where the sentence that is shown stands among them.

A sentence counts once: what it has several of, as tokens at one distance, is first averaged within it. So n sentences
are n independent numbers, and their standard error is that of a mean of n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from .arrays import Store
from .sentences import Among, Followed, Side
from .views import Curve, Sentences

__all__ = ["CurveOf", "described_sentences", "numbers_of"]

Array = np.ndarray[Any, Any]


class CurveOf(NamedTuple):
    """What the numbers of a curve are: see `models.microscope.record.views.Curve`."""

    name: Literal["loss", "distance", "position", "entropy", "gradient"]
    of: str = ""
    measure: Literal["norm", "share", ""] = ""


def numbers_of(followed: Followed) -> dict[CurveOf, dict[int, float]]:
    """The numbers of one sentence, by curve and place."""
    found: dict[CurveOf, dict[int, float]] = {CurveOf("loss"): {0: followed.loss}}
    sides = followed.sides
    tokens = sum((side.each.sum(axis=1) for side in sides.values()), np.zeros(1))
    whole = sum(float(side.whole.sum()) for side in sides.values())
    for name, side in sides.items():
        found[CurveOf("distance", name, "norm")] = _by_distance(side.each, side)
        found[CurveOf("position", name, "norm")] = dict(enumerate(side.whole.tolist()))
        found[CurveOf("distance", name, "share")] = _by_distance(_parts(side.each, tokens[:, None]), side)
        if whole > 0.0:
            found[CurveOf("position", name, "share")] = dict(enumerate((side.whole / whole).tolist()))
    for site, heads in followed.heads.items():
        found[CurveOf("entropy", site)] = dict(enumerate(heads["entropy"]))
        found[CurveOf("gradient", site)] = dict(enumerate(heads["gradient"]))
    return found


def _parts(each: Array, sums: Array) -> Array:
    """Parts of sums; nan where a sum is 0."""
    return each / np.where(sums > 0.0, sums, np.nan)


def _by_distance(each: Array, side: Side) -> dict[int, float]:
    """The mean over all tokens and symbols that are so far apart."""
    seen = (side.distance >= 0) & ~np.isnan(each)
    distances = side.distance[seen]
    sums, counts = np.bincount(distances, each[seen]), np.bincount(distances)
    return {int(d): float(sums[d] / counts[d]) for d in np.flatnonzero(counts)}


def described_sentences(among: Among, store: Store) -> Sentences | None:
    """The JSON; None if no sentence is finite. Arrays go into ``store``."""
    if not among.followed:
        return None
    rows, shown = [numbers_of(each) for each in among.followed], numbers_of(among.own)
    texts = [each.example for each in among.followed]
    return {
        "count": len(texts),
        "split": among.split,
        "left_out": among.left_out,
        "texts": [(None if each.source is None else each.source["text"], each.target["text"]) for each in texts],
        "curves": [
            _curve(curve, [row.get(curve, {}) for row in rows], shown.get(curve, {}), store)
            for curve in dict.fromkeys(curve for row in rows for curve in row)
        ],
    }


def _curve(curve: CurveOf, rows: Sequence[dict[int, float]], shown: dict[int, float], store: Store) -> Curve:
    places = sorted({place for row in rows for place in row})
    values = np.array([[row.get(place, np.nan) for place in places] for row in rows])
    count = np.sum(~np.isnan(values), axis=0)
    mean = np.nanmean(values, axis=0)
    variance = np.nansum((values - mean) ** 2, axis=0) / np.where(count > 1, count - 1, np.nan)
    lower, median, upper = np.nanpercentile(values, [25, 50, 75], axis=0)
    return {
        "name": curve.name,
        "of": curve.of,
        "measure": curve.measure,
        "places": places,
        "values": store.put(f"{' '.join(filter(None, curve))} of all sentences", values, "decoder"),
        "count": count.tolist(),
        "mean": _plain(mean),
        "error": _plain(np.sqrt(variance / count)),
        "lower": _plain(lower),
        "median": _plain(median),
        "upper": _plain(upper),
        "own": [shown.get(place) for place in places],
        "below": [
            int(np.sum(values[:, k] < shown[place])) if place in shown else None for k, place in enumerate(places)
        ],
    }


def _plain(numbers: Array) -> list[float | None]:
    """Numbers as JSON has them; None for one that is not there."""
    return [None if np.isnan(x) else float(x) for x in numbers]
