"""Activation functions and their derivatives, in one pass over memory each.

Every activation is two functions of vectors: its value at ``x``, and the gradient of ``x`` for ``g``. One loop serves
them all, and a number says which to call: a few percent slower than a loop for each, and compiled once.
`activate_in_numpy` says what the kernels compute.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.jit import called_kernel, inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Job, Prepared
from tinygrad_attn.kernels.runtime.structs import Address, kernel_for, read_struct, row_at
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.simd.math import exp, exp2, log, polynomial, tanh

__all__ = [
    "ACTIVATIONS", "GELU", "RELU", "activate", "activate_backward", "activate_in_numpy", "activation_value",
    "gelu_in_place", "pointwise_kernel", "times_slope",
]  # fmt: skip

Array = np.ndarray[Any, Any]

ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "softplus")
RELU, _LEAKY_RELU, _ELU, GELU, _GELU_TANH, _SILU, _SOFTPLUS = range(len(ACTIVATIONS))

_SERIAL_SIZE = 16384  # elements up to which waking the threads costs more than they save
_BLOCK_SIZE = 16384  # elements that a thread takes at a time

_ROOT_HALF = math.sqrt(0.5)
_HALF_IN_BITS = -0.5 / math.log(2.0)  # exp(-x^2 / 2) as a power of 2
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


# --- GELU: x Phi(x). For z >= 0, Phi(-z sqrt(2)) = erfc(z) / 2 = t p(2t - 1) exp(-z^2) with t = 2 / (2 + z), where
#     p is smooth: a polynomial meets it at Chebyshev's points, within 2e-8 for float32 and 1e-16 for float64. The same
#     exponential is that of the density, so value and derivative together take little longer than one of them. ---

_TAIL_SINGLE = (
    -4.4010803e-06,
    -6.3215657e-07,
    3.4283312e-05,
    -1.6562964e-05,
    -0.00016454363,
    0.00021359784,
    0.0007722792,
    -0.0016209661,
    -0.0053776177,
    0.009110699,
    0.06986802,
    0.17179017,
    0.25539568,
)
_TAIL_DOUBLE = (
    6.282936134298099e-10,
    -5.369853245303889e-10,
    -5.038906848493716e-09,
    6.65491420585271e-09,
    1.4997898454574925e-08,
    -3.495799562905551e-08,
    -1.6439818113801779e-09,
    8.954139507562802e-08,
    -1.4192016684791096e-07,
    -7.086574128402279e-09,
    4.99840529895456e-07,
    -9.073751154198438e-07,
    -2.811008694647182e-07,
    4.028872093674045e-06,
    -5.424133085027359e-06,
    -8.53687013681313e-06,
    3.611769905011661e-05,
    -8.592920079836816e-06,
    -0.0001657683772684705,
    0.00020932402215890383,
    0.0007726530148281085,
    -0.001619796267327507,
    -0.0053776654723716065,
    0.009110557876730709,
    0.06986802313901368,
    0.17179017110345254,
    0.25539567631050575,
)


@inlined_kernel
def _normal(x: Any) -> Any:
    """Phi(x), the probability that a standard normal variable lies below ``x``, and exp(-x^2 / 2)."""
    size = simd.select(x < 0.0, -x, x)
    t = 2.0 / simd.fma(size, simd.splat(x, _ROOT_HALF), simd.splat(x, 2.0))
    bell = exp2(x * x * _HALF_IN_BITS)
    upper = t * polynomial(2.0 * t - 1.0, _TAIL_SINGLE, _TAIL_DOUBLE) * bell
    return simd.select(x < 0.0, upper, 1.0 - upper), bell


@called_kernel
def _gelu(x: Any) -> Any:
    return x * _normal(x)[0]


@called_kernel
def _gelu_slope(x: Any) -> Any:
    cdf, bell = _normal(x)
    return simd.fma(x * _DENSITY_AT_ZERO, bell, cdf)


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
    if kind == RELU:
        return simd.select(x < 0.0, 0.0, x)
    if kind == _LEAKY_RELU:
        return simd.select(x > 0.0, x, x * first)
    if kind == _ELU:
        return _elu(x, first)
    if kind == GELU:
        return _gelu(x)
    if kind == _GELU_TANH:
        return x * (0.5 + 0.5 * tanh(_gelu_argument(x)))
    if kind == _SILU:
        return x / (1.0 + exp(-x))
    return _softplus(x, first, second)


@inlined_kernel
def _gradient(kind: int, g: Any, x: Any, first: float, second: float) -> Any:
    # A gradient is selected, not multiplied by 0 or 1: it may be infinite.
    if kind == RELU:
        return simd.select(x <= 0.0, 0.0, g)
    if kind == _LEAKY_RELU:
        return simd.select(x > 0.0, g, g * first)
    if kind == _ELU:
        return simd.select(x <= 0.0, g * (exp(x) * first), g)
    if kind == GELU:
        return g * _gelu_slope(x)
    if kind == _GELU_TANH:
        return _gelu_tanh_backward(g, x)
    if kind == _SILU:
        return _silu_backward(g, x)
    return simd.select(x * first > second, g, g / (1.0 + exp(-(x * first))))


# --- Over an array ----------------------------------------------------------------------------------------------------


class _Elements(NamedTuple):
    x: Address
    out: Address
    g: Address
    slopes: Address
    kind: int  # position in ACTIVATIONS
    size: int
    first: float
    second: float


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


def _make_gelu(dtype: Any) -> Any:
    @serial_kernel
    def values_and_slopes(arguments: int, start: int, stop: int) -> None:
        s = read_struct(_Elements, arguments)
        x, out, slopes = (
            row_at(dtype, s.x, 0, s.size),
            row_at(dtype, s.out, 0, s.size),
            row_at(dtype, s.slopes, 0, s.size),
        )
        for i in range(start, stop, simd.lanes(x)):
            rest = stop - i
            whole = rest >= simd.lanes(x)
            v = simd.load(x, i) if whole else simd.load_part(x, i, rest, 0.0)
            cdf, bell = _normal(v)
            slope = simd.fma(v * _DENSITY_AT_ZERO, bell, cdf)
            if whole:
                simd.store(out, i, v * cdf)
                simd.store(slopes, i, slope)
            else:
                simd.store_part(out, i, rest, v * cdf)
                simd.store_part(slopes, i, rest, slope)

    return values_and_slopes


def _make_scaling(dtype: Any) -> Any:
    @serial_kernel
    def scaled(arguments: int, start: int, stop: int) -> None:
        s = read_struct(_Elements, arguments)
        g, x, out = (row_at(dtype, s.g, 0, s.size), row_at(dtype, s.x, 0, s.size), row_at(dtype, s.out, 0, s.size))
        rest = (stop - start) % simd.lanes(x)
        whole = stop - rest
        for i in range(start, whole, simd.lanes(x)):
            simd.store(out, i, simd.load(g, i) * simd.load(x, i))
        for i in range(whole, stop):
            out[i] = g[i] * x[i]

    return scaled


def pointwise_kernel(activation: str, backward: bool, dtype: Any) -> int:
    """The address of the kernel ``(elements, start, stop)`` of `gelu_in_place`, or, backward, of `times_slope` for
    "gelu" and of `activate_backward` for "relu". It takes eight fields of 8 bytes each: the addresses of x, of what is
    written, of g and of the slopes; the position in `ACTIVATIONS`, the number of elements, and two zeros."""
    make = (_make_scaling if activation == "gelu" else _make_gradients) if backward else _make_gelu
    return kernel_for(make, dtype.type)


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared(
    make: Callable[[Any], Any], dtype: Any, size: int, kind: int, first: float = 0.0, second: float = 0.0
) -> Prepared:
    """The kernel that ``make`` makes for a dtype, on all elements."""
    shares = 1 if size <= _SERIAL_SIZE else -(-size // _BLOCK_SIZE)
    last = {"kind": kind, "size": size, "first": first, "second": second}
    return Prepared(Job(kernel_for(make, dtype.type), _Elements, last, size, shares))


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
    x, out = np.ascontiguousarray(x), np.empty(x.shape, x.dtype)
    prepared = _prepared(_make_values, x.dtype, x.size, ACTIVATIONS.index(name), first, second)
    prepared.launch((data_address(x), data_address(out), 0, 0))
    return out


def activate_backward(name: str, g: Array, x: Array, first: float = 0.0, second: float = 0.0) -> Array:
    """The gradient of ``x`` for the gradient ``g`` of ``activate(name, x, first, second)``.

    ``g`` has the shape and dtype of ``x``. For relu ``x`` may be the result as well.
    """
    g, x, out = np.ascontiguousarray(g), np.ascontiguousarray(x), np.empty(x.shape, x.dtype)
    prepared = _prepared(_make_gradients, x.dtype, x.size, ACTIVATIONS.index(name), first, second)
    prepared.launch((data_address(x), data_address(out), data_address(g), 0))
    return out


def gelu_in_place(x: Array) -> Array:
    """Write ``activate("gelu", x)`` to ``x``, which is contiguous; returns the derivative at every element of it, which
    `times_slope` takes."""
    slopes = np.empty(x.shape, x.dtype)
    at = data_address(x)
    _prepared(_make_gelu, x.dtype, x.size, GELU).launch((at, at, 0, data_address(slopes)))
    return slopes


def times_slope(g: Array, slopes: Array) -> Array:
    """``g * slopes``, of one shape and dtype."""
    g, out = np.ascontiguousarray(g), np.empty(slopes.shape, slopes.dtype)
    prepared = _prepared(_make_scaling, slopes.dtype, slopes.size, GELU)
    prepared.launch((data_address(slopes), data_address(out), data_address(g), 0))
    return out
