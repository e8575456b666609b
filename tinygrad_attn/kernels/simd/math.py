"""exp, exp2, log, tanh and sigmoid of the vectors of `tinygrad_attn.kernels.simd.vectors`, within three ulp.

LLVM has no vector form of them without a vendor's library. Each is written here once for both dtypes, in arithmetic on
whole vectors, with no branch. Results that would be subnormal are zero.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature, signature

from tinygrad_attn.kernels.runtime.jit import inlined_kernel
from tinygrad_attn.kernels.simd.instructions import call_intrinsic
from tinygrad_attn.kernels.simd.vectors import copysign, elementwise, emits, fma, select

__all__ = ["exp", "exp2", "log", "sigmoid", "tanh"]


def _by_type(x: Any, single: float, double: float) -> Any:
    """The constant to use with vectors of ``x``'s type."""
    return x.dtype.type(single if x.dtype == np.float32 else double)


@emits(_by_type, lambda x, single, double: signature(x, x, types.float64, types.float64))
def _emit_by_type(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    chosen = arguments[1 if sig.args[0].element == types.float32 else 2]
    return context.cast(builder, chosen, types.float64, sig.return_type)


def polynomial(x: Any, single: tuple[float, ...], double: tuple[float, ...]) -> Any:
    """The polynomial in ``x`` whose coefficients, highest power first, are those for ``x``'s type (Horner's scheme)."""
    coefficients = single if x.dtype == np.float32 else double
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + x.dtype.type(coefficient)
    return value


@emits(polynomial, lambda x, single, double: signature(x, x, single, double))
def _emit_polynomial(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    x = arguments[0]
    chosen = arguments[1 if sig.args[0].element == types.float32 else 2]
    coefficients = [
        context.cast(builder, scalar, types.float64, sig.return_type)
        for scalar in cgutils.unpack_tuple(builder, chosen)
    ]
    value = coefficients[0]
    for coefficient in coefficients[1:]:
        value = call_intrinsic(builder, "fmuladd", value, x, coefficient)
    return value


def _low_bits_to_exponent(x: Any) -> Any:
    """Move the lowest bits of each float's representation to where its exponent is."""
    if x.dtype == np.float32:
        return (x.view(np.uint32) << np.uint32(23)).view(np.float32)
    return (x.view(np.uint64) << np.uint64(52)).view(np.float64)


@emits(_low_bits_to_exponent, elementwise)
def _emit_low_bits_to_exponent(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    (x,) = arguments
    bits, mantissa = (32, 23) if sig.return_type.element == types.float32 else (64, 52)
    integers = ir.VectorType(ir.IntType(bits), x.type.count)
    shift = ir.Constant(integers, [mantissa] * x.type.count)
    return builder.bitcast(builder.shl(builder.bitcast(x, integers), shift), x.type)


# exp(x) = 2^k exp(r) with k the integer nearest to x / log 2, so that |r| <= log(2) / 2. log 2 is split in two such
# that k times its first part is exact. Taylor's terms up to r^7/7! (r^13/13!) leave an error below a tenth of an ulp.
# A sum with 1.5 * 2^(mantissa bits) has k, here plus the exponent's bias less one, as the lowest bits of its
# representation: 2^(k-1) then takes one shift, and is the float zero where k is the smallest.
_LOG2_E = 1.0 / math.log(2.0)
_LOG_2_HIGH_SINGLE = 0.693145751953125
_LOG_2_LOW_SINGLE = 1.4286068203094172e-06
_LOG_2_HIGH_DOUBLE = 0.6931471803691238
_LOG_2_LOW_DOUBLE = 1.9082149292705877e-10
_ROUND_SINGLE = 1.5 * 2.0**23 + 126
_ROUND_DOUBLE = 1.5 * 2.0**52 + 1022
_TAYLOR_SINGLE = tuple(1.0 / math.factorial(n) for n in range(7, 0, -1))  # of (exp(r) - 1) / r
_TAYLOR_DOUBLE = tuple(1.0 / math.factorial(n) for n in range(13, 0, -1))


@inlined_kernel
def _exp_parts(x: Any) -> Any:
    """``(exp(r) - 1, 2^(k-1))`` of the comment above, for ``x`` in the range that `exp` clamps to."""
    rounding = _by_type(x, _ROUND_SINGLE, _ROUND_DOUBLE)
    shifted = fma(x, _by_type(x, _LOG2_E, _LOG2_E), rounding)
    k = shifted - rounding
    r = fma(k, _by_type(x, -_LOG_2_HIGH_SINGLE, -_LOG_2_HIGH_DOUBLE), x)
    r = fma(k, _by_type(x, -_LOG_2_LOW_SINGLE, -_LOG_2_LOW_DOUBLE), r)
    return r * polynomial(r, _TAYLOR_SINGLE, _TAYLOR_DOUBLE), _low_bits_to_exponent(shifted)


@inlined_kernel
def exp(x: Any) -> Any:
    """e to the power of each lane, within 2 ulp; 0 and inf at the infinities, and 0 where the result is subnormal."""
    low = _by_type(x, -87.4, -708.6)
    high = _by_type(x, 88.8, 709.8)
    x = select(x < low, low, x)
    x = select(x > high, high, x)
    grown, half_scale = _exp_parts(x)
    return (grown * half_scale + half_scale) * 2.0


# 2^x = 2^k 2^r with k the integer nearest to x, found without a multiplication. The polynomial for float32 has the
# least relative error over |r| <= 1/2 (Remez), a thirtieth of an ulp; that for float64 is Taylor's.
_EXP2_SINGLE = (
    0.00015345812024200356,
    0.0013399931219698897,
    0.009618488957041028,
    0.055503287769636304,
    0.24022646890634677,
    0.6931472057372686,
    1.0,
)
_EXP2_DOUBLE = tuple(math.log(2.0) ** n / math.factorial(n) for n in range(13, -1, -1))


@inlined_kernel
def exp2(x: Any) -> Any:
    """2 to the power of each lane, within 2 ulp, for lanes up to 127 (1023 of float64); 0 where that is subnormal."""
    low = _by_type(x, -127.0, -1023.0)
    rounding = _by_type(x, _ROUND_SINGLE + 1, _ROUND_DOUBLE + 1)
    x = select(x < low, low, x)
    shifted = x + rounding
    r = x - (shifted - rounding)
    return polynomial(r, _EXP2_SINGLE, _EXP2_DOUBLE) * _low_bits_to_exponent(shifted)


def _split(x: Any) -> Any:
    """``(m, k)`` with ``x = m 2^k``, k a whole number, ``sqrt(1/2) <= m < sqrt(2)``; for positive normal ``x``."""
    mantissa, exponent = np.frexp(x)
    small = mantissa < math.sqrt(0.5)
    return np.where(small, 2 * mantissa, mantissa), (exponent - small).astype(x.dtype)


@emits(_split, lambda x: signature(types.UniTuple(x, 2), x))
def _emit_split(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    (x,) = arguments
    bits, mantissa, half = (
        (32, 23, 0x3F3504F3) if sig.args[0].element == types.float32 else (64, 52, 0x3FE6A09E667F3BCD)
    )
    integers = ir.VectorType(ir.IntType(bits), x.type.count)
    root_half, shift = (ir.Constant(integers, [value] * x.type.count) for value in (half, mantissa))
    pattern = builder.bitcast(x, integers)
    exponent = builder.ashr(builder.sub(pattern, root_half), shift)
    rest = builder.sub(pattern, builder.shl(exponent, shift))
    return context.make_tuple(
        builder, sig.return_type, [builder.bitcast(rest, x.type), builder.sitofp(exponent, x.type)]
    )


# log(m) = 2 artanh(s) = 2 (s + s^3/3 + s^5/5 + ...) with s = (m - 1) / (m + 1), of size at most 0.1716.
_ARTANH_SINGLE = tuple(2.0 / n for n in range(9, 1, -2))  # of (log(m) - 2 s) / s^3
_ARTANH_DOUBLE = tuple(2.0 / n for n in range(21, 1, -2))


@inlined_kernel
def log(x: Any) -> Any:
    """The natural logarithm of each lane, within 2 ulp; -inf at 0 and at subnormals, NaN below 0."""
    m, k = _split(x)
    s = (m - 1.0) / (m + 1.0)
    square = s * s
    value = fma(s * square, polynomial(square, _ARTANH_SINGLE, _ARTANH_DOUBLE), 2.0 * s)
    value = fma(
        k,
        _by_type(x, _LOG_2_HIGH_SINGLE, _LOG_2_HIGH_DOUBLE),
        fma(k, _by_type(x, _LOG_2_LOW_SINGLE, _LOG_2_LOW_DOUBLE), value),
    )
    value = select(x < math.inf, value, x)
    value = select(x < _by_type(x, 1.1754944e-38, 2.2250738585072014e-308), -math.inf, value)
    return select(x < 0.0, math.nan, value)


@inlined_kernel
def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))`` of each lane."""
    return 1.0 / (1.0 + exp(-x))


@inlined_kernel
def tanh(x: Any) -> Any:
    """The hyperbolic tangent of each lane: ``(1 - e) / (1 + e)`` with ``e = exp(-2 |x|)``, by way of ``e - 1``."""
    size = select(x < 0.0, x, -x) * 2.0  # -2 |x|
    low = _by_type(x, -60.0, -100.0)  # where the result has long been 1
    grown, half_scale = _exp_parts(select(size < low, low, size))
    scale = half_scale * 2.0
    less_one = fma(grown, scale, scale - 1.0)
    return copysign(less_one / (2.0 + less_one), x)
