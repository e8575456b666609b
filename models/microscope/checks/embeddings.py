"""Checks of the gradients of single tokens' losses: their mean is the gradient of the loss."""

from __future__ import annotations

import numpy as np

from ..record.schema import Identity
from ..record.trace import Traced
from .equations import equation

__all__ = ["find_embedding_identities"]

_TOLERANCE = 1e-10
_ROUNDINGS = 100.0  # how many times the rounding that one more pass shows may be in the sum of all tokens'
_MOST = 1e-6  # above it, as behind a saturated softmax, nothing can be said
_LATEX = r"\bar x_j = \frac{1}{T} \textstyle\sum_t \frac{\partial L_t}{\partial x_j}"


def find_embedding_identities(traced: Traced) -> list[Identity]:
    """One identity for each op that looks embeddings up; none if tokens were left out or few digits are right."""
    embedded, count = traced.embedded, len(traced.expected)
    if not embedded.complete(count):
        return []
    found: list[Identity] = []
    for n, output in enumerate(embedded.outputs):
        each = np.array([gradients[n] for gradients in embedded.gradients]) / count
        if output.gradient is None or not np.isfinite(each).all() or not np.isfinite(output.gradient).all():
            continue
        gradient = output.gradient.reshape(each.shape[1:])
        size = max(float(np.abs(each).sum(axis=0).max(initial=0.0)), 1e-290)
        worst = float(np.abs(each.sum(axis=0) - gradient).max(initial=0.0)) / size
        rounding = float(np.abs(embedded.again[n] - gradient).max(initial=0.0)) / size
        tolerance = max(_TOLERANCE, _ROUNDINGS * rounding)
        if tolerance > _MOST:
            continue
        site = f"op {traced.numbers[output.call]}"
        found.append(equation(site, "tokens_mean_is_gradient", _LATEX, worst, tolerance))
    return found
