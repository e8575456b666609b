"""Comparisons and logic: bool results, through which no gradient flows."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.op import op
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, Sample, broadcast_pairs, floats

__all__ = [
    "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "eq", "ge", "gt", "isfinite", "isinf", "isnan", "le",
    "logical_and", "logical_not", "logical_or", "logical_xor", "lt", "ne",
]  # fmt: skip

Array = np.ndarray[Any, Any]


def _masks(draw: Draw) -> Sample:
    shape = draw.shape()
    return Sample((draw.mask(shape), draw.mask(draw.broadcastable(shape))))


@public("ta", "Tensor", "Tensor.__eq__")
@op(r"z = [x = y]", samples=broadcast_pairs)
def eq(x: Array, y: Array) -> Array:
    """Whether elements are equal."""
    return np.equal(x, y)


@public("ta", "Tensor", "Tensor.__ne__")
@op(r"z = [x \ne y]", samples=broadcast_pairs)
def ne(x: Array, y: Array) -> Array:
    """Whether elements differ."""
    return np.not_equal(x, y)


@public("ta", "Tensor", "Tensor.__lt__")
@op(r"z = [x < y]", samples=broadcast_pairs)
def lt(x: Array, y: Array) -> Array:
    """Whether ``x`` is less."""
    return np.less(x, y)


@public("ta", "Tensor", "Tensor.__le__")
@op(r"z = [x \le y]", samples=broadcast_pairs)
def le(x: Array, y: Array) -> Array:
    """Whether ``x`` is less or equal."""
    return np.less_equal(x, y)


@public("ta", "Tensor", "Tensor.__gt__")
@op(r"z = [x > y]", samples=broadcast_pairs)
def gt(x: Array, y: Array) -> Array:
    """Whether ``x`` is greater."""
    return np.greater(x, y)


@public("ta", "Tensor", "Tensor.__ge__")
@op(r"z = [x \ge y]", samples=broadcast_pairs)
def ge(x: Array, y: Array) -> Array:
    """Whether ``x`` is greater or equal."""
    return np.greater_equal(x, y)


@public("ta", "Tensor")
@op(r"z = x \wedge y", samples=_masks)
def logical_and(x: Array, y: Array) -> Array:
    """Whether both are true."""
    return np.logical_and(x, y)


@public("ta", "Tensor")
@op(r"z = x \vee y", samples=_masks)
def logical_or(x: Array, y: Array) -> Array:
    """Whether either is true."""
    return np.logical_or(x, y)


@public("ta", "Tensor")
@op(r"z = x \oplus y", samples=_masks)
def logical_xor(x: Array, y: Array) -> Array:
    """Whether exactly one is true."""
    return np.logical_xor(x, y)


@public("ta", "Tensor")
@op(r"z = \neg x", samples=lambda draw: Sample((draw.mask(draw.shape()),)))
def logical_not(x: Array) -> Array:
    """Whether it is false."""
    return np.logical_not(x)


@public("ta", "Tensor")
@op(r"z = [x \text{ is nan}]", samples=floats())
def isnan(x: Array) -> Array:
    """Whether an element is not a number."""
    return np.isnan(x)


@public("ta", "Tensor")
@op(r"z = [|x| = \infty]", samples=floats())
def isinf(x: Array) -> Array:
    """Whether an element is infinite."""
    return np.isinf(x)


@public("ta", "Tensor")
@op(r"z = [|x| < \infty]", samples=floats())
def isfinite(x: Array) -> Array:
    """Whether an element is a finite number."""
    return np.isfinite(x)


def _bits(name: str, *operands: Any) -> None:
    """Raise a TypeError unless all operands are bool or integers."""
    for operand in operands:
        kind = np.asarray(operand).dtype
        if kind.kind not in "biu":
            raise TypeError(f"{name}: operands must be bool or integers, got {kind}")


@public("Tensor.__and__", "Tensor.__rand__")
@op(r"z = x \mathbin{\&} y", samples=_masks)
def bitwise_and(x: Array, y: Array) -> Array:
    """Bit by bit whether both are set; of bools whether both are true."""
    _bits("bitwise_and", x, y)
    return np.bitwise_and(x, y)


@public("Tensor.__or__", "Tensor.__ror__")
@op(r"z = x \mathbin{|} y", samples=_masks)
def bitwise_or(x: Array, y: Array) -> Array:
    """Bit by bit whether either is set; of bools whether either is true."""
    _bits("bitwise_or", x, y)
    return np.bitwise_or(x, y)


@public("Tensor.__xor__", "Tensor.__rxor__")
@op(r"z = x \oplus y", samples=_masks)
def bitwise_xor(x: Array, y: Array) -> Array:
    """Bit by bit whether exactly one is set; of bools whether exactly one is true."""
    _bits("bitwise_xor", x, y)
    return np.bitwise_xor(x, y)


@public("Tensor.__invert__")
@op(r"z = \mathord{\sim} x", samples=lambda draw: Sample((draw.mask(draw.shape()),)))
def bitwise_not(x: Array) -> Array:
    """Every bit inverted; of bools whether false."""
    _bits("bitwise_not", x)
    return np.invert(x)
