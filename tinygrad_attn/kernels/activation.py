"""Activation functions and their derivatives, in one pass over memory each.

Every activation is two functions of vectors: its value at ``x``, and the gradient of ``x`` for ``g``. One loop serves
them all, and a number says which to call: a few percent slower than a loop for each, and compiled once.
`activate_in_numpy` says what the kernels compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.jit import called_kernel, inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, launch, read_struct, row_at
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.simd.math import exp, log, polynomial, tanh

__all__ = ["ACTIVATIONS", "activate", "activate_backward", "activate_in_numpy", "activation_value"]

Array = np.ndarray[Any, Any]

ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "softplus")
_RELU, _LEAKY_RELU, _ELU, _GELU, _GELU_TANH, _SILU, _SOFTPLUS = range(len(ACTIVATIONS))

_SERIAL_SIZE = 16384  # elements up to which waking the threads costs more than they save
_BLOCK_SIZE = 16384  # elements that a thread takes at a time

_ROOT_HALF = math.sqrt(0.5)
_DENSITY_AT_ZERO = 1.0 / math.sqrt(2.0 * math.pi)
_ROOT_TWO_OVER_PI = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715


def activate_in_numpy(name: str, x: Array, first: float = 0.0, second: float = 0.0) -> tuple[Array, Array]:
    """The activation of every element, and its derivative; the arguments are those of `activate`."""
    zero, one = np.zeros_like(x), np.ones_like(x)
    if name == "relu":
        return np.maximum(x, 0), np.where(x > 0, one, zero)
    if name == "leaky_relu":
        return np.where(x > 0, x, first * x), np.where(x > 0, one, first)
    if name == "elu":
        return np.where(x > 0, x, first * np.expm1(x)), np.where(x > 0, one, first * np.exp(x))
    if name == "gelu":
        cdf = 0.5 * np.vectorize(math.erfc, otypes=[x.dtype])(-x * _ROOT_HALF)
        return x * cdf, cdf + x * _DENSITY_AT_ZERO * np.exp(-(x**2) / 2)
    if name == "gelu_tanh":
        t = np.tanh(_ROOT_TWO_OVER_PI * (x + _CUBIC * x**3))
        slope = (1 - t**2) * _ROOT_TWO_OVER_PI * (1 + 3 * _CUBIC * x**2)
        return 0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * slope
    if name == "silu":
        s = 1 / (1 + np.exp(-x))
        return x * s, s * (1 + x * (1 - s))
    softplus = np.logaddexp(0, first * x) / first
    return np.where(first * x > second, x, softplus), np.where(first * x > second, one, 1 / (1 + np.exp(-first * x)))


# --- GELU: x Phi(x) with Phi(-z sqrt(2)) = erfc(z) / 2. For z >= 0, erfc(z) = t exp(p(2t - 1) - z^2), t = 2 / (2 + z).
#     p interpolates log(erfc(z) exp(z^2) / t) at Chebyshev's points, within 2e-8 for float32 and 4e-16 for float64. ---

_ERFC_SINGLE = (
    -9.2464578e-5,
    8.50831661e-6,
    0.000588071689,
    -0.00022919226,
    -0.00230314347,
    0.00179520149,
    0.00881515696,
    -0.00988043164,
    -0.046894781,
    0.0473439404,
    0.672643212,
    -0.671794093,
)
_ERFC_DOUBLE = (
    -1.3791307601906357e-8,
    2.9923273542932058e-8,
    8.3546945114653007e-8,
    -2.9024440215376265e-7,
    -5.7457247421306259e-8,
    1.2851059723372738e-6,
    -1.3853380878744253e-6,
    -2.9659329937571234e-6,
    8.6394853600067247e-6,
    1.4209510635414642e-7,
    -3.0223285600549507e-5,
    3.1745644522484762e-5,
    7.1411974208734143e-5,
    -0.00017430363340314121,
    -9.3737248441092638e-5,
    0.00067367901255934015,
    -0.00014624658593823333,
    -0.0023458125344558172,
    0.0017589335383343861,
    0.0088249385597544483,
    -0.0098726893657543293,
    -0.046895610231268431,
    0.047343306841898187,
    0.67264322397765764,
    -0.67179408405669227,
)


@called_kernel
def _normal_cdf(x: Any) -> Any:
    """Phi(x), the probability that a standard normal variable lies below ``x``."""
    z = simd.select(x < 0.0, -x, x) * _ROOT_HALF
    t = 2.0 / (z + 2.0)
    upper = 0.5 * t * exp(simd.fma(-z, z, polynomial(2.0 * t - 1.0, _ERFC_SINGLE, _ERFC_DOUBLE)))
    return simd.select(x < 0.0, upper, 1.0 - upper)


@called_kernel
def _gelu_backward(g: Any, x: Any) -> Any:
    return g * simd.fma(x * _DENSITY_AT_ZERO, exp(-0.5 * x * x), _normal_cdf(x))


@called_kernel
def _gelu_argument(x: Any) -> Any:
    return x * _ROOT_TWO_OVER_PI * (1.0 + x * x * _CUBIC)


@called_kernel
def _gelu_tanh_backward(g: Any, x: Any) -> Any:
    t = tanh(_gelu_argument(x))
    slope = (1.0 - t * t) * (1.0 + x * x * (3.0 * _CUBIC)) * (0.5 * _ROOT_TWO_OVER_PI)
    return g * simd.fma(x, slope, 0.5 + 0.5 * t)


# --- The others -------------------------------------------------------------------------------------------------------


@called_kernel
def _elu(x: Any, alpha: float) -> Any:
    """exp(x) - 1 by way of tanh, which is exact near 0: 2t / (1 - t) with t = tanh(x / 2)."""
    t = tanh(simd.select(x > 0.0, 0.0, x) * 0.5)
    return simd.select(x > 0.0, x, 2.0 * t / (1.0 - t) * alpha)


@called_kernel
def _silu_backward(g: Any, x: Any) -> Any:
    s = 1.0 / (1.0 + exp(-x))
    return g * (s * (1.0 + x * (1.0 - s)))


@called_kernel
def _softplus(x: Any, beta: float, threshold: float) -> Any:
    """max(s, 0) + log(1 + exp(-|s|)) with s = beta x; the logarithm of w = 1 + e is exact as log(w) e / (w - 1)."""
    s = x * beta
    e = exp(simd.select(s < 0.0, s, -s))
    w = 1.0 + e
    logarithm = simd.select(w == 1.0, e, log(w) * e / simd.select(w == 1.0, 1.0, w - 1.0))
    return simd.select(s > threshold, x, (simd.select(s < 0.0, 0.0, s) + logarithm) / beta)


@inlined_kernel
def activation_value(kind: int, x: Any, first: float, second: float) -> Any:
    """The activation at a position in `ACTIVATIONS` of a vector; the other arguments are those of `activate`."""
    if kind == _RELU:
        return simd.select(x < 0.0, 0.0, x)
    if kind == _LEAKY_RELU:
        return simd.select(x > 0.0, x, x * first)
    if kind == _ELU:
        return _elu(x, first)
    if kind == _GELU:
        return x * _normal_cdf(x)
    if kind == _GELU_TANH:
        return x * (0.5 + 0.5 * tanh(_gelu_argument(x)))
    if kind == _SILU:
        return x / (1.0 + exp(-x))
    return _softplus(x, first, second)


@inlined_kernel
def _gradient(kind: int, g: Any, x: Any, first: float, second: float) -> Any:
    # A gradient is selected, not multiplied by 0 or 1: it may be infinite.
    if kind == _RELU:
        return simd.select(x <= 0.0, 0.0, g)
    if kind == _LEAKY_RELU:
        return simd.select(x > 0.0, g, g * first)
    if kind == _ELU:
        return simd.select(x <= 0.0, g * (exp(x) * first), g)
    if kind == _GELU:
        return _gelu_backward(g, x)
    if kind == _GELU_TANH:
        return _gelu_tanh_backward(g, x)
    if kind == _SILU:
        return _silu_backward(g, x)
    return simd.select(x * first > second, g, g / (1.0 + exp(-(x * first))))


# --- Over an array ----------------------------------------------------------------------------------------------------


class _Elements(NamedTuple):
    x: Address
    out: Address
    kind: int  # position in ACTIVATIONS
    size: int
    first: float
    second: float
    g: Address = None


def _make_values(dtype: Any) -> Any:
    @serial_kernel
    def values(arguments: int, start: int, stop: int) -> None:
        s = read_struct(_Elements, arguments)
        x, out = row_at(dtype, s.x, 0, s.size), row_at(dtype, s.out, 0, s.size)
        rest = (stop - start) % simd.lanes(x)
        whole = stop - rest
        for i in range(start, whole, simd.lanes(x)):
            simd.store(out, i, activation_value(s.kind, simd.load(x, i), s.first, s.second))
        if rest:
            tail = activation_value(s.kind, simd.load_part(x, whole, rest, 0.0), s.first, s.second)
            simd.store_part(out, whole, rest, tail)

    return values


def _make_gradients(dtype: Any) -> Any:
    @serial_kernel
    def gradients(arguments: int, start: int, stop: int) -> None:
        s = read_struct(_Elements, arguments)
        g, x, out = (row_at(dtype, s.g, 0, s.size), row_at(dtype, s.x, 0, s.size), row_at(dtype, s.out, 0, s.size))
        rest = (stop - start) % simd.lanes(x)
        whole = stop - rest
        for i in range(start, whole, simd.lanes(x)):
            simd.store(out, i, _gradient(s.kind, simd.load(g, i), simd.load(x, i), s.first, s.second))
        if rest:
            tail = simd.load_part(g, whole, rest, 0.0)
            tail = _gradient(s.kind, tail, simd.load_part(x, whole, rest, 0.0), s.first, s.second)
            simd.store_part(out, whole, rest, tail)

    return gradients


def _launch(make: Callable[[Any], Any], elements: _Elements) -> None:
    """Run the kernel that ``make`` makes for a dtype on all elements."""
    shares = 1 if elements.size <= _SERIAL_SIZE else -(-elements.size // _BLOCK_SIZE)
    launch(kernel_for(make, elements.out.dtype.type), Struct(elements), elements.size, shares)


def activate(name: str, x: Array, first: float = 0.0, second: float = 0.0) -> Array:
    """The activation ``name``, one of `ACTIVATIONS`, of every element of ``x``.

    Args:
        name: the activation.
        x: float32 or float64, of any shape; copied unless C-contiguous.
        first: the negative slope of leaky_relu, alpha of elu, beta of softplus.
        second: the threshold of softplus, above which ``beta * x`` makes it the identity.

    Returns:
        A new array of ``x``'s shape and dtype.
    """
    out = np.empty(x.shape, x.dtype)
    _launch(_make_values, _Elements(x, out, ACTIVATIONS.index(name), x.size, first, second))
    return out


def activate_backward(name: str, g: Array, x: Array, first: float = 0.0, second: float = 0.0) -> Array:
    """The gradient of ``x`` for the gradient ``g`` of ``activate(name, x, first, second)``.

    ``g`` has the shape and dtype of ``x``. For relu ``x`` may be the result as well.
    """
    out = np.empty(x.shape, x.dtype)
    _launch(_make_gradients, _Elements(x, out, ACTIVATIONS.index(name), x.size, first, second, g))
    return out
