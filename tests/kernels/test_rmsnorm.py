from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_attn.kernels.rmsnorm import (
    rms_norm,
    rms_norm_backward,
    rms_norm_backward_in_numpy,
    rms_norm_in_numpy,
)

DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 1e-5, np.float64: 2e-14}
shapes = hnp.array_shapes(max_dims=3, max_side=7) | st.tuples(st.integers(1, 40), st.integers(1, 70))


@examples
@given(st.integers(0, 1000), shapes, st.sampled_from(DTYPES), st.booleans())
def test_forward_and_backward_equal_their_formulas(seed, shape, dtype, affine):
    rng = np.random.default_rng(seed)
    x, g = rng.standard_normal((2, *shape)).astype(dtype)
    weight = rng.standard_normal(shape[-1]).astype(dtype) if affine else None
    wide = 1.0 if weight is None else weight.astype(np.float64)
    y, factors = rms_norm(x, weight, 0.1)
    found = (y, factors, *rms_norm_backward(g, x, weight, factors))
    twin = rms_norm_in_numpy(x.astype(np.float64), wide, 0.1)
    expected = (*twin, *rms_norm_backward_in_numpy(g.astype(np.float64), x.astype(np.float64), wide, 0.1))
    for ours, one in zip(found, expected, strict=True):
        assert ours.dtype == dtype and ours.shape == one.shape
        np.testing.assert_allclose(ours, one, rtol=TOLERANCE[dtype], atol=2 * TOLERANCE[dtype])


def test_strides_and_inputs_unchanged():
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 5, 6))
    weight = rng.standard_normal(12)[::2]
    y, factors = rms_norm(x, weight, 0.1)
    before = x.copy(), g.copy()
    np.testing.assert_array_equal(rms_norm(np.asfortranarray(x), weight.copy(), 0.1)[0], y)
    plain = rms_norm_backward(g, x, weight, factors)
    turned = rms_norm_backward(np.asfortranarray(g), np.asfortranarray(x), weight, factors)
    for one, other in zip(plain, turned, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(before, (x, g))


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1000, 33), (17, 2000), (4, 100, 64)])
def test_same_bits_for_any_number_of_threads(shape, dtype):
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, *shape)).astype(dtype)
    weight = rng.standard_normal(shape[-1]).astype(dtype)
    _, factors = rms_norm(x, weight, 1e-6)
    assert_same_bits(lambda: rms_norm(x, weight, 1e-6))
    assert_same_bits(lambda: rms_norm_backward(g, x, weight, factors))


def test_no_rows():
    x = np.zeros((0, 3), np.float32)
    y, factors = rms_norm(x, None, 1e-6)
    assert y.shape == (0, 3) and factors.shape == (0,)
    dx, dweight = rms_norm_backward(x, x, None, factors)
    assert dx.shape == (0, 3)
    np.testing.assert_array_equal(dweight, 0)
