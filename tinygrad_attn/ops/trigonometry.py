"""Functions of angles, their inverses and the hyperbolic ones: sin, cos, tan, asin, acos, atan, sinh, cosh."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.op import op
from tinygrad_attn.ops.pointwise import rsqrt
from tinygrad_attn.ops.quiet import quiet
from tinygrad_attn.public import public
from tinygrad_attn.samples import floats

__all__ = ["acos", "asin", "atan", "cos", "cosh", "sin", "sinh", "tan"]

Array = np.ndarray[Any, Any]


@public("ta", "Tensor")
@op(r"z = \sin x", samples=floats(), floating=True)
@quiet
def sin(x: Array) -> Array:
    """The sine of an angle in radians."""
    return np.sin(x)


@public("ta", "Tensor")
@op(r"z = \cos x", samples=floats(), floating=True)
@quiet
def cos(x: Array) -> Array:
    """The cosine of an angle in radians."""
    return np.cos(x)


sin.vjp("x", r"\bar z \odot \cos x", lambda g, x: g * cos(x), kernel=lambda g, x: g * np.cos(x))
cos.vjp("x", r"-\bar z \odot \sin x", lambda g, x: -g * sin(x), kernel=lambda g, x: -g * np.sin(x))


@public("ta", "Tensor")
@op(r"z = \tan x", samples=floats(-1.0, 1.0), floating=True)
@quiet
def tan(x: Array) -> Array:
    """The tangent of an angle in radians."""
    return np.tan(x)


tan.vjp("x", r"\bar z \odot (1 + z^2)", lambda g, z: g * (1.0 + z * z), kernel=True)


@public("ta", "ta.arctan", "Tensor", "Tensor.arctan")
@op(r"z = \arctan x", samples=floats(), floating=True)
def atan(x: Array) -> Array:
    """The angle in radians whose tangent is ``x``."""
    return np.arctan(x)


atan.vjp("x", r"\bar z / (1 + x^2)", lambda g, x: g / (1.0 + x * x), kernel=True)


@public("ta", "ta.arcsin", "Tensor", "Tensor.arcsin")
@op(r"z = \arcsin x", samples=floats(-0.9, 0.9), floating=True)
@quiet
def asin(x: Array) -> Array:
    """The angle in radians whose sine is ``x``; nan outside [-1, 1]."""
    return np.arcsin(x)


@public("ta", "ta.arccos", "Tensor", "Tensor.arccos")
@op(r"z = \arccos x", samples=floats(-0.9, 0.9), floating=True)
@quiet
def acos(x: Array) -> Array:
    """The angle in radians whose cosine is ``x``; nan outside [-1, 1]."""
    return np.arccos(x)


asin.vjp("x", r"\bar z / \sqrt{1 - x^2}", lambda g, x: g * rsqrt(1.0 - x * x))
acos.vjp("x", r"-\bar z / \sqrt{1 - x^2}", lambda g, x: -g * rsqrt(1.0 - x * x))


@public("ta", "Tensor")
@op(r"z = \sinh x = (e^x - e^{-x}) / 2", samples=floats(), floating=True)
@quiet
def sinh(x: Array) -> Array:
    """The hyperbolic sine."""
    return np.sinh(x)


@public("ta", "Tensor")
@op(r"z = \cosh x = (e^x + e^{-x}) / 2", samples=floats(), floating=True)
@quiet
def cosh(x: Array) -> Array:
    """The hyperbolic cosine."""
    return np.cosh(x)


sinh.vjp("x", r"\bar z \odot \cosh x", lambda g, x: g * cosh(x), kernel=lambda g, x: g * np.cosh(x))
cosh.vjp("x", r"\bar z \odot \sinh x", lambda g, x: g * sinh(x), kernel=lambda g, x: g * np.sinh(x))
