from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.attention.additive import (
    additive_scores,
    additive_scores_backward,
    additive_scores_backward_in_numpy,
    additive_scores_in_numpy,
)

TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


def sample(seed, batch, queries, length, size, dtype=np.float64):
    """query, keys and energy, then a gradient of the scores."""
    rng = np.random.default_rng(seed)
    shapes = [(batch, queries, size), (batch, length, size), (size,), (batch, queries, length)]
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@examples
@given(
    st.integers(0, 1000),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 4),
    st.integers(1, 35),
    st.sampled_from([np.float32, np.float64]),
)
def test_equals_the_formulas(seed, batch, queries, length, size, dtype):
    query, keys, energy, g = sample(seed, batch, queries, length, size, dtype)
    scores = additive_scores(query, keys, energy)
    wide = [x.astype(np.float64) for x in (g, query, keys, energy)]
    assert scores.dtype == dtype
    np.testing.assert_allclose(scores, additive_scores_in_numpy(*wide[1:]), rtol=0, atol=TOLERANCE[dtype])
    expected = additive_scores_backward_in_numpy(*wide)
    for found, gradient in zip(additive_scores_backward(g, query, keys, energy), expected, strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, gradient, rtol=0, atol=TOLERANCE[dtype])


def test_a_key_whose_score_has_no_gradient_is_not_looked_at():
    query, keys, energy, g = sample(0, 1, 2, 3, 5)
    keys[:, 1], g[..., 1] = np.nan, 0.0
    for gradient in additive_scores_backward(g, query, keys, energy):
        assert np.isfinite(gradient).all()


@compiled_only
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_for_any_number_of_threads(dtype):
    query, keys, energy, g = sample(0, 5, 7, 9, 50, dtype)
    assert_same_bits(lambda: [additive_scores(query, keys, energy), *additive_scores_backward(g, query, keys, energy)])
