"""Errors in proportion to the terms that cancel: right numbers agree to a few roundings, wrong ones do not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.microscope.checks.rounding import Rounded, relative_error, rounded, terms_of, value_of
from tinygrad_attn_models.microscope.checks.softmax import softmax

EPS = np.finfo(float).eps


def highest(x):
    return value_of(x).max(axis=-1, keepdims=True)


# Each on arrays x and y: what a witness may compute.
FORMULAS = {
    "slope of tanh": lambda x, y: y * (1.0 - np.tanh(x) ** 2),
    "slope of sigmoid": lambda x, y: y / (1.0 + np.exp(-np.abs(x))) * (1.0 - 1.0 / (1.0 + np.exp(-np.abs(x)))),
    "softmax": lambda x, y: softmax(x),
    "softmax backward": lambda x, y: softmax(x) * (y - np.sum(softmax(x) * y, axis=-1, keepdims=True)),
    "product": lambda x, y: np.einsum("ij,kj->ik", x, y),
    "matmul": lambda x, y: x @ y.T,
    "variance": lambda x, y: x.var(axis=-1, keepdims=True) + y,
    "normal": lambda x, y: (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5),
    "log-sum": lambda x, y: x - highest(x) - np.log(np.exp(x - highest(x)).sum(axis=-1, keepdims=True)),
    "chosen": lambda x, y: np.where(value_of(x) > 0.0, np.maximum(x, y), np.concatenate([x, y])[:3]),
}


@pytest.mark.parametrize("name", FORMULAS)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-8, 0.1, 1.0, 30.0, 600.0]))
def test_the_error_of_float64_is_a_few_roundings_of_the_terms(name, seed, scale):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 3, 5)) * scale
    formula = FORMULAS[name]
    expected = formula(rounded(x), rounded(y))
    np.testing.assert_array_equal(value_of(expected), formula(x, y))
    more = formula(x.astype(np.longdouble), y.astype(np.longdouble)).astype(float)
    assert relative_error(more, expected).max() <= 100 * EPS
    wrong = more + 1e-6 * terms_of(expected) * rng.choice([-1.0, 1.0], more.shape)
    told = terms_of(expected) > 1e-280
    assert (relative_error(wrong, expected)[told] >= 1e-7).all()


def test_terms_are_larger_than_what_is_left_of_them():
    z = np.tanh(rounded(np.array([20.0])))
    slope = 1.0 - z * z
    assert slope.value[0] < 1e-15 and slope.terms[0] >= 2.0


def test_infinities_and_nans_agree_with_themselves_alone():
    expected = np.array([np.nan, np.inf, 1.0, np.nan, 1.0])
    errors = relative_error(np.array([np.nan, np.inf, 1.0, 1.0, np.nan]), Rounded(expected))
    np.testing.assert_array_equal(errors, [0.0, 0.0, 0.0, np.nan, np.nan])


def test_a_witness_without_terms_is_compared_with_its_largest_number():
    assert relative_error(np.array([1.0, 100.0]), np.array([1.1, 100.0])) == pytest.approx([0.001, 0.0])
