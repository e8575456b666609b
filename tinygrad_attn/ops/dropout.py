"""Dropout: units left out at random in training."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn import random
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import floating
from tinygrad_attn.ops.pointwise import mul
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, Sample
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import number

__all__ = ["dropout"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    shape = draw.shape()
    return Sample((draw.floats(shape), draw.mask(shape)), {"p": draw.choice([0.5, 0.0, 0.1])})


@op(r"z = x \odot m / (1 - p)", samples=_samples, symbols={"m": "keep"})
def _dropout(input: Array, keep: Array, *, p: float) -> Array:
    """``input`` where the bool ``keep`` of its shape holds, scaled by ``1 / (1 - p)``; 0 elsewhere."""
    kept = np.multiply(input, keep)
    return np.multiply(kept, 1.0 / (1.0 - p), out=kept if kept.ndim else None)


_dropout.vjp(
    "input",
    r"\bar z \odot m / (1 - p)",
    lambda g, keep, p: _dropout(g, keep, p=p),
    kernel=lambda g, keep, p: _dropout.forward(g, keep, p=p),
)


@public("F")
def dropout(input: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Set each element to 0 with probability ``p`` and scale the others by ``1 / (1 - p)``, so that the mean stays.

    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014. Draws from
    `tinygrad_attn.random.generator`.

    Args:
        input: floats, of any shape.
        p: the probability, from 0 to 1; with 1 everything is 0.
        training: if False, ``input`` itself is returned.

    Raises:
        ValueError: ``p`` is not a probability.
        TypeError: ``input`` does not hold floats.
    """
    p = number("dropout", "p", p)
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: p must be from 0 to 1, got {p}")
    input = floating("dropout", "input", input)
    if not training or p == 0.0:
        return input
    if p == 1.0:
        return mul(input, 0.0)
    # float32 numbers are enough for a probability, and drawn in half the time.
    keep = random.generator().random(input.shape, dtype=np.float32) >= p
    return _dropout(input, Tensor(np.asarray(keep)), p=p)
