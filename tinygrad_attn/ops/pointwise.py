"""Elementwise arithmetic and functions: add, mul, exp, tanh, where, …

``kernel=True`` marks rules made of operators alone, which work on plain arrays too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.dtypes import check_fits
from tinygrad_attn.kernels.pairs import tanh_gradient
from tinygrad_attn.kernels.special import erf as erf_kernel
from tinygrad_attn.op import op
from tinygrad_attn.ops.quiet import quiet
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample, broadcast_pairs, floats
from tinygrad_attn.tensor import Tensor

__all__ = [
    "abs", "add", "clamp", "erf", "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "maximum", "minimum",
    "mul", "neg", "pow", "reciprocal", "rsqrt", "sigmoid", "sign", "sqrt", "square", "sub", "tanh",
    "true_divide", "where",
]  # fmt: skip

Array = np.ndarray[Any, Any]
positive = floats(0.1, 2.0)
clash = ErrorSample((np.ones((2, 3)), np.ones((2, 4))), {}, ValueError, "axis -1 has size 3 in x and 4 in y")

LN2 = math.log(2.0)
LN10 = math.log(10.0)
TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)


# -- arithmetic --------------------------------------------------------------------------------------------------------


@public("ta", "Tensor", "Tensor.__add__", "Tensor.__radd__")
@op(r"z = x + y", samples=broadcast_pairs, errors=[clash])
def add(x: Array, y: Array) -> Array:
    """The sum, broadcast."""
    return np.add(x, y)


add.vjp("x", r"\bar z", lambda g: g, kernel=True)
add.vjp("y", r"\bar z", lambda g: g, kernel=True)


@public("ta", "ta.subtract", "Tensor", "Tensor.subtract", "Tensor.__sub__", "Tensor.__rsub__")
@op(r"z = x - y", samples=broadcast_pairs, errors=[clash])
def sub(x: Array, y: Array) -> Array:
    """The difference, broadcast."""
    return np.subtract(x, y)


sub.vjp("x", r"\bar z", lambda g: g, kernel=True)
sub.vjp("y", r"-\bar z", lambda g: -g, kernel=True)


@public("ta", "ta.multiply", "Tensor", "Tensor.multiply", "Tensor.__mul__", "Tensor.__rmul__")
@op(r"z = x \odot y", samples=broadcast_pairs, errors=[clash])
def mul(x: Array, y: Array) -> Array:
    """The product of elements, broadcast."""
    return np.multiply(x, y)


mul.vjp("x", r"\bar z \odot y", lambda g, y: g * y, kernel=True)
mul.vjp("y", r"\bar z \odot x", lambda g, x: g * x, kernel=True)


def _quotient_samples(draw: Draw) -> Sample:
    return broadcast_pairs(draw, 0.5, 2.0)


@public("ta", "Tensor", "Tensor.__truediv__", "Tensor.__rtruediv__")
@op(r"z = x / y", samples=_quotient_samples, errors=[clash], floating=True)
@quiet
def true_divide(x: Array, y: Array) -> Array:
    """The quotient, broadcast; integers are divided as floats, and division by zero gives inf or nan."""
    return np.true_divide(x, y)


true_divide.vjp("x", r"\bar z / y", lambda g, y: g / y, kernel=True)
true_divide.vjp("y", r"-\bar z \odot z / y", lambda g, z, y: -g * z / y, kernel=True)


@public("ta", "ta.negative", "Tensor", "Tensor.negative", "Tensor.__neg__")
@op(r"z = -x", samples=floats())
def neg(x: Array) -> Array:
    """The negative."""
    return np.negative(x)


neg.vjp("x", r"-\bar z", lambda g: -g, kernel=True)


def _power_samples(draw: Draw) -> Sample:
    if draw.boolean():
        return Sample((draw.floats(draw.shape()), draw.choice([2, 3, 1, 0, 4.0])))
    return broadcast_pairs(draw, 0.3, 2.0)


@public("ta", "Tensor", "Tensor.__pow__", "Tensor.__rpow__")
@op(r"z = x^y", samples=_power_samples, errors=[clash])
@quiet
def pow(x: Array, y: Array) -> Array:
    """``x`` to the power ``y``, broadcast; a negative base needs a whole exponent, else the result is nan.

    Raises:
        TypeError: both are bools.
    """
    z = np.power(x, y)
    if z.dtype == np.int8:  # NumPy's for bools
        raise TypeError("pow: is not defined for two bools; convert one to integers or floats")
    return z


def _pow_base(g: Any, x: Any, y: Any) -> Any:
    if not hasattr(y, "shape"):
        return g * (y * pow(x, y - 1)) if y != 0 else g * 0.0
    # Where y is 0 the derivative is 0, even at x = 0, where x^(y-1) is infinite.
    flat = y == 0.0
    return g * where(flat, 0.0, y * pow(x, where(flat, 1.0, y - 1.0)))


def _pow_exponent(g: Any, z: Any, x: Any, y: Any) -> Any:
    # 0^y is 0 for y > 0, so the derivative is 0; it is taken as 0 at y = 0 too.
    if not hasattr(x, "shape"):
        if x > 0:
            return g * z * math.log(x)
        return g * where(y >= 0.0, 0.0, -math.inf) if x == 0 else g * z * math.nan
    flat = (x == 0.0) & (y >= 0.0)
    return g * where(flat, 0.0, z * log(where(flat, 1.0, x)))


pow.vjp("x", r"\bar z \odot y\,x^{y-1}", _pow_base)
pow.vjp("y", r"\bar z \odot z \ln x \text{, 0 where } x = 0 \le y", _pow_exponent)


@public("ta", "Tensor")
@op(r"z = x^2", samples=floats())
def square(x: Array) -> Array:
    """The square; of bools as integers."""
    return np.square(x) if x.dtype.kind != "b" else x.astype(np.int64)


square.vjp("x", r"2\,\bar z \odot x", lambda g, x: g * (2.0 * x), kernel=True)


@public("ta", "Tensor")
@op(r"z = \sqrt{x}", samples=positive, floating=True)
@quiet
def sqrt(x: Array) -> Array:
    """The square root; nan below zero."""
    return np.sqrt(x)


sqrt.vjp("x", r"\bar z / (2z)", lambda g, z: g / (2.0 * z), kernel=True)


@public("ta", "Tensor")
@op(r"z = 1/\sqrt{x}", samples=positive, floating=True)
@quiet
def rsqrt(x: Array) -> Array:
    """One over the square root."""
    return 1.0 / np.sqrt(x)


rsqrt.vjp("x", r"-\tfrac12\,\bar z \odot z^3", lambda g, z: g * (-0.5 * z * z * z), kernel=True)


@public("ta", "Tensor")
@op(r"z = 1/x", samples=positive, floating=True)
@quiet
def reciprocal(x: Array) -> Array:
    """One over ``x``."""
    return 1.0 / x


reciprocal.vjp("x", r"-\bar z \odot z^2", lambda g, z: -g * z * z, kernel=True)


@public("ta", "ta.absolute", "Tensor", "Tensor.absolute", "Tensor.__abs__")
@op(r"z = |x|", samples=floats())
def abs(x: Array) -> Array:
    """The absolute value; its gradient at 0 is 0."""
    return np.abs(x)


@public("ta", "Tensor")
@op(r"z = \operatorname{sign} x", samples=floats())
def sign(x: Array) -> Array:
    """-1, 0 or 1, and 0 for nan. Its gradient is 0."""
    if x.dtype == np.bool_:
        return x.copy()
    return np.subtract(x > 0, x < 0, dtype=x.dtype)


abs.vjp("x", r"\bar z \odot \operatorname{sign} x", lambda g, x: g * sign(x), kernel=lambda g, x: g * sign.forward(x))
sign.vjp("x", r"0\,\bar z", lambda g: g * 0.0, kernel=True)

# -- exponentials and logarithms ---------------------------------------------------------------------------------------


@public("ta", "Tensor")
@op(r"z = e^x", samples=floats(), floating=True)
@quiet
def exp(x: Array) -> Array:
    """The exponential."""
    return np.exp(x)


exp.vjp("x", r"\bar z \odot z", lambda g, z: g * z, kernel=True)


@public("ta", "Tensor")
@op(r"z = 2^x", samples=floats(), floating=True)
@quiet
def exp2(x: Array) -> Array:
    """Two to the power ``x``."""
    return np.exp2(x)


exp2.vjp("x", r"\bar z \odot z \ln 2", lambda g, z: g * (z * LN2), kernel=True)


@public("ta", "Tensor")
@op(r"z = e^x - 1", samples=floats(), floating=True)
@quiet
def expm1(x: Array) -> Array:
    """The exponential minus one, accurate near 0."""
    return np.expm1(x)


expm1.vjp("x", r"\bar z \odot (z + 1)", lambda g, z: g * (z + 1.0), kernel=True)


@public("ta", "Tensor")
@op(r"z = \ln x", samples=positive, floating=True)
@quiet
def log(x: Array) -> Array:
    """The natural logarithm; -inf at 0, nan below."""
    return np.log(x)


log.vjp("x", r"\bar z / x", lambda g, x: g / x, kernel=True)


@public("ta", "Tensor")
@op(r"z = \log_2 x", samples=positive, floating=True)
@quiet
def log2(x: Array) -> Array:
    """The logarithm to base 2."""
    return np.log2(x)


log2.vjp("x", r"\bar z / (x \ln 2)", lambda g, x: g / (x * LN2), kernel=True)


@public("ta", "Tensor")
@op(r"z = \log_{10} x", samples=positive, floating=True)
@quiet
def log10(x: Array) -> Array:
    """The logarithm to base 10."""
    return np.log10(x)


log10.vjp("x", r"\bar z / (x \ln 10)", lambda g, x: g / (x * LN10), kernel=True)


@public("ta", "Tensor")
@op(r"z = \ln(1 + x)", samples=floats(-0.8, 2.0), floating=True)
@quiet
def log1p(x: Array) -> Array:
    """The logarithm of ``1 + x``, accurate near 0."""
    return np.log1p(x)


log1p.vjp("x", r"\bar z / (1 + x)", lambda g, x: g / (1.0 + x), kernel=True)

# -- curves ------------------------------------------------------------------------------------------------------------


@public("ta", "F", "Tensor")
@op(r"z = \tanh x", samples=floats(), floating=True)
def tanh(x: Array) -> Array:
    """The hyperbolic tangent."""
    return np.tanh(x)


tanh.vjp("x", r"\bar z \odot (1 - z^2)", lambda g, z: g * (1.0 - z * z), kernel=tanh_gradient)


@public("ta", "F", "Tensor")
@op(r"z = \sigma(x) = 1 / (1 + e^{-x})", samples=floats(), floating=True)
@quiet
def sigmoid(x: Array) -> Array:
    """The logistic function."""
    return 1.0 / (1.0 + np.exp(-x))


sigmoid.vjp("x", r"\bar z \odot z \odot (1 - z)", lambda g, z: g * (z * (1.0 - z)), kernel=True)


@public("ta", "Tensor")
@op(r"z = \operatorname{erf} x = \tfrac{2}{\sqrt\pi} \int_0^x e^{-t^2} dt", samples=floats(), floating=True)
def erf(x: Array) -> Array:
    """The error function."""
    return erf_kernel(x)


erf.vjp("x", r"\bar z \odot \tfrac{2}{\sqrt\pi} e^{-x^2}", lambda g, x: g * (TWO_OVER_ROOT_PI * exp(-x * x)))

# -- choices -----------------------------------------------------------------------------------------------------------


def _where_samples(draw: Draw) -> Sample:
    pair = broadcast_pairs(draw)
    shape = np.broadcast_shapes(*[np.shape(operand) for operand in pair.operands])
    return Sample((draw.mask(draw.broadcastable(shape)), *pair.operands))


@public("ta")
@op(r"z = x \text{ where } c, \text{ else } y", samples=_where_samples, symbols={"c": "condition"})
def where(condition: Array, x: Array, y: Array) -> Array:
    """``x`` where the bool ``condition`` holds, else ``y``; all three broadcast."""
    if np.asarray(condition).dtype != np.bool_:
        raise TypeError(f"where: condition must be bool, it is {np.asarray(condition).dtype}")
    return np.where(condition, x, y)


where.vjp("x", r"\bar z \text{ where } c, \text{ else } 0", lambda g, condition: where(condition, g, 0.0))
where.vjp("y", r"0 \text{ where } c, \text{ else } \bar z", lambda g, condition: where(condition, 0.0, g))


@public("Tensor.where")
def where_method(x: Tensor, condition: Any, other: Any) -> Tensor:
    """The elements of ``x`` where ``condition`` holds, else those of ``other``: `where` as a method."""
    return where(condition, x, other)


def _share(g: Any, mine: Any, other: Any, larger: bool) -> Any:
    """``g`` where ``mine`` was chosen, half of it where both are equal; where one is nan, ``g`` for both."""
    passed_over = mine < other if larger else mine > other
    return where(mine == other, g * 0.5, where(passed_over, 0.0, g))


@public("ta", "Tensor")
@op(r"z = \max(x, y)", samples=broadcast_pairs, errors=[clash])
def maximum(x: Array, y: Array) -> Array:
    """The larger of two elements, broadcast; equal ones share the gradient."""
    return np.maximum(x, y)


maximum.vjp("x", r"\bar z\,([x > y] + \tfrac12[x = y])", lambda g, x, y: _share(g, x, y, True))
maximum.vjp("y", r"\bar z\,([y > x] + \tfrac12[x = y])", lambda g, x, y: _share(g, y, x, True))


@public("ta", "Tensor")
@op(r"z = \min(x, y)", samples=broadcast_pairs, errors=[clash])
def minimum(x: Array, y: Array) -> Array:
    """The smaller of two elements, broadcast; equal ones share the gradient."""
    return np.minimum(x, y)


minimum.vjp("x", r"\bar z\,([x < y] + \tfrac12[x = y])", lambda g, x, y: _share(g, x, y, False))
minimum.vjp("y", r"\bar z\,([y < x] + \tfrac12[x = y])", lambda g, x, y: _share(g, y, x, False))


def _clamp_samples(draw: Draw) -> Sample:
    bounds = draw.choice([(-1.0, 1.0), (None, 0.5), (-0.5, None), (1.0, -1.0)])
    return Sample((draw.floats(draw.shape()),), dict(zip(("min", "max"), bounds, strict=True)))


@public("ta", "ta.clip", "Tensor", "Tensor.clip")
@op(
    r"z = \min(\max(x, a), b)",
    samples=_clamp_samples,
    errors=[
        ErrorSample((np.ones(2),), {}, ValueError, "at least one of min and max"),
        ErrorSample((np.ones(2),), {"min": np.ones(2)}, TypeError, "min must be a number"),
    ],
    symbols={"a": "min", "b": "max"},
)
def clamp(x: Array, min: float | None = None, max: float | None = None) -> Array:
    """``x`` limited to the numbers from ``min`` to ``max``; the gradient is 0 where ``x`` is outside.

    `maximum` and `minimum` take tensors, and send gradients to them.

    Raises:
        ValueError: neither bound is given.
        TypeError: a bound is not a number.
    """
    if min is None and max is None:
        raise ValueError("clamp: at least one of min and max must be given")
    for bound in (min, max):
        if isinstance(bound, int):
            check_fits("clamp", bound, x.dtype)
    if x.dtype.kind != "f" and any(isinstance(bound, float) for bound in (min, max)):
        x = x.astype(np.float32)
    lower = x if min is None else np.maximum(x, min)
    return lower if max is None else np.minimum(lower, max)


def _within(g: Any, x: Any, min: float | None, max: float | None) -> Any:
    inside = x == x if min is None else x >= min
    return where(inside if max is None else inside & (x <= max), g, 0.0)


clamp.vjp("x", r"\bar z\,[a \le x \le b]", _within)
