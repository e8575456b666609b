"""Checks that the gradient of every parameter is the sum of what its uses contributed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..record.parameters import share_of, sum_of_uses
from ..record.schema import Identity
from ..record.uses import ParameterUses
from .equations import equation

__all__ = ["find_use_identities"]

_TOLERANCE = 1e-12
_LATEX = r"\bar W = \textstyle\sum_n \bar y_n x_n^\top \quad \text{(over all uses } y_n = W x_n \text{)}"


def find_use_identities(parameters: Sequence[ParameterUses]) -> list[Identity]:
    """One identity for every parameter with a gradient; none of those that are not finite."""
    return [
        equation(parameter.name, "uses_sum_to_gradient", _LATEX, worst, _TOLERANCE)
        for parameter in parameters
        if (worst := _worst(parameter)) is not None
    ]


def _worst(parameter: ParameterUses) -> float | None:
    """The largest difference in proportion to the terms; None if there is nothing to compare."""
    gradient = parameter.leaf.gradient
    if gradient is None or not gradient.any() or not np.isfinite(gradient).all():
        return None
    summed = sum_of_uses(parameter)
    if summed is None:  # an op that adds no products of vectors: what it sent, along the gradient
        shares = [share_of(use, gradient) for use in parameter.uses]
        return abs(sum(shares) - 1.0) / max(1.0, sum(map(abs, shares)))
    total, terms = summed
    difference = np.abs(total - gradient.reshape(parameter.matrix))
    return float(np.max(difference)) / float(np.max(terms))
