"""Checks of the averages over many sentences: computed once more from each sentence's own numbers, in other ways."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..record.schema import Identity
from ..record.sentences import Among, Followed, Side
from ..record.spread import CurveOf, numbers_of
from ..record.trace import Traced
from ..record.views import Curve, Sentences
from .equations import equation

__all__ = ["find_sentence_identities"]

Array = np.ndarray[Any, Any]

_TOLERANCE = 1e-12
_ROUNDINGS = 1e3 * float(np.finfo(np.float64).eps)
_MOST = 1e-6  # above it nothing can be said
_MEAN = r"\bar x_j = \frac{1}{T} \textstyle\sum_t \frac{\partial L_t}{\partial x_j}"
_SPREAD = r"\textstyle m = \frac{1}{n} \sum_i z_i, \quad s^2 = \frac{1}{n (n - 1)} \sum_i (z_i - m)^2"
_SHARES = r"\textstyle\sum_j \frac{z_{tj}}{\sum_k z_{tk}} = 1"
_OWN = r"z = \left\lVert \frac{\partial L_t}{\partial x_j} \right\rVert"


def find_sentence_identities(among: Among | None, shown: Sentences | None, traced: Traced) -> Iterator[Identity]:
    """The identities of the averages that are ``shown``.

    Args:
        among: what they were taken of.
        shown: what was made of it.
        traced: the pass that is shown.
    """
    if among is None or shown is None:
        return
    followed = among.followed
    yield from _token_means(followed)
    yield from _own_is_shown(among.own, traced)
    worst = 0.0
    for curve in shown["curves"]:
        key = CurveOf(curve["name"], curve["of"], curve["measure"])
        worst = max(worst, _spread_error(curve, [_numbers(each, key) for each in followed]))
    yield equation("sentences", "averages_recomputed", _SPREAD, worst, _TOLERANCE)
    yield equation("sentences", "shares_sum_to_one", _SHARES, max(map(_shares_error, followed)), _TOLERANCE)


def _token_means(followed: Sequence[Followed]) -> Iterator[Identity]:
    """The tokens' gradients, from a batch of copies, have those of the sentence's own pass as their mean."""
    # Where a model is sure of every token, its gradient begins as the difference of 1 and nearly 1.
    unsure, size = max(each.unsure for each in followed), max(each.size for each in followed)
    if size > 0.0 and unsure > _ROUNDINGS / _MOST:
        worst, tolerance = max(each.off for each in followed) / size, max(_TOLERANCE, _ROUNDINGS / unsure)
        yield equation("sentences", "tokens_mean_of_sentences", _MEAN, worst, tolerance)


def _own_is_shown(own: Followed, traced: Traced) -> Iterator[Identity]:
    """The sentence that is shown has, from its batch of copies, what single backward passes from its tokens gave."""
    embedded = traced.embedded
    if not embedded.complete(len(traced.expected)) or own.unsure <= _ROUNDINGS / _MOST:
        return
    norms = [np.linalg.norm(np.concatenate(each), axis=-1) for each in embedded.gradients]
    mine = [side.each for side in own.sides.values()]
    if not mine or np.shape(norms) != np.shape(expected := np.concatenate(mine, axis=1)):
        return  # other lookups, as of positions
    size = max(float(np.max(expected)), 1e-290)
    worst = float(np.abs(np.array(norms) - expected).max()) / size
    yield equation("sentences", "shown_among_sentences", _OWN, worst, max(1e-10, _ROUNDINGS / own.unsure))


def _numbers(each: Followed, curve: CurveOf) -> dict[int, float]:
    """A sentence's numbers of a curve, from its matrix's diagonals, which hold one distance each."""
    if curve.name == "loss":
        return {0: each.loss}
    if curve.name in ("entropy", "gradient"):
        return dict(enumerate(each.heads.get(curve.of, {}).get(curve.name, [])))
    side = each.sides.get(curve.of)
    if side is None:
        return {}
    if curve.name == "position":
        whole = math.fsum(x for other in each.sides.values() for x in other.whole)
        divisor = 1.0 if curve.measure == "norm" else whole
        return {j: float(x) / divisor for j, x in enumerate(side.whole)} if divisor else {}
    matrix = side.each
    if curve.measure == "share":
        with np.errstate(invalid="ignore"):
            matrix = matrix / np.concatenate([other.each for other in each.sides.values()], axis=1).sum(axis=1)[:, None]
    return {d: found for d, numbers in _diagonals(matrix, side) if (found := _mean(numbers)) is not None}


def _diagonals(matrix: Array, side: Side) -> Iterator[tuple[int, list[float]]]:
    nearest = int(side.distance[0, 0])
    for k in range(-len(matrix) + 1, matrix.shape[1]):
        if nearest - k >= 0:
            yield nearest - k, np.diagonal(matrix, k).tolist()


def _mean(numbers: Iterable[float]) -> float | None:
    finite = [x for x in numbers if not math.isnan(x)]
    return math.fsum(finite) / len(finite) if finite else None


def _spread_error(curve: Curve, rows: Sequence[dict[int, float]]) -> float:
    """The largest error of a curve's numbers, in proportion to the largest of its place."""
    worst = 0.0
    for k, place in enumerate(curve["places"]):
        numbers = sorted(row[place] for row in rows if place in row)
        if len(numbers) != curve["count"][k]:
            return math.inf
        mean = math.fsum(numbers) / len(numbers)
        error = None
        if len(numbers) > 1:
            error = math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1) / len(numbers))
        expected = (mean, error, *(_quantile(numbers, q) for q in (0.25, 0.5, 0.75)))
        found = (curve["mean"][k], curve["error"][k], curve["lower"][k], curve["median"][k], curve["upper"][k])
        size = max(abs(numbers[0]), abs(numbers[-1]), 1e-290)
        for one, other in zip(found, expected, strict=True):
            if (one is None) != (other is None):
                return math.inf
            if one is not None and other is not None:
                worst = max(worst, abs(one - other) / size)
    return worst


def _quantile(numbers: Sequence[float], share: float) -> float:
    """Of sorted numbers, between two by a straight line."""
    place = share * (len(numbers) - 1)
    below = int(place)
    above = min(below + 1, len(numbers) - 1)
    return numbers[below] + (place - below) * (numbers[above] - numbers[below])


def _shares_error(each: Followed) -> float:
    """How far the shares of a sentence are off 1: of all places together, and of each token over all distances."""
    if not each.sides:
        return 0.0
    numbers, tokens, places = numbers_of(each), 0.0, 0.0
    for name, side in each.sides.items():
        places += math.fsum(numbers.get(CurveOf("position", name, "share"), {}).values())
        for d, share in numbers[CurveOf("distance", name, "share")].items():
            tokens += share * int(np.sum(side.distance == d))
    count = len(next(iter(each.sides.values())).each)
    if any(side.each[side.distance < 0].any() for side in each.sides.values()) or not _all_reach(each):
        return abs(places - 1.0) if places else 0.0  # a model that looks ahead, or a token without a gradient
    return max(abs(places - 1.0), abs(tokens / count - 1.0))


def _all_reach(each: Followed) -> bool:
    """Whether every token's loss has a gradient at some symbol."""
    return bool((np.concatenate([side.each for side in each.sides.values()], axis=1).sum(axis=1) > 0.0).all())
