"""Sums, means, extremes, norms, spread, products: what check_op's smooth samples leave out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinygrad_attn.autograd import grad
from tinygrad_attn.check import gradcheck, gradgradcheck
from tinygrad_attn.ops.cumulative import cumsum, prod
from tinygrad_attn.ops.reduction import all, amax, amin, any, logsumexp, mean, sum, vector_norm
from tinygrad_attn.ops.variance import std, var, var_mean
from tinygrad_attn.tensor import Tensor

anything = arrays(np.float64, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), elements=st.floats(-10, 10))


def leaf(values: object) -> Tensor:
    return Tensor(np.array(values, float), requires_grad=True)


def gradient(z: Tensor, x: Tensor) -> np.ndarray:
    return grad(z, x, np.ones_like(z.array))[0].array


# -- properties --------------------------------------------------------------------------------------------------------


@given(anything, st.data())
def test_a_sum_over_axes_is_a_sum_of_sums(x: np.ndarray, data: st.DataObject) -> None:
    dims = data.draw(st.lists(st.sampled_from(range(x.ndim)), unique=True)) if x.ndim else []
    once = sum(Tensor(x), tuple(dims)) if dims else Tensor(x)
    one_by_one = Tensor(x)
    for dim in sorted(dims, reverse=True):
        one_by_one = sum(one_by_one, dim)
    np.testing.assert_allclose(once.array, one_by_one.array, rtol=1e-12, atol=1e-12)


@given(anything)
def test_keepdim_keeps_the_numbers(x: np.ndarray) -> None:
    for dim in [None, *range(x.ndim), tuple(range(0, x.ndim, 2)) or None]:
        for reduction in (sum, all, any, logsumexp, vector_norm):
            kept = reduction(Tensor(x), dim=dim, keepdim=True)
            assert kept.ndim == x.ndim
            np.testing.assert_array_equal(kept.array.ravel(), reduction(Tensor(x), dim=dim).array.ravel())


@given(arrays(np.float64, st.integers(1, 20), elements=st.floats(-10, 10)), st.floats(-1e6, 1e6))
def test_logsumexp_moves_with_its_input(x: np.ndarray, shift: float) -> None:
    moved = logsumexp(Tensor(x + shift), 0).item()
    assert moved == pytest.approx(logsumexp(Tensor(x), 0).item() + shift, rel=1e-9, abs=1e-8)


@given(arrays(np.float64, st.integers(1, 8), elements=st.sampled_from([0.0, 1.0, -2.0, 0.5])))
def test_prod_gradient_with_any_zeros(x: np.ndarray) -> None:
    tensor = Tensor(x, requires_grad=True)
    expected = [np.prod(np.delete(x, i)) for i in range(len(x))]
    np.testing.assert_allclose(gradient(prod(tensor), tensor), expected)
    gradcheck(prod, [tensor])
    gradgradcheck(prod, [tensor])


@given(arrays(np.float64, st.integers(1, 12), elements=st.sampled_from([0.0, 1.0, 2.0])))
def test_extremes_share_the_whole_gradient_evenly(x: np.ndarray) -> None:
    for extreme, value in ((amax, x.max()), (amin, x.min())):
        tensor = Tensor(x, requires_grad=True)
        parts = gradient(extreme(tensor), tensor)
        np.testing.assert_allclose(parts, (x == value) / np.count_nonzero(x == value))


@given(anything)
def test_last_of_a_running_sum_is_the_sum(x: np.ndarray) -> None:
    for dim in range(x.ndim):
        if x.shape[dim]:
            last = np.take(cumsum(Tensor(x), dim).array, -1, dim)
            np.testing.assert_allclose(last, sum(Tensor(x), dim).array, rtol=1e-12, atol=1e-12)


@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=st.floats(-5, 5)))
def test_var_is_the_mean_square_less_the_squared_mean(x: np.ndarray) -> None:
    expected = np.mean(x**2, 1) - np.mean(x, 1) ** 2
    np.testing.assert_allclose(var(Tensor(x), 1, correction=0).array, expected, atol=1e-12)


# -- dtypes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32])
def test_totals_of_integers_are_int64(dtype: type) -> None:
    x = Tensor(np.ones((2, 300), dtype))
    assert sum(x).item() == 600
    for z in (sum(x), sum(x, 0), prod(x), prod(x, 0), cumsum(x, 1)):
        assert z.dtype == np.int64


def test_dtype_brings_the_gradient_back() -> None:
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    for function in (sum, mean, prod, vector_norm):
        z = function(x, dtype=np.float64)
        assert z.dtype == np.float64
        assert grad(z, x)[0].dtype == np.float32


def test_float32_stays() -> None:
    x = Tensor(np.ones((2, 3), np.float32))
    for function in (sum, mean, var, std, prod, vector_norm, amax, lambda x: logsumexp(x, 0), lambda x: cumsum(x, 0)):
        assert function(x).dtype == np.float32


@pytest.mark.parametrize("function", [mean, var, std, vector_norm, var_mean])
def test_integers_are_refused(function) -> None:  # type: ignore[no-untyped-def]
    for dtype in (bool, int):
        with pytest.raises(TypeError, match=r"input must be float32 or float64, it is (bool|int64)"):
            function(Tensor(np.ones(3, dtype)))


# -- edges -------------------------------------------------------------------------------------------------------------


def test_nothing() -> None:
    empty = Tensor(np.ones((0, 3)))
    assert sum(empty, 0).tolist() == [0.0] * 3
    assert prod(empty, 0).tolist() == [1.0] * 3
    assert logsumexp(empty, 0).tolist() == [-math.inf] * 3
    assert np.isnan(mean(empty, 0).array).all()
    assert vector_norm(empty).item() == 0.0
    assert any(empty).item() is False
    assert all(empty).item() is True
    assert amax(empty, 1).shape == (0,)


@pytest.mark.parametrize("function", [amax, amin])
def test_extreme_of_nothing(function) -> None:  # type: ignore[no-untyped-def]
    for dim in ((), 0, (0, 1)):
        with pytest.raises(ValueError, match=r"axis 0 has size 0 in a tensor of shape \(0, 3\)"):
            function(Tensor(np.ones((0, 3))), dim)


def test_logsumexp_of_masked_rows() -> None:
    x = leaf([[-math.inf, -math.inf], [-math.inf, 1.0], [1000.0, 1000.0]])
    z = logsumexp(x, 1)
    np.testing.assert_allclose(z.array, [-math.inf, 1.0, 1000.0 + math.log(2.0)])
    found = gradient(z, x)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1:], [[0.0, 1.0], [0.5, 0.5]])


def test_std_of_equal_elements_is_flat() -> None:
    x = leaf([2.0, 2.0])
    (first,) = grad(std(x), x, create_graph=True)
    assert first.tolist() == [0.0, 0.0]
    assert np.isfinite(gradient(first, x)).all()


@pytest.mark.parametrize("ord", [2, 1, 3, 1.5, 0.5, math.inf, -math.inf, -1])
def test_norm_at_zero_is_flat(ord: float) -> None:
    x = leaf([0.0, 0.0])
    (first,) = grad(vector_norm(x, ord), x, create_graph=True)
    assert first.tolist() == [0.0, 0.0]
    assert np.isfinite(gradient(first, x)).all()


def test_a_zero_beside_others_has_finite_norm_gradients() -> None:
    x = leaf([0.0, 3.0, -4.0])
    for ord in (0.5, 1.5, 2, 2.5, 3):
        (first,) = grad(vector_norm(x, ord), x, create_graph=True)
        assert first.array[0] == 0.0
        assert np.isfinite(gradient(first, x)).all()


def test_a_count_is_flat() -> None:
    x = leaf([0.0, 3.0, math.inf])
    z = vector_norm(x, 0)
    assert z.item() == 2.0
    assert gradient(z, x).tolist() == [0.0, 0.0, 0.0]


def test_norm_of_unknown_order() -> None:
    with pytest.raises(TypeError, match="ord must be a number, got 'fro'"):
        vector_norm(leaf([1.0]), "fro")  # type: ignore[arg-type]


def test_nan_passes() -> None:
    x = Tensor(np.array([1.0, math.nan]))
    for function in (sum, mean, var, amax, amin, prod, vector_norm, lambda x: logsumexp(x, 0)):
        assert math.isnan(function(x).item())


# -- arguments ---------------------------------------------------------------------------------------------------------


def test_conflicting_arguments() -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises(TypeError, match="unbiased=True and correction=0 say the same"):
        var(x, unbiased=True, correction=0)
    with pytest.raises(TypeError, match="std: dim must be an axis"):
        std(x, True, False)
    with pytest.raises(TypeError, match="keepdim needs a dim"):
        prod(x, keepdim=True)
    with pytest.raises(IndexError, match="prod: dim 1 is out of range"):
        prod(leaf(1.0), 1)


@pytest.mark.parametrize("option", ["axes", "keep", "out"])
def test_unknown_options_are_named(option: str) -> None:
    for function in (sum, mean, amax, var, prod, vector_norm, any):
        with pytest.raises(TypeError, match=option):
            function(leaf([1.0]), **{option: None})
