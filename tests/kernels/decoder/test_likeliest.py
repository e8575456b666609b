from __future__ import annotations

import numpy as np
import pytest
from bits import examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.decoder.likeliest import (
    likeliest,
    likeliest_in_numpy,
    log_normalisers,
    log_normalisers_in_numpy,
)

DTYPES = [np.float32, np.float64]


@examples
@given(
    st.integers(0, 1000), st.integers(1, 4), st.integers(1, 400), st.integers(1, 9), st.booleans(),
    st.sampled_from(DTYPES),
)  # fmt: skip
def test_the_largest_come_first_and_of_equals_the_first(seed, rows, symbols, count, few, dtype):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((rows, symbols)).astype(dtype)
    if few:  # many are equal, and some impossible
        logits = np.where(logits < 0.0, -np.inf, np.round(logits)).astype(dtype)
    for found, expected in zip(likeliest(logits, count), likeliest_in_numpy(logits, count), strict=True):
        np.testing.assert_array_equal(found, expected)


@examples
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 400), st.sampled_from(DTYPES))
def test_normalisers_are_those_of_the_softmax(seed, rows, symbols, dtype):
    logits = 20.0 * np.random.default_rng(seed).standard_normal((rows, symbols)).astype(dtype)
    expected = log_normalisers_in_numpy(logits.astype(np.float64))
    np.testing.assert_allclose(log_normalisers(logits), expected, rtol=1e-6 if dtype is np.float32 else 1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_impossible_adds_nothing(dtype):
    logits = np.full((1, 300), -np.inf, dtype)
    logits[0, [7, 290]] = 1.0
    np.testing.assert_allclose(log_normalisers(logits), [1.0 + np.log(2.0)])
