"""relu, gelu, silu and other activation functions. At a kink the gradient is PyTorch's choice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.kernels.activation import activate, activate_backward
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import floating, only_floats
from tinygrad_attn.ops.dims import one_dim
from tinygrad_attn.ops.joining import chunk
from tinygrad_attn.ops.pointwise import erf, exp, sigmoid, tanh, where
from tinygrad_attn.ops.quiet import quiet
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample, Samples, floats
from tinygrad_attn.tensor import Tensor

__all__ = ["elu", "gelu", "glu", "leaky_relu", "relu", "silu", "softplus"]

Array = np.ndarray[Any, Any]

ROOT_HALF = math.sqrt(0.5)
ROOT_TWO_OVER_PI = math.sqrt(2.0 / math.pi)
ONE_OVER_ROOT_TWO_PI = 1.0 / math.sqrt(2.0 * math.pi)
GELU_CUBIC = 0.044715

integers = ErrorSample((np.array([1, 2]),), {}, TypeError, "input must be float32 or float64, it is int64")
in_place = ErrorSample((np.ones(2),), {"inplace": True}, TypeError, "inplace")


def _away_from_zero(**options: tuple[float, ...]) -> Samples:
    """A sampler of operands that keep clear of a kink at 0, with options out of the values given."""

    def sampler(draw: Draw) -> Sample:
        shape = draw.shape()
        signs = np.where(draw.mask(shape), 1.0, -1.0)
        chosen = {name: draw.choice(values) for name, values in options.items()}
        return Sample((draw.layout(np.asarray(draw.floats(shape, 0.1, 2.0) * signs)),), chosen)

    return sampler


# -- rectifiers --------------------------------------------------------------------------------------------------------


@public("ta", "F", "Tensor")
@op(
    r"z = \max(x, 0)",
    samples=_away_from_zero(),
    errors=[ErrorSample((np.array([True]),), {}, TypeError, "input must be a number dtype, it is bool"), in_place],
)
@quiet
def relu(input: Array) -> Array:
    """``input`` where positive, else 0, where the gradient is 0 too.

    Raises:
        TypeError: a bool input.
    """
    if input.dtype == np.bool_:
        raise TypeError("relu: input must be a number dtype, it is bool")
    return activate("relu", input) if input.dtype.kind == "f" else np.maximum(input, 0)


relu.vjp(
    "input",
    r"\bar z\,[z > 0]",
    lambda g, z: where(z <= 0.0, 0.0, g),
    lambda g, z: activate_backward("relu", g, z),
)


@public("F")
@op(
    r"z = x \text{ where } x > 0, \text{ else } s\,x",
    samples=_away_from_zero(negative_slope=(0.01, 0.5, 0.0, -0.3)),
    errors=[integers, in_place],
    symbols={"s": "negative_slope"},
)
@quiet
def leaky_relu(input: Array, negative_slope: float = 0.01) -> Array:
    """``input`` where positive, else ``negative_slope`` times it; the gradient at 0 is ``negative_slope``.

    Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", 2013.

    Raises:
        TypeError: the input is not float32 or float64.
    """
    only_floats("leaky_relu", input)
    return activate("leaky_relu", input, negative_slope)


leaky_relu.vjp(
    "input",
    r"\bar z \text{ where } x > 0, \text{ else } s\,\bar z",
    lambda g, input, negative_slope: where(input > 0.0, g, g * negative_slope),
    lambda g, input, negative_slope: activate_backward("leaky_relu", g, input, negative_slope),
)


@public("F")
@op(
    r"z = x \text{ where } x > 0, \text{ else } \alpha\,(e^x - 1)",
    samples=_away_from_zero(alpha=(1.0, 0.5, 0.0, -0.3)),
    errors=[integers, in_place],
)
@quiet
def elu(input: Array, alpha: float = 1.0) -> Array:
    """``input`` where positive, else ``alpha * (exp(input) - 1)``; the gradient at 0 is ``alpha``.

    Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units", 2016.

    Raises:
        TypeError: the input is not float32 or float64.
    """
    only_floats("elu", input)
    return activate("elu", input, alpha)


def _elu_rule(g: Any, input: Any, alpha: float) -> Any:
    # Positive elements must not reach exp: inf where one is large, times the zero gradient sent there, would be nan.
    slope = alpha * exp(where(input < 0.0, input, 0.0))
    return where(input <= 0.0, g * slope, g)


elu.vjp(
    "input",
    r"\bar z \text{ where } x > 0, \text{ else } \alpha\,\bar z \odot e^x",
    _elu_rule,
    lambda g, input, alpha: activate_backward("elu", g, input, alpha),
)

# -- smooth ones -------------------------------------------------------------------------------------------------------


_GELU = {"none": "gelu", "tanh": "gelu_tanh"}


def _gelu_samples(draw: Draw) -> Sample:
    return Sample((draw.floats(draw.shape()),), {"approximate": draw.choice(["none", "tanh"])})


@public("F")
@op(
    r"z = x\,\Phi(x), \quad \Phi(x) = \tfrac12 (1 + \operatorname{erf}(x / \sqrt2))",
    samples=_gelu_samples,
    errors=[integers, ErrorSample((np.ones(2),), {"approximate": "erf"}, ValueError, "'none' or 'tanh', got 'erf'")],
    symbols={r"\Phi": "approximate"},
)
@quiet
def gelu(input: Array, approximate: str = "none") -> Array:
    r"""``input`` times the probability that a standard normal variable lies below it.

    Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.

    Args:
        input: of any shape.
        approximate: "none", or "tanh" for
            :math:`\Phi(x) \approx \tfrac12 (1 + \tanh(\sqrt{2/\pi}\,(x + 0.044715\,x^3)))`.

    Raises:
        TypeError: the input is not float32 or float64.
        ValueError: another approximation.
    """
    only_floats("gelu", input)
    if approximate not in _GELU:
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return activate(_GELU[approximate], input)


def gelu_gradient(g: Any, input: Any, approximate: str) -> Any:
    """The rule of `gelu`."""
    if approximate == "none":
        density = exp(-0.5 * input * input) * ONE_OVER_ROOT_TWO_PI
        return g * (0.5 * (1.0 + erf(input * ROOT_HALF)) + input * density)
    cube = GELU_CUBIC * input * input
    t = tanh(ROOT_TWO_OVER_PI * input * (1.0 + cube))
    return g * (0.5 * (1.0 + t) + 0.5 * ROOT_TWO_OVER_PI * input * (1.0 - t * t) * (1.0 + 3.0 * cube))


gelu.vjp(
    "input",
    r"\bar z \odot (\Phi(x) + x\,\varphi(x)), \quad \varphi(x) = e^{-x^2/2} / \sqrt{2\pi}",
    gelu_gradient,
    lambda g, input, approximate: activate_backward(_GELU[approximate], g, input),
)


@public("F")
@op(r"z = x \odot \sigma(x)", samples=floats(), errors=[integers, in_place])
@quiet
def silu(input: Array) -> Array:
    """``input`` times its logistic function; also called swish.

    Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016; Ramachandran, Zoph and Le, "Searching for Activation
    Functions", 2017.

    Raises:
        TypeError: the input is not float32 or float64.
    """
    only_floats("silu", input)
    return activate("silu", input)


def _silu_rule(g: Any, input: Any) -> Any:
    s = sigmoid(input)
    return g * (s * (1.0 + input * (1.0 - s)))


silu.vjp(
    "input",
    r"\bar z \odot s \odot (1 + x \odot (1 - s)), \quad s = \sigma(x)",
    _silu_rule,
    lambda g, input: activate_backward("silu", g, input),
)


def _softplus_samples(draw: Draw) -> Sample:
    # The kink, at threshold / beta, is visible where the threshold is low; operands keep away from it.
    beta, threshold = draw.choice([(1.0, 20.0), (2.0, 20.0), (0.5, 20.0), (1.0, -5.0), (-1.0, 20.0)])
    return Sample((draw.floats(draw.shape()),), {"beta": beta, "threshold": threshold})


@public("F")
@op(
    r"z = \ln(1 + e^{\beta x}) / \beta",
    samples=_softplus_samples,
    errors=[integers],
    symbols={r"\text{threshold}": "threshold"},
)
@quiet
def softplus(input: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """A smooth `relu`: ``log(1 + exp(beta * input)) / beta``; ``input`` itself where ``beta * input > threshold``.

    Raises:
        TypeError: the input is not float32 or float64.
    """
    only_floats("softplus", input)
    return activate("softplus", input, beta, threshold)


softplus.vjp(
    "input",
    r"\bar z \odot \sigma(\beta x); \quad \bar z \text{ where } \beta x > \text{threshold}",
    lambda g, input, beta, threshold: where(input * beta > threshold, g, g * sigmoid(input * beta)),
    lambda g, input, beta, threshold: activate_backward("softplus", g, input, beta, threshold),
)


@public("F")
def glu(input: Any, dim: int = -1) -> Tensor:
    """The gated linear unit: the first half of ``input`` along ``dim``, times the `sigmoid` of the second.

    Dauphin, Fan, Auli and Grangier, "Language Modeling with Gated Convolutional Networks", 2017.

    Raises:
        ValueError: the axis has an odd size.
        IndexError: no such axis.
        TypeError: the input is not float32 or float64.
    """
    x = floating("glu", "input", input)
    axis = one_dim("glu", dim, x.ndim)
    if x.ndim == 0 or x.shape[axis] % 2:
        raise ValueError(f"glu: axis {dim} must have an even size, the shape is {x.shape}")
    values, gates = chunk(x, 2, axis)
    return values * sigmoid(gates)
