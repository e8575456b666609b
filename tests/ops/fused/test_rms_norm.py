from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.autograd import grad
from tinygrad_attn.check import gradcheck, gradgradcheck
from tinygrad_attn.modes import unfused
from tinygrad_attn.ops.fused.rms_norm import rms_norm
from tinygrad_attn.tensor import Tensor


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 40), st.floats(1e-3, 1e3))
def test_rows_have_root_mean_square_one_whatever_their_scale(seed, rows, width, scale):
    x = np.random.default_rng(seed).standard_normal((rows, width))
    z = rms_norm(x, width, eps=0.0).array
    np.testing.assert_allclose(np.square(z).mean(-1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(rms_norm(scale * x, width, eps=0.0).array, z, rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(1, 6), st.booleans())
def test_derivatives(seed, rows, width, affine):
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal((rows, width)), *([rng.standard_normal(width)] if affine else [])]
    leaves = [Tensor(x, requires_grad=True) for x in inputs]
    gradcheck(lambda x, *w: rms_norm(x, width, *w, eps=0.1), leaves)
    gradgradcheck(lambda x, *w: rms_norm(x, width, *w, eps=0.1), leaves)


def test_nan_stays_in_its_row():
    x = np.ones((2, 3))
    x[0, 1] = np.nan
    z = rms_norm(x, 3).array
    assert np.isnan(z[0]).all() and (z[1] == 1.0 / np.sqrt(1.0 + np.finfo(np.float64).eps)).all()


def test_a_row_of_zeros_stays_zero_with_finite_gradients():
    x = Tensor(np.zeros((2, 3), np.float32), requires_grad=True)
    z = rms_norm(x, 3)
    np.testing.assert_array_equal(z.array, 0.0)
    assert np.isfinite(grad(z, x, np.ones((2, 3), np.float32))[0].array).all()


def test_empty_axes():
    def run():
        x, w = Tensor(np.ones((2, 0)), requires_grad=True), Tensor(np.ones(0), requires_grad=True)
        z = rms_norm(x, 0, w)
        assert z.shape == (2, 0)
        assert [g.shape for g in grad(z, [x, w], np.ones((2, 0)))] == [(2, 0), (0,)]

    run()
    with unfused():
        run()


def test_errors_name_the_shapes():
    with pytest.raises(ValueError, match=r"rms_norm: input must end in normalized_shape \(3,\), its shape is \(2, 4\)"):
        rms_norm(np.ones((2, 4)), 3)
    with pytest.raises(ValueError, match=r"rms_norm: weight must have normalized_shape .* \(2,\)"):
        rms_norm(np.ones((2, 3)), 3, np.ones(2))
    with pytest.raises(TypeError, match="rms_norm: input must hold floats, it is int64"):
        rms_norm(np.ones((2, 3), int), 3)
