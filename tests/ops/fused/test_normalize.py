from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.autograd import grad
from tinygrad_attn.check import gradcheck, gradgradcheck
from tinygrad_attn.modes import unfused
from tinygrad_attn.ops.fused.normalize import add_layer_norm, cosine_similarity, layer_norm, normalize
from tinygrad_attn.ops.fused.rms_norm import rms_norm
from tinygrad_attn.tensor import Tensor


def leaf(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 40), st.floats(-1e3, 1e3), st.floats(1.0, 1e3))
def test_layer_norm_does_not_see_shift_and_scale(seed, rows, width, shift, scale):
    x = np.random.default_rng(seed).standard_normal((rows, width))
    z = layer_norm(x, width, eps=0.0).array
    np.testing.assert_allclose(z.mean(axis=-1), 0.0, atol=1e-12)
    np.testing.assert_allclose(z.var(axis=-1), 1.0, rtol=1e-9)
    np.testing.assert_allclose(layer_norm(shift + scale * x, width, eps=0.0).array, z, rtol=1e-6, atol=1e-6)


def test_layer_norm_of_large_numbers_keeps_its_precision():
    x = np.array([[1e4, 1e4 + 1.0, 1e4 + 2.0]], np.float32)
    np.testing.assert_allclose(layer_norm(x, 3).array, [[-1.2247, 0.0, 1.2247]], atol=1e-3)


def test_layer_norm_passes_nan_on_to_its_own_row_only():
    x = np.ones((2, 3))
    x[0, 1] = np.nan
    z = layer_norm(x, 3).array
    assert np.isnan(z[0]).all()
    assert not np.isnan(z[1]).any()


def test_layer_norm_of_empty_axes():
    for fused in (True, False):
        x, w = Tensor(np.ones((2, 0)), requires_grad=True), Tensor(np.ones(0), requires_grad=True)
        if fused:
            z = layer_norm(x, 0, w)
        else:
            with unfused():
                z = layer_norm(x, 0, w)
        assert z.shape == (2, 0)
        assert [g.shape for g in grad(z, [x, w], np.ones((2, 0)))] == [(2, 0), (0,)]


def test_gradients_of_the_compositions():
    rng = np.random.default_rng(0)
    x, y, w = leaf(rng, 3, 4), leaf(rng, 3, 4), leaf(rng, 4)
    for function, inputs in (
        (lambda x, w: rms_norm(x, 4, w, eps=0.1), [x, w]),
        (lambda x: rms_norm(x, (3, 4)), [x]),
        (lambda x: normalize(x, p=3.0, dim=0), [x]),
        (lambda x: normalize(x, dim=1, eps=10.0), [x]),
        (lambda x, y: cosine_similarity(x, y), [x, y]),
        (lambda x, w: cosine_similarity(x, w, dim=0), [x, w]),
    ):
        gradcheck(function, inputs)
        gradgradcheck(function, inputs)


def test_a_zero_vector_stays_zero():
    x = Tensor(np.zeros((2, 3)), requires_grad=True)
    z = normalize(x)
    np.testing.assert_array_equal(z.array, 0.0)
    assert np.isfinite(grad(z, x, np.ones((2, 3)))[0].array).all()
    np.testing.assert_array_equal(cosine_similarity(np.zeros((2, 3)), np.ones((2, 3))).array, 0.0)


def test_errors_name_the_shapes():
    with pytest.raises(ValueError, match=r"cosine_similarity: shapes do not broadcast: x1 has \(2,\), x2 \(3,\)"):
        cosine_similarity(np.ones(2), np.ones(3), dim=0)
    with pytest.raises(TypeError, match="normalize: input must hold floats, it is int64"):
        normalize(np.ones((2, 2), np.int64))
    with pytest.raises(TypeError, match=r"layer_norm: .*int64"):
        layer_norm(np.ones((2, 2), np.int64), 2)
    with pytest.raises(IndexError, match="dim 1"):
        normalize(np.ones(3))


def test_the_gradient_of_a_residual_may_be_added_to():
    """Both terms have one gradient; what reaches one of them from elsewhere must not reach the other."""
    rng = np.random.default_rng(0)
    x, r, w, b = leaf(rng, 3, 4), leaf(rng, 3, 4), leaf(rng, 4), leaf(rng, 4)
    g = rng.standard_normal((3, 4))
    found = grad(add_layer_norm(x * 2.0, r, 4, w, b) + r * 3.0, [x, r], g)
    expected = grad(layer_norm(x * 2.0 + r, 4, w, b) + r * 3.0, [x, r], g)
    for ours, one in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.array, one.array, rtol=1e-12, atol=1e-12)
