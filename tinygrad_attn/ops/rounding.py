"""Whole numbers near floats: floor, ceil, trunc, round; and frac, what trunc leaves.

The functions are steps: their gradient is 0 wherever there is one. Integers are whole already and stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import floating
from tinygrad_attn.ops.pointwise import sub
from tinygrad_attn.ops.quiet import quiet
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["ceil", "floor", "frac", "round", "trunc"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    """Numbers away from those at which a step is: the whole ones, and the halves between them."""
    shape = draw.shape()
    away = np.where(draw.mask(shape), draw.floats(shape, 0.1, 0.4), draw.floats(shape, 0.6, 0.9))
    return Sample((draw.layout(np.asarray(away + draw.integers(shape, -2, 1))),))


_bools = [ErrorSample((np.ones(2, bool),), {}, TypeError, "must hold numbers, it is bool")]


def _stepped(name: str, ufunc: np.ufunc, x: Array) -> Array:
    if x.dtype.kind == "b":
        raise TypeError(f"{name}: x must hold numbers, it is bool")
    return ufunc(x) if x.dtype.kind == "f" else x.copy()


@public("ta", "Tensor")
@op(r"z = \lfloor x \rfloor", samples=_samples, errors=_bools)
@quiet
def floor(x: Array) -> Array:
    """The largest whole number that is not above ``x``; its gradient is 0.

    Raises:
        TypeError: bools.
    """
    return _stepped("floor", np.floor, x)


@public("ta", "Tensor")
@op(r"z = \lceil x \rceil", samples=_samples, errors=_bools)
@quiet
def ceil(x: Array) -> Array:
    """The smallest whole number that is not below ``x``; its gradient is 0.

    Raises:
        TypeError: bools.
    """
    return _stepped("ceil", np.ceil, x)


@public("ta", "ta.fix", "Tensor", "Tensor.fix")
@op(r"z = \operatorname{sign}(x)\,\lfloor |x| \rfloor", samples=_samples, errors=_bools)
@quiet
def trunc(x: Array) -> Array:
    """``x`` without what is behind the point: rounded towards 0; its gradient is 0.

    Raises:
        TypeError: bools.
    """
    return _stepped("trunc", np.trunc, x)


@public("ta", "Tensor")
@op(r"z = \text{the whole number nearest to } x", samples=_samples, errors=_bools)
@quiet
def round(x: Array) -> Array:
    """The nearest whole number, of two the even one; its gradient is 0.

    Raises:
        TypeError: bools.
    """
    return _stepped("round", np.rint, x)


for _op in (floor, ceil, trunc, round):
    _op.vjp("x", r"0\,\bar z", lambda g: g * 0.0, kernel=True)


@public("ta", "Tensor")
def frac(input: Any) -> Tensor:
    """What is behind the point, with the sign of ``input``: ``input - trunc(input)``; its gradient is 1.

    Raises:
        TypeError: not floats.
    """
    x = floating("frac", "input", input)
    return sub(x, trunc(x))
