"""What the page of a live server asks for."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

__all__ = ["Rerun"]


class Rerun(TypedDict):
    """The body of ``POST /run`` in live mode.

    The answer is `models.microscope.record.schema.Data`, or ``{"error": message}`` with a status from 400 on.
    """

    source: str
    """The source; of a language model, the text."""
    target: NotRequired[str | None]
    """None for the model's own greedy translation, and of a language model."""
    nudge: NotRequired[dict[str, Any] | None]
    """``{"parameter": name, "index": [i, …], "by": number}``, added to one weight for this run alone."""
    step: NotRequired[dict[str, Any] | None]
    """``{"optimizer": "sgd" or "adam", "rate": number}``: one step with this example's gradient, for this run alone."""
