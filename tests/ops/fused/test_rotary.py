"""Rotary positions: what the paper promises of them, derivatives, and decoding from a start."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.check import gradcheck, gradgradcheck
from tinygrad_attn.nn import functional as F
from tinygrad_attn.ops.fused.rotary import rotary_tables
from tinygrad_attn.tensor import Tensor


@given(st.integers(0, 2**32 - 1), st.integers(0, 50), st.integers(0, 50), st.integers(0, 1000))
def test_a_score_depends_on_the_distance_alone_and_lengths_stay(seed, p, q, shift):
    query, key = np.random.default_rng(seed).standard_normal((2, 1, 8))

    def score(p, q):
        return (F.rotary(query, p).array * F.rotary(key, q).array).sum()

    np.testing.assert_allclose(score(p, q), score(p + shift, q + shift), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(F.rotary(query, p).array), np.linalg.norm(query), rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_derivatives(seed, length, half, heads_last):
    x = Tensor(np.random.default_rng(seed).standard_normal((2, length, 3, 2 * half)), requires_grad=True)

    def turn(x):
        return F.rotary(x, 2, 5.0, dim=-3 if heads_last else -2)

    gradcheck(turn, [x])
    gradgradcheck(turn, [x])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_later_part_is_that_of_the_whole(dtype):
    encoding, x = nn.RotaryPositionalEncoding(6), ta.randn(2, 3, 5, 6, dtype=dtype)
    whole = encoding(x)
    assert whole.dtype == dtype and not list(encoding.parameters())
    np.testing.assert_array_equal(encoding(x[:, :, 3:], start=3).array, whole.array[:, :, 3:])
    exchanged = encoding(x.transpose(1, 2), position_dim=1)
    np.testing.assert_array_equal(exchanged.array, whole.array.swapaxes(1, 2))
    np.testing.assert_array_equal(whole.array[:, :, 0], x.array[:, :, 0])


def test_complaints():
    with pytest.raises(ValueError, match=r"RotaryPositionalEncoding: dim must be even, .* got 5"):
        nn.RotaryPositionalEncoding(5)
    with pytest.raises(ValueError, match=r"RotaryPositionalEncoding: input must be \(…, T, 6\), it has shape \(2, 4\)"):
        nn.RotaryPositionalEncoding(6)(ta.ones(2, 4))
    with pytest.raises(ValueError, match="start must be at least 0, got -1"):
        nn.RotaryPositionalEncoding(4)(ta.ones(2, 4), start=-1)
    with pytest.raises(ValueError, match="dim -1 is the axis whose pairs are rotated"):
        F.rotary(np.ones((2, 4)), dim=-1)


def test_few_tables_of_angles_are_kept():
    for start in range(20):
        F.rotary(np.ones((3, 4)), start)
    held = rotary_tables.cache_info()
    assert held.currsize <= 8 and held.maxsize == 8
    F.rotary(np.ones((3, 4)), 19)
    assert rotary_tables.cache_info().hits > held.hits
