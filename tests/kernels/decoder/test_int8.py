"""Products with 8-bit weights: what they compute, how far that is from float32, and what LLVM makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from bits import examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.decoder.int8 import _limit, dequantized, multiply_int8_in_numpy, pack_int8
from tinygrad_attn.kernels.decoder.linear import columns_call, linear_of, rows_call
from tinygrad_attn.kernels.decoder.program import Program
from tinygrad_attn.kernels.simd.dots import dots


def multiply(x, matrix, bias, **options):
    packed, y = pack_int8(matrix), np.full((len(x), matrix.shape[1] + 2), 5.0, np.float32)
    Program([rows_call(np.float32, linear_of(packed, bias, x, y, **options))]).run(len(x))
    assert (y[:, matrix.shape[1] :] == 5.0).all()
    return y[:, : matrix.shape[1]]


@examples
@given(st.integers(0, 1000), st.tuples(*[st.integers(1, n) for n in (40, 40, 130)]), st.booleans())
def test_products_are_those_of_rounded_weights_and_rows(seed, sizes, biased):
    rows, depth, columns = sizes
    rng = np.random.default_rng(seed)
    x, matrix = rng.standard_normal((rows, depth), np.float32), rng.standard_normal((depth, columns), np.float32)
    matrix *= 10.0 ** rng.integers(-3, 4, columns)  # each column has its scale
    matrix = matrix.astype(np.float32)
    bias = rng.standard_normal(columns, np.float32) if biased else None
    expected = multiply_int8_in_numpy(x, matrix, bias)
    scale = 1e-5 * (np.abs(x).max() * np.abs(matrix).max(0) * depth + 1.0)
    assert (np.abs(multiply(x, matrix, bias) - expected) <= scale).all()
    assert (np.abs(multiply(x, matrix, bias, add=True) - expected - 5.0) <= scale + 1e-5).all()
    assert (np.abs(multiply(x, matrix, bias, relu=True) - np.maximum(expected, 0.0)) <= scale).all()


@examples
@given(st.integers(0, 1000), st.integers(1, 300), st.integers(1, 40))
def test_the_error_is_at_most_what_rounding_allows(seed, depth, columns):
    """A weight is off by half a scale, an element of x by half of its; the products with them by no more."""
    rng = np.random.default_rng(seed)
    x, matrix = rng.standard_normal((3, depth), np.float32), rng.standard_normal((depth, columns), np.float32)
    weight_error = np.abs(matrix).max(0) / 127 / 2
    x_error = np.abs(x).max(1, keepdims=True) / _limit(depth, dots().bits) / 2
    bound = np.abs(x).sum(1, keepdims=True) * weight_error + x_error * (np.abs(matrix).sum(0) + depth * weight_error)
    exact = x.astype(np.float64) @ matrix
    assert (np.abs(multiply(x, matrix, None) - exact) <= 1.001 * bound + 1e-5 * depth).all()
    assert (np.abs(dequantized(matrix) - matrix) <= 1.001 * weight_error).all()


def test_columns_divided_among_threads():
    rng = np.random.default_rng(0)
    x, matrix = rng.standard_normal((3, 30), np.float32), rng.standard_normal((30, 200), np.float32)
    packed, y = pack_int8(matrix), np.empty((3, 200), np.float32)
    Program([columns_call(np.float32, linear_of(packed, None, x, y, rows=np.array([3])))]).run(len(packed.panels))
    np.testing.assert_array_equal(y, multiply(x, matrix, None))


@pytest.mark.parametrize("depth", [1, 2, 256, 4096, 20_000])
def test_no_sum_leaves_32_bits(depth):
    x, matrix = np.full((2, depth), 3.0, np.float32), np.full((depth, 1), 0.5, np.float32)
    x[1] *= -1.0
    np.testing.assert_allclose(multiply(x, matrix, None), [[1.5 * depth], [-1.5 * depth]], rtol=1e-3)


def test_rows_and_columns_of_zeros():
    x, matrix = np.zeros((2, 5), np.float32), np.ones((5, 3), np.float32)
    x[1], matrix[:, 1] = 1.0, 0.0
    np.testing.assert_allclose(multiply(x, matrix, None), [[0, 0, 0], [5, 0, 5]], rtol=1e-4)
