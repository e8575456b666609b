"""Checks of the gradients of single tokens' losses: their mean is the gradient of the loss."""

from __future__ import annotations

import numpy as np

from ..record.schema import Identity
from ..record.trace import Traced

__all__ = ["find_embedding_identities"]

_TOLERANCE = 1e-10
_LATEX = r"\bar x_j = \frac{1}{T} \textstyle\sum_t \frac{\partial L_t}{\partial x_j}"


def find_embedding_identities(traced: Traced) -> list[Identity]:
    """One identity for each op that looks embeddings up, if all tokens' losses were followed and all is finite."""
    embedded, count = traced.embedded, len(traced.expected)
    if not embedded.complete(count):
        return []
    found: list[Identity] = []
    for n, output in enumerate(embedded.outputs):
        each = np.array([gradients[n] for gradients in embedded.gradients]) / count
        if output.gradient is None or not np.isfinite(each).all() or not np.isfinite(output.gradient).all():
            continue
        difference = np.abs(each.sum(axis=0) - output.gradient.reshape(each.shape[1:]))
        worst = float(difference.max(initial=0.0)) / max(float(np.abs(each).sum(axis=0).max(initial=0.0)), 1e-290)
        found.append(
            {
                "site": f"op {traced.numbers[output.call]}", "name": "tokens_mean_is_gradient", "latex": _LATEX,
                "holds": worst <= _TOLERANCE, "worst": worst, "tolerance": _TOLERANCE,
            }
        )  # fmt: skip
    return found
