"""Dropout: units left out at random in training."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn import random
from tinygrad_attn.kernels.dropout import drop, drop_in_numpy
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import floating, only_floats
from tinygrad_attn.ops.pointwise import mul
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, Sample
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import number

__all__ = ["drop_by_key", "dropout", "new_key_for", "probability"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    options = {"p": draw.choice([0.5, 0.0, 0.1]), "key": draw.integer(0, 2**63 - 1)}
    return Sample((draw.floats(draw.shape()),), options)


@op(r"z = x \odot m / (1 - p)", samples=_samples, symbols={"m": ("key", "p")})
def _dropout(input: Array, *, p: float, key: int) -> Array:
    """``input`` times m / (1 - p), where m is 0 with probability ``p`` and else 1, made from ``key``."""
    only_floats("dropout", input)
    return drop(input, p, key)


# The gradient's elements have the numbers of the input's, so the same key makes the same m.
_dropout.vjp(
    "input",
    r"\bar z \odot m / (1 - p)",
    lambda g, p, key: _dropout(g, p=p, key=key),
    kernel=lambda g, p, key: drop(g, p, key),
)


@_dropout.composed_of
def _reference(input: Tensor, p: float, key: int) -> Tensor:
    return mul(input, Tensor(drop_in_numpy(np.ones(input.shape, input.dtype), p, key)))


@public("F")
def dropout(input: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Set each element to 0 with probability ``p`` and scale the others by ``1 / (1 - p)``, so that the mean stays.

    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014. Each call
    draws a key from `tinygrad_attn.random`; `tinygrad_attn.kernels.philox` makes the elements' random bits of it.

    Args:
        input: floats, of any shape.
        p: the probability, from 0 to 1; with 1 everything is 0.
        training: if False, ``input`` itself is returned.

    Raises:
        ValueError: ``p`` is not a probability.
        TypeError: ``input`` does not hold floats.
    """
    p = probability("dropout", "p", p)
    input = floating("dropout", "input", input)
    return drop_by_key(input, p, new_key_for(p)) if training else input


def probability(op: str, name: str, value: Any) -> float:
    """The argument ``name`` of ``op``, which must be a number from 0 to 1."""
    p: float = number(op, name, value)
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{op}: {name} must be from 0 to 1, got {p}")
    return p


def new_key_for(p: float) -> int:
    """A new key, if any is needed to drop with probability ``p``; else 0."""
    return random.new_key() if 0.0 < p < 1.0 else 0


def drop_by_key(input: Tensor, p: float, key: int) -> Tensor:
    """`dropout` in training, by a key that `new_key_for` gave."""
    if p == 0.0:
        return input
    return mul(input, 0.0) if p == 1.0 else _dropout(input, p=p, key=key)
