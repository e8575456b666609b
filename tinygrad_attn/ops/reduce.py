"""Sums and their kin over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.op import op
from tinygrad_attn.ops.shape import expand
from tinygrad_attn.samples import Draw, Sample

__all__ = ["sum_to"]

Array = np.ndarray[Any, Any]


def _sum_to_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    return Sample((draw.floats(shape),), {"shape": draw.broadcastable(shape)})


@op(r"z = \textstyle\sum_{\text{broadcast axes}} x", samples=_sum_to_samples)
def sum_to(x: Array, *, shape: tuple[int, ...]) -> Array:
    """``x`` summed over the axes along which ``shape`` broadcasts to its own: what undoes a broadcast."""
    lead = x.ndim - len(shape)
    stretched = tuple(i + lead for i, size in enumerate(shape) if size == 1 and x.shape[i + lead] != 1)
    return np.add.reduce(x, axis=tuple(range(lead)) + stretched, keepdims=True).reshape(shape)


sum_to.vjp("x", r"\bar z \text{, repeated}", lambda g, shapes: expand(g, shape=shapes[0]))
