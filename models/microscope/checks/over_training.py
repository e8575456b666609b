"""Checks of a frame of the view "Over training": a pass with the weights of another step.

All that the page's own pass is checked by in plain NumPy is checked of a frame too, but for the differences of the
loss: the numbers of every attention site, every op forward and backward, and every parameter's gradient as the sum of
its uses. How saturated the softmax is comes from the scores here, not from the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..record.schema import Identity
from ..record.sites import AttentionSite
from ..record.trace import Traced
from ..record.uses import find_uses
from .attention import recompute
from .badge import RECOMPUTED_TOLERANCE, compare_recomputed
from .ops import check_tape
from .uses import find_use_identities

__all__ = ["find_frame_identities"]

Array = np.ndarray[Any, Any]
Facts = Mapping[str, Mapping[str, Sequence[float | None]]]

_EXACT = 1e-12
_LATEX = {
    "frame_attention": r"\bar e_{tj} = \alpha_{tj} "
    r"\left( \bar\alpha_{tj} - \textstyle\sum_k \alpha_{tk} \bar\alpha_{tk} \right)",
    "frame_ops": r"\bar x = \left( \frac{\partial y}{\partial x} \right)^\top \bar y",
    "frame_uses": r"\bar W = \textstyle\sum_n \bar y_n x_n^\top",
    "frame_losses": r"L = \frac{1}{T} \textstyle\sum_t L_t",
    "frame_saturation": r"-\textstyle\sum_j \alpha_{tj} \ln \alpha_{tj} = "
    r"\ln \textstyle\sum_j \exp e_{tj} - \textstyle\sum_j \alpha_{tj} e_{tj}",
}


def find_frame_identities(
    name: str, traced: Traced, sites: Sequence[AttentionSite], losses: Sequence[float], facts: Facts
) -> list[Identity]:
    """One identity of each kind; none of numbers that are not finite.

    Args:
        name: of the frame.
        traced: its pass.
        sites: the pass's attention sites.
        losses: by token; empty with a loss of the user's own.
        facts: by site what the page tells of it (see `models.microscope.record.views.FrameSite`).
    """
    loss = float(traced.loss.values[0])
    if not np.isfinite(loss):
        return []
    _, worst_site, _ = compare_recomputed(sites, [recompute(site) for site in sites], spoilt=False)
    tape = check_tape(traced.calls)
    uses = [each["worst"] for each in find_use_identities(find_uses(traced))]
    found = {
        "frame_attention": (worst_site, RECOMPUTED_TOLERANCE),
        "frame_ops": (tape.worst, RECOMPUTED_TOLERANCE),
        "frame_uses": (max(uses, default=0.0), _EXACT),
        "frame_losses": (abs(float(np.mean(losses)) - loss) / max(abs(loss), 1.0) if losses else 0.0, _EXACT),
        "frame_saturation": (max((off for site in sites for off in _off(site, facts[site.id])), default=0.0), _EXACT),
    }
    return [
        {
            "site": name, "name": kind, "latex": _LATEX[kind], "holds": bool(worst <= tolerance), "worst": float(worst),
            "tolerance": tolerance,
        }
        for kind, (worst, tolerance) in found.items()
    ]  # fmt: skip


def _off(site: AttentionSite, facts: Mapping[str, Sequence[float | None]]) -> Iterator[float]:
    """How far each head's entropy, largest weight and spread of scores are off those that its scores give, query by
    query."""
    scores = site.quantities["scores"].value
    masks = np.ones(scores.shape, bool) if site.mask is None else np.broadcast_to(site.mask, scores.shape)
    for head, (rows, allowed) in enumerate(zip(scores, masks, strict=True)):
        kept = [row[those] for row, those in zip(rows, allowed, strict=True) if those.sum() > 1]
        if not kept:
            continue
        size = max(1.0, *(float(np.abs(row).max()) for row in kept))
        expected = {
            "entropy": [_entropy(row) for row in kept],
            "largest": [1.0 / np.exp(row - row.max()).sum() for row in kept],
            "spread": [np.std(row) for row in kept],
        }
        for name, numbers in expected.items():
            told = facts[name][head]
            yield abs(float(np.mean(numbers)) - (np.nan if told is None else told)) / size


def _entropy(scores: Array) -> float:
    """ln Σ exp e − Σ α e of a row of scores."""
    raised = np.exp(scores - scores.max())
    total = raised.sum()
    return float(np.log(total) + scores.max() - np.sum(raised / total * scores))
