from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_attn.kernels.softmax import (
    log_softmax,
    log_softmax_backward,
    log_softmax_backward_in_numpy,
    log_softmax_in_numpy,
    softmax,
    softmax_backward,
    softmax_backward_in_numpy,
    softmax_in_numpy,
)

DTYPES = [np.float32, np.float64]
BACKWARD = {np.float32: 1e-5, np.float64: 2e-14}


shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=9) | st.tuples(st.integers(1, 5), st.integers(1, 100))


@examples
@given(st.data(), shapes, st.sampled_from(DTYPES))
def test_softmax_equals_its_formula(data, shape, dtype):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    x = (5 * rng.standard_normal(shape)).astype(dtype)
    mask = rng.random(data.draw(hnp.broadcastable_shapes(shape, max_dims=len(shape), max_side=max(shape)))) < 0.6
    if np.broadcast_shapes(mask.shape, shape) != shape:
        mask = mask[(slice(0, 1),) * mask.ndim]
    before = x.copy()
    # Rounding x - max(x) to half an ulp changes its exponential by that much, relatively; the rest adds a few ulp.
    relative = np.finfo(dtype).eps * (8 + np.ptp(x))
    wide = x.astype(np.float64)
    np.testing.assert_allclose(softmax(x), softmax_in_numpy(wide), rtol=relative)
    y = softmax(x, mask)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, softmax_in_numpy(wide, mask), rtol=relative)
    np.testing.assert_allclose(log_softmax(x), log_softmax_in_numpy(wide), rtol=0, atol=relative)
    np.testing.assert_array_equal(x, before)


@examples
@given(st.integers(0, 1000), shapes, st.sampled_from(DTYPES))
def test_backward_equals_its_formula(seed, shape, dtype):
    rng = np.random.default_rng(seed)
    g, x = rng.standard_normal((2, *shape)).astype(dtype)
    wide, y = g.astype(np.float64), softmax(x)
    expected = softmax_backward_in_numpy(wide, y)
    np.testing.assert_allclose(softmax_backward(g, y), expected, rtol=0, atol=BACKWARD[dtype])
    z = log_softmax(x)
    expected = log_softmax_backward_in_numpy(wide, z.astype(np.float64))
    np.testing.assert_allclose(log_softmax_backward(g, z), expected, rtol=0, atol=BACKWARD[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_with_nothing_left_give_zeros_and_pass_none(dtype):
    x = np.zeros((3, 19), dtype)
    x[1] = -np.inf
    mask = np.ones((3, 19), bool)
    mask[2] = False
    y = softmax(x, mask)
    np.testing.assert_array_equal(y[1:], 0)
    np.testing.assert_allclose(y[0], 1 / 19, rtol=1e-6)
    np.testing.assert_array_equal(softmax_backward(np.ones_like(x), y)[1:], 0)
    assert (log_softmax(x)[1] == -np.inf).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [0, 7, 18])
def test_infinities_and_nan(dtype, place):
    x = np.zeros((1, 19), dtype)
    x[0, place] = -np.inf
    assert softmax(x)[0, place] == 0
    np.testing.assert_allclose(softmax(x).sum(), 1, rtol=1e-6)
    for value in (np.inf, np.nan):
        x[0, place] = value
        assert np.isnan(softmax(x)).any()
    x[:] = -np.inf
    x[0, place] = np.nan
    assert np.isnan(softmax(x)).all()


def test_masked_elements_are_exactly_zero_whatever_they_hold():
    x = np.array([[1.0, np.nan, np.inf, 2.0]], np.float32)
    mask = np.array([True, False, False, True])
    np.testing.assert_allclose(softmax(x, mask), [[1 / (1 + np.e), 0, 0, np.e / (1 + np.e)]], rtol=1e-6)


def test_a_mask_is_not_expanded_along_leading_axes():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    mask = np.random.default_rng(1).random((2, 1, 1, 5)) < 0.5
    strided = np.broadcast_to(mask, x.shape)
    np.testing.assert_array_equal(softmax(x, mask), softmax(x, strided))
    np.testing.assert_array_equal(softmax(x, mask), softmax(x, np.ascontiguousarray(strided)))


def test_out_may_be_the_input_and_strides_may_be_any():
    x = np.random.default_rng(0).standard_normal((6, 40, 23)).astype(np.float32)
    expected = softmax(x)
    turned = np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0)
    np.testing.assert_array_equal(softmax(turned), expected)
    g = np.ones_like(x)
    gradient = softmax_backward(g, expected)
    assert softmax_backward(g, expected, out=g) is g
    np.testing.assert_array_equal(g, gradient)
    mask = np.arange(23) < 20
    masked = softmax(x, mask)
    assert softmax(x, mask, out=x) is x
    np.testing.assert_array_equal(x, masked)


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 50000), (3001, 25), (70, 1000)])
def test_same_bits_for_any_number_of_threads(shape, dtype):
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, *shape)).astype(dtype)
    mask = rng.random(shape) < 0.5
    y, z = softmax(x), log_softmax(x)
    assert_same_bits(lambda: (softmax(x), softmax(x, mask), log_softmax(x)))
    assert_same_bits(lambda: (softmax_backward(g, y), log_softmax_backward(g, z)))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
def test_empty(shape):
    x = np.zeros(shape, np.float32)
    assert softmax(x).shape == softmax(x, np.ones(shape, bool)).shape == log_softmax(x).shape == shape
    assert softmax_backward(x, x).shape == log_softmax_backward(x, x).shape == shape


def test_errors_name_the_thing():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(TypeError, match="int64"):
        softmax(np.zeros((2, 3), np.int64))
    with pytest.raises(ValueError, match="0-d"):
        softmax(np.float32(1.0).reshape(()))
    with pytest.raises(TypeError, match="mask must be boolean"):
        softmax(x, np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"mask \(4,\) does not broadcast to \(2, 3\)"):
        softmax(x, np.ones(4, bool))
    with pytest.raises(ValueError, match=r"mask \(4, 1, 3\) does not broadcast to \(2, 3\)"):
        softmax(x, np.ones((4, 1, 3), bool))
    with pytest.raises(ValueError, match=r"mask \(3, 3\) does not broadcast to \(2, 3\)"):
        softmax(x, np.ones((3, 3), bool))
    with pytest.raises(ValueError, match=r"gradient \(2, 3\).*output \(3, 2\)"):
        softmax_backward(x, x.reshape(3, 2))
    with pytest.raises(ValueError, match="out must be writeable, C-contiguous"):
        softmax(x, out=np.zeros((3, 2), np.float32))


def test_equals_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, g = 3 * rng.standard_normal((2, 4, 5, 37))
    leaf = torch.from_numpy(x).requires_grad_()
    for ours, backward, theirs in (
        (softmax, softmax_backward, torch.softmax),
        (log_softmax, log_softmax_backward, torch.log_softmax),
    ):
        output = theirs(leaf, -1)
        np.testing.assert_allclose(ours(x), output.detach().numpy(), rtol=1e-13)
        (gradient,) = torch.autograd.grad(output, leaf, torch.from_numpy(g))
        np.testing.assert_allclose(backward(g, ours(x)), gradient.numpy(), rtol=1e-12, atol=1e-14)
