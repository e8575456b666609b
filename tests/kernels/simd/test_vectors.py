from __future__ import annotations

import math

import numba
import numpy as np
import pytest
from bits import compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd

DTYPES = [np.float32, np.float64]


def over_array(function):
    """A function of an array that applies ``function``, of one vector, to all of it."""

    @numba.njit(error_model="numpy")
    def kernel(x, y):
        for i in range(0, x.size, simd.lanes(x)):
            count = min(simd.lanes(x), x.size - i)
            simd.store_part(y, i, count, function(simd.load_part(x, i, count, 1.0)))

    def apply(x):
        y = np.empty_like(x)
        with np.errstate(all="ignore"):
            kernel(x, y)
        return y

    return apply


exp, exp2, log, tanh, sigmoid = (
    over_array(function)
    for function in (simd_math.exp, simd_math.exp2, simd_math.log, simd_math.tanh, simd_math.sigmoid)
)


def ulps(ours, exact):
    """How far ``ours`` is from ``exact``, a longdouble, in units of the last place of ``ours``' dtype."""
    return float((np.abs(ours - exact) / np.spacing(np.abs(exact).astype(ours.dtype))).max())


def points(low, high, dtype):
    count = 100 if numba.config.DISABLE_JIT else 200_000
    return np.random.default_rng(0).uniform(low, high, count).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reach", [1e-3, 1.0, 20.0, 86.9])
def test_functions_are_within_three_ulp(reach, dtype):
    x = points(-reach, reach, dtype)
    wide = x.astype(np.longdouble)
    assert ulps(exp(x), np.exp(wide)) < 2
    assert ulps(sigmoid(x), 1 / (1 + np.exp(-wide))) < 3
    assert ulps(tanh(x), np.tanh(wide)) < 3
    assert ulps(log(np.abs(x) + dtype(1e-30)), np.log(np.abs(x) + dtype(1e-30), dtype=np.longdouble)) < 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_and_log_over_the_whole_range(dtype):
    limits = np.finfo(dtype)
    x = points(math.log(limits.tiny) + 0.4, math.log(limits.max) - 1e-3, dtype)
    assert ulps(exp(x), np.exp(x.astype(np.longdouble))) < 2
    x = np.exp(points(math.log(limits.tiny) + 1e-3, math.log(limits.max) - 1e-3, np.float64)).astype(dtype)
    assert ulps(log(x), np.log(x.astype(np.longdouble))) < 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp2_over_its_range(dtype):
    limits = np.finfo(dtype)
    x = points(limits.minexp, limits.maxexp - 1, dtype)
    assert ulps(exp2(x), np.exp2(x.astype(np.longdouble))) < 2
    whole = np.arange(limits.minexp, limits.maxexp)
    np.testing.assert_array_equal(exp2(whole.astype(dtype)), np.ldexp(dtype(1), whole))
    low = np.array([-np.inf, -1e5, limits.minexp - 1, np.nan], dtype)
    np.testing.assert_array_equal(exp2(low), np.array([0, 0, 0, np.nan], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_at_infinities_and_nan(dtype):
    x = np.array([-np.inf, np.inf, np.nan, 0.0, -1e5, 1e5], dtype)
    np.testing.assert_array_equal(exp(x), np.array([0, np.inf, np.nan, 1, 0, np.inf], dtype))
    np.testing.assert_array_equal(tanh(x), np.array([-1, 1, np.nan, 0, -1, 1], dtype))
    np.testing.assert_array_equal(sigmoid(x), np.array([0, 1, np.nan, 0.5, 0, 1], dtype))
    np.testing.assert_array_equal(log(x[:-1]), np.array([np.nan, np.inf, np.nan, -np.inf, np.nan], dtype))
    assert np.signbit(tanh(np.array([-0.0, 0.0], dtype))).tolist() == [True, False]
    tiny = np.finfo(dtype).tiny
    assert exp(np.array([math.log(tiny) - 1], dtype))[0] == 0
    np.testing.assert_array_equal(log(np.array([tiny / 2], dtype)), -np.inf)


@numba.njit(error_model="numpy")
def _operators(x, y, out):
    """Writes one row to ``out`` for every operator."""
    a, b = simd.load(x, 0), simd.load(y, 0)
    size = simd.lanes(x)
    simd.store(out, 0 * size, a + b * 2 - 1.5)
    simd.store(out, 1 * size, -a / b)
    simd.store(out, 2 * size, simd.fma(a, b, 0.5))
    simd.store(out, 3 * size, simd.maximum(a, b))
    simd.store(out, 4 * size, simd.select(a < b, a, 7.0))
    simd.store(out, 5 * size, simd.select(a >= 0.0, b, a))
    simd.store(out, 6 * size, simd.sqrt(b * b))
    simd.store(out, 7 * size, simd.copysign(b, a))
    simd.store(out, 8 * size, simd.splat(x, simd.reduce_sum(a)))
    simd.store(out, 9 * size, simd.splat(x, simd.reduce_max(a)))
    simd.store(out, 10 * size, simd.splat(x, simd.reduce_sum(simd.widen(a))))


@pytest.mark.parametrize("dtype", DTYPES)
def test_operators_are_numpys(dtype):
    size = simd.lanes(np.empty(0, dtype))
    x, y = np.random.default_rng(0).standard_normal((2, size)).astype(dtype)
    out = np.empty(11 * size, dtype)
    _operators(x, y, out)
    half = dtype(0.5)
    expected = [
        x + y * 2 - dtype(1.5),
        -x / y,
        x * y + half,
        np.maximum(x, y),
        np.where(x < y, x, 7),
        np.where(x >= 0, y, x),
        np.abs(y),
        np.copysign(y, x),
        np.full(size, x.sum()),
        np.full(size, x.max()),
        np.full(size, x.astype(np.float64).sum()),
    ]
    np.testing.assert_allclose(out.reshape(11, size), expected, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)


@numba.njit
def _copy_masked(x, mask, y, fill):
    for i in range(0, x.size, simd.lanes(x)):
        count = min(simd.lanes(x), x.size - i)
        row = simd.load_part(x, i, count, fill)
        whole = count == simd.lanes(x)
        chosen = simd.load_mask(mask, i, row) if whole else simd.load_mask_part(mask, i, count, row)
        simd.store_part(y, i, count, simd.select(chosen, row, fill))


@examples
@given(st.integers(1, 40), st.integers(0, 5), st.sampled_from(DTYPES))
def test_parts_touch_nothing_beyond_their_count(size, margin, dtype):
    rng = np.random.default_rng(size)
    x, mask = rng.standard_normal(size).astype(dtype), rng.random(size) < 0.5
    y = np.full(size + 2 * margin, 9, dtype)
    _copy_masked(x, mask, y[margin : margin + size], -np.inf)
    np.testing.assert_array_equal(y[margin : margin + size], np.where(mask, x, -np.inf))
    np.testing.assert_array_equal(np.delete(y, np.arange(margin, margin + size)), 9)


@compiled_only
def test_the_instructions_are_vector_instructions():
    kernel = numba.njit(error_model="numpy")(_softmax_like)
    kernel(np.ones(64, np.float32), np.ones(64, np.float32))
    (llvm,) = kernel.inspect_llvm().values()
    assert "x float>" in llvm and "@exp" not in llvm and "@expf" not in llvm


def _softmax_like(x, y):
    for i in range(0, x.size, simd.lanes(x)):
        simd.store(y, i, simd_math.exp(simd.load(x, i)))


@compiled_only
def test_a_line_beyond_the_end_may_be_asked_for():
    kernel, x = numba.njit(_prefetching), np.ones(64, np.float32)
    kernel(x)
    np.testing.assert_array_equal(x, 2.0)
    (llvm,) = kernel.inspect_llvm().values()
    assert "@llvm.prefetch" in llvm


def _prefetching(x):
    for i in range(0, x.size, simd.lanes(x)):
        simd.prefetch(x, i + (1 << 40))
        simd.store(x, i, simd.load(x, i) + 1.0)
