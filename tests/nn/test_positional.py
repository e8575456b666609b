from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.nn import functional as F
from tinygrad_attn.nn.positional import sinusoids


@pytest.mark.parametrize("d_model", [1, 2, 5, 8])
def test_sinusoids_are_the_papers(d_model):
    table = sinusoids(7, d_model, start=2)
    for row, place in enumerate(range(2, 9)):
        for i in range(d_model):
            angle = place / 10000 ** (i // 2 * 2 / d_model)
            assert math.isclose(table[row, i], math.cos(angle) if i % 2 else math.sin(angle), abs_tol=1e-15)


def test_a_shift_is_a_linear_map_of_the_encoding():
    """The reason that the paper gives for them: PE(p + k) is a rotation of PE(p), the same at every p."""
    table = sinusoids(30, 6)
    shift, *_ = np.linalg.lstsq(table[:-3], table[3:], rcond=None)
    np.testing.assert_allclose(table[:-3] @ shift, table[3:], atol=1e-12)
    np.testing.assert_allclose(shift @ shift.T, np.eye(6), atol=1e-12)


def test_steps_of_a_decoder_share_one_table():
    encoding = nn.SinusoidalPositionalEncoding(6)
    first, later = encoding.vectors(1, 513).array, encoding.vectors(1, 1000).array
    assert first.base is later.base is not None
    far = 1 << 20
    np.testing.assert_array_equal(encoding.vectors(2, far, np.float64).array, sinusoids(2, 6, far))
    np.testing.assert_array_equal(encoding.vectors(2, -1, np.float64).array, sinusoids(2, 6, -1))
    assert encoding.vectors(0).shape == (0, 6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_encodings_are_added_from_a_start(dtype):
    x = ta.randn(2, 5, 6, dtype=dtype)
    for encoding, table in [
        (nn.SinusoidalPositionalEncoding(6), sinusoids(9, 6).astype(dtype)),
        (learned := nn.LearnedPositionalEncoding(9, 6, dtype=dtype), learned.weight.array),
    ]:
        whole = encoding(x)
        assert whole.dtype == dtype
        np.testing.assert_array_equal(whole.array, x.array + table[:5])
        np.testing.assert_array_equal(encoding(x[:, 3:4], start=3).array, whole.array[:, 3:4])
        np.testing.assert_array_equal(encoding(x[0]).array, whole.array[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_placed_embedding_is_scaled_and_has_positions_added(dtype):
    embedding = nn.Embedding(7, 6, padding_idx=1, dtype=dtype)
    tokens = ta.Tensor(np.array([[3, 1, 6], [3, 0, 0]]))
    for encoding in (nn.SinusoidalPositionalEncoding(6), nn.LearnedPositionalEncoding(9, 6, dtype=dtype)):
        vectors = encoding.vectors(3, 2, dtype)
        at_once = F.placed_embedding(tokens, embedding.weight, vectors, scale=2.0, padding_idx=1)
        expected = encoding(embedding(tokens) * 2.0, 2)
        np.testing.assert_array_equal(at_once.array, expected.array)
        parameters = [embedding.weight, *encoding.parameters()]
        g = np.random.default_rng(0).standard_normal(at_once.shape).astype(dtype)
        for found, one in zip(ta.grad(at_once, parameters, g), ta.grad(expected, parameters, g), strict=True):
            np.testing.assert_allclose(found.array, one.array, rtol=1e-6, atol=1e-6)


def test_only_places_that_are_used_learn():
    encoding = nn.LearnedPositionalEncoding(9, 6)
    encoding(ta.zeros(2, 3, 6), start=4).sum().backward()
    expected = np.zeros((9, 6), np.float32)
    expected[4:7] = 2.0
    np.testing.assert_array_equal(encoding.weight.grad.array, expected)
    assert (
        not list(nn.SinusoidalPositionalEncoding(6).parameters())
        and not nn.SinusoidalPositionalEncoding(6).state_dict()
    )
    assert abs(nn.LearnedPositionalEncoding(200, 50).weight.array.std() - 0.02) < 0.001


def test_complaints():
    with pytest.raises(
        ValueError, match=r"SinusoidalPositionalEncoding: input must be \(…, T, 6\), it has shape \(2, 5\)"
    ):
        nn.SinusoidalPositionalEncoding(6)(ta.ones(2, 5))
    with pytest.raises(ValueError, match="positions 3 to 5 are not all within max_length 5"):
        nn.LearnedPositionalEncoding(5, 6)(ta.ones(3, 6), start=3)
