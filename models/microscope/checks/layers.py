"""Checks of the gradient through residual connections: they pass it unchanged, and its two parts come together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from ..record.layers import Array, Passed, find_passed, gradient_of
from ..record.schema import Identity
from ..record.trace import Traced
from .equations import equation

__all__ = ["find_layer_identities"]

_TOLERANCE = 1e-12


def find_layer_identities(traced: Traced) -> list[Identity]:
    """Two identities for each sublayer, of passes that are finite."""
    passed = find_passed(traced)
    return [*_unchanged(passed), *_added_up(passed)]


def _unchanged(passed: list[Passed]) -> Iterator[Identity]:
    for each in passed:
        assert each.residual is not None
        arrived = gradient_of(each.residual)
        yield from _identity(
            each,
            "skip_passes_unchanged",
            r"\frac{\partial x}{\partial x}^\top \bar y = \bar y",
            gradient_of(each.skip),
            arrived,
        )


def _added_up(passed: list[Passed]) -> Iterator[Identity]:
    """The layer below made the input, if nothing came between: its output's gradient is then this input's."""
    for below, each in itertools.pairwise(passed):
        made = below.output
        if made is not None and np.array_equal(made.source.value, each.skip.source.value):
            latex = r"\bar x = \bar y + F'(x)^\top \bar y"
            yield from _identity(each, "branches_add_up", latex, each.total, gradient_of(made))


def _identity(passed: Passed, name: str, latex: str, found: Array, expected: Array) -> Iterator[Identity]:
    if not np.isfinite(found).all() or not np.isfinite(expected).all():
        return
    size = max(float(np.abs(expected).max(initial=0.0)), 1e-290)
    worst = float(np.abs(found - expected).max(initial=0.0)) / size
    place = f"{passed.branch.module} {passed.branch.details.get('sublayer', '')}"
    yield equation(place, name, latex, worst, _TOLERANCE)
