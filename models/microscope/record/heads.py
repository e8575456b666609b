"""How alike the heads of an attention are, in what they attend to and in the gradient that they get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .sites import AttentionSite
from .views import Heads

__all__ = ["described_heads"]

Array = np.ndarray[Any, Any]


def described_heads(sites: Sequence[AttentionSite]) -> list[Heads]:
    """One entry for each site, of one head too."""
    found: list[Heads] = []
    for site in sites:
        weights, scores = site.quantities["weights"], site.quantities["scores"]
        gradient = scores.gradient
        found.append(
            {
                "site": site.id,
                "entropy": [_entropy(head) for head in weights.value],
                "gradient_norms": [0.0 if gradient is None else float(np.linalg.norm(g)) for g in _heads(scores)],
                "weights_alike": _cosines(weights.value),
                "gradients_alike": None if gradient is None else _cosines(gradient),
            }
        )
    return found


def _heads(scores: Any) -> Array:
    return np.zeros_like(scores.value) if scores.gradient is None else scores.gradient


def _entropy(weights: Array) -> float:
    """The mean over queries of −Σ α ln α, in nats; a query that attends to nothing has 0."""
    safe = np.where(weights > 0.0, weights, 1.0)
    return float(np.mean(-np.sum(weights * np.log(safe), axis=-1)))


def _cosines(heads: Array) -> list[list[float]]:
    """⟨a, b⟩ / (‖a‖ ‖b‖) of each two heads' matrices; 0 beside a head of zeros."""
    flat = heads.reshape(len(heads), -1)
    sizes = np.linalg.norm(flat, axis=1)
    unit = flat / np.where(sizes > 0.0, sizes, 1.0)[:, None]
    return [[float(x) for x in row] for row in unit @ unit.T]
