"""Softmax and cross entropy in plain NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .rounding import value_of

__all__ = ["cross_entropies", "softmax"]

Array = np.ndarray[Any, Any]


def softmax(scores: Any, mask: Array | None = None) -> Any:
    """Softmax along the last axis over the unmasked elements; zeros where all are masked, NaN beside a NaN or ∞."""
    allowed = np.ones(scores.shape, bool) if mask is None else np.broadcast_to(mask, scores.shape)
    with np.errstate(all="ignore"):
        # The shift divides numerator and denominator alike, so that its own rounding has no effect.
        highest = np.where(allowed, value_of(scores), -np.inf).max(axis=-1, keepdims=True)
        raised = np.where(allowed, np.exp(scores - np.where(np.isfinite(highest), highest, 0.0)), 0.0)
        total = raised.sum(axis=-1, keepdims=True)
        return raised / np.where(total == 0.0, 1.0, total)


def cross_entropies(logits: Array, expected: Sequence[int]) -> Array:
    """-ln softmax(logits) of one expected class in each row: (T,) of (T, V)."""
    highest = logits.max(axis=-1, keepdims=True)
    totals = np.log(np.exp(logits - highest).sum(axis=-1)) + highest[:, 0]
    found: Array = totals - logits[np.arange(len(expected)), list(expected)]
    return found
