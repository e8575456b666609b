from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.autograd import grad
from tinygrad_attn.check import gradgradcheck
from tinygrad_attn.ops.fused.softmax import log_softmax, masked_softmax, softmax
from tinygrad_attn.samples import Draw
from tinygrad_attn.tensor import Tensor

seeds = st.integers(0, 2**32 - 1)


@given(st.data())
def test_weights_sum_to_one_along_any_axis_of_any_layout(data):
    draw = Draw(lambda low, high: data.draw(st.integers(low, high)))
    shape = draw.shape((1, 4), (1, 5))
    x, dim = draw.floats(shape, -30.0, 30.0), draw.integer(-len(shape), len(shape) - 1)
    z = softmax(x, dim).array
    assert (z >= 0).all()
    np.testing.assert_allclose(z.sum(axis=dim), 1.0, rtol=1e-12)
    np.testing.assert_allclose(log_softmax(x, dim).array, np.log(z), rtol=1e-10, atol=1e-12)


@given(seeds, st.floats(-1e3, 1e3))
def test_a_shift_of_a_row_changes_nothing(seed, shift):
    x = np.random.default_rng(seed).standard_normal((3, 7))
    np.testing.assert_allclose(softmax(x + shift, 1).array, softmax(x, 1).array, rtol=1e-10)
    np.testing.assert_allclose(log_softmax(x + shift, 1).array, log_softmax(x, 1).array, rtol=1e-10, atol=1e-10)


@given(st.data())
def test_masked_softmax_is_softmax_of_what_is_left(data):
    draw = Draw(lambda low, high: data.draw(st.integers(low, high)))
    x, mask = draw.floats((3, 5)), draw.mask((3, 5))
    z = masked_softmax(x, mask).array
    for row, kept, weights in zip(x, mask, z, strict=True):
        assert np.array_equal(weights[~kept], np.zeros((~kept).sum()))
        np.testing.assert_allclose(weights[kept], softmax(row[kept], 0).array, rtol=1e-12)


def test_softmax_has_no_gradient_along_a_shift():
    x = Tensor(np.random.default_rng(0).standard_normal((3, 40)), requires_grad=True)
    g = np.random.default_rng(1).standard_normal((3, 40))
    for function in (softmax, log_softmax):
        (found,) = grad(function(x, 1), x, g)
        np.testing.assert_allclose(found.array.sum(axis=1), 0.0, atol=1e-13)


@pytest.mark.parametrize("left", [np.zeros(3, bool), np.zeros((1, 1), bool)])
def test_a_row_with_nothing_left_gives_zeros_and_zero_gradient(left):
    x = Tensor(np.array([[1.0, 2.0, 3.0]]), requires_grad=True)
    z = masked_softmax(x, left)
    assert np.array_equal(z.array, np.zeros((1, 3)))
    for create_graph in (False, True):
        (found,) = grad(z, x, np.full((1, 3), 5.0), retain_graph=True, create_graph=create_graph)
        assert np.array_equal(found.array, np.zeros((1, 3)))
    (second,) = grad(found, x, np.ones((1, 3)))
    assert np.array_equal(second.array, np.zeros((1, 3)))


def test_a_row_left_with_minus_infinity_alone_gives_zeros():
    z = masked_softmax(np.array([[-np.inf, 7.0]]), np.array([True, False]))
    assert np.array_equal(z.array, np.zeros((1, 2)))


@pytest.mark.parametrize("hidden", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_masked_may_be_anything(hidden):
    x = Tensor(np.array([[hidden, 1.0, 2.0]]), requires_grad=True)
    z = masked_softmax(x, np.array([False, True, True]))
    np.testing.assert_allclose(z.array[0], [0.0, *softmax(np.array([1.0, 2.0]), 0).array], rtol=1e-15)
    (found,) = grad(z, x, np.array([[3.0, 1.0, 2.0]]))
    assert found.array[0, 0] == 0.0
    assert np.isfinite(found.array).all()


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_a_broadcast_mask_along_any_axis(dim):
    rng = np.random.default_rng(0)
    x, mask = rng.standard_normal((2, 3, 4)), np.array([[True], [False], [True]])
    full = np.broadcast_to(mask, x.shape)
    assert np.array_equal(masked_softmax(x, mask, dim).array, masked_softmax(x, full, dim).array)


def test_minus_infinity_alone_gives_nan_without_a_mask():
    x = np.array([[-np.inf, -np.inf], [-np.inf, 1.0]])
    assert np.isnan(softmax(x, 1).array).tolist() == [[True, True], [False, False]]
    assert np.isnan(log_softmax(x, 1).array).tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("function", [softmax, log_softmax])
def test_a_scalar_is_a_row_of_one(function):
    x = Tensor(np.array(3.0), requires_grad=True)
    for dim in (0, -1):
        z = function(x, dim)
        assert z.shape == ()
        assert z.item() == (1.0 if function is softmax else 0.0)
        assert grad(z, x)[0].item() == 0.0


@pytest.mark.parametrize("function", [softmax, log_softmax])
def test_third_derivative(function):
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3)), requires_grad=True)
    g = Tensor(np.random.default_rng(1).standard_normal((2, 3)))
    gradgradcheck(lambda x: grad(function(x, 1), x, g, create_graph=True), [x])


@pytest.mark.parametrize("rows", [3, 5000])
def test_float32_stays(rows):
    x = Tensor(np.random.default_rng(0).standard_normal((rows, 9)).astype(np.float32), requires_grad=True)
    for z in (softmax(x, 0), log_softmax(x, 1), masked_softmax(x, x.array > 0)):
        assert z.dtype == np.float32
        assert grad(z, x, np.ones(z.shape, np.float32))[0].dtype == np.float32


def test_errors():
    x = np.ones((2, 3))
    with pytest.raises(TypeError, match=r"^softmax: .*dim"):
        softmax(x)
    with pytest.raises(TypeError, match=r"^softmax: dim must be an integer, got None"):
        softmax(x, None)
    with pytest.raises(IndexError, match=r"^log_softmax: dim -3 is out of range"):
        log_softmax(x, -3)
    with pytest.raises(TypeError, match=r"^masked_softmax: mask must be bool, it is int64"):
        masked_softmax(x, np.ones((2, 3), int))
    with pytest.raises(ValueError, match=r"^masked_softmax: mask of shape \(3, 2\) .* \(2, 3\)"):
        masked_softmax(x, np.ones((3, 2), bool))
