"""Other views of the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.op import op
from tinygrad_attn.samples import Draw, Sample, floats

__all__ = ["expand", "view_as"]

Array = np.ndarray[Any, Any]


@op(r"z = x", samples=floats())
def view_as(x: Array) -> Array:
    """``x`` itself as a node of its own."""
    return x.view()


view_as.vjp("x", r"\bar z", lambda g: g, kernel=True)


def _expand_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    return Sample((draw.floats(draw.broadcastable(shape)),), {"shape": shape})


@op(r"z = x \text{, repeated along new axes and axes of size 1}", samples=_expand_samples)
def expand(x: Array, *, shape: tuple[int, ...]) -> Array:
    """A view of ``x`` broadcast to ``shape``."""
    return np.broadcast_to(x, shape)


expand.vjp("x", r"\textstyle\sum_{\text{broadcast axes}} \bar z", lambda g: g, kernel=True)
