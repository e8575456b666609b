from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.scatter import scatter_add_rows, scattered_rows

DTYPES = [np.float32, np.float64]


@examples
@given(st.integers(0, 1000), st.integers(1, 6), st.integers(0, 40), st.integers(1, 70), st.sampled_from(DTYPES))
def test_equals_numpy_add_at_bit_for_bit(seed, table, count, width, dtype):
    rng = np.random.default_rng(seed)
    out = rng.standard_normal((table, width)).astype(dtype)
    rows = rng.standard_normal((count, width)).astype(dtype)
    index = rng.integers(0, table, count)
    expected = out.copy()
    np.add.at(expected, index, rows)
    assert scatter_add_rows(out, index, rows) is out
    np.testing.assert_array_equal(out, expected)
    alone = scatter_add_rows(np.zeros_like(out), index, rows)
    np.testing.assert_array_equal(scattered_rows(out.shape, index, rows), alone)


def test_any_rank():
    rng = np.random.default_rng(0)
    out, index = np.zeros((4, 2, 3)), rng.integers(0, 4, (5, 6))
    rows = rng.standard_normal((5, 6, 2, 3))
    expected = np.zeros_like(out)
    np.add.at(expected, index, rows)
    np.testing.assert_array_equal(scatter_add_rows(out, index.astype(np.uint8), rows), expected)
    scalars = np.zeros(4)
    np.testing.assert_array_equal(
        scatter_add_rows(scalars, np.array([1, 3, 1]), np.array([1.0, 2.0, 4.0])), [0, 5, 0, 2]
    )
    turned = np.ascontiguousarray(rows.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    np.testing.assert_array_equal(scatter_add_rows(np.zeros_like(out), index, turned), expected)
    np.testing.assert_array_equal(scattered_rows(out.shape, index, turned), expected)


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [33, 128, 300])
def test_same_bits_for_any_number_of_threads(width, dtype):
    rng = np.random.default_rng(0)
    rows, index = rng.standard_normal((1000, width)).astype(dtype), rng.integers(0, 3, 1000)
    assert_same_bits(lambda: scatter_add_rows(np.zeros((3, width), dtype), index, rows))
    assert_same_bits(lambda: scattered_rows((2000, width), index, rows))


def test_empty():
    out = np.ones((3, 4))
    np.testing.assert_array_equal(scatter_add_rows(out, np.zeros(0, np.int64), np.zeros((0, 4))), 1)
    assert scatter_add_rows(np.ones((3, 0)), np.array([2]), np.zeros((1, 0))).shape == (3, 0)


def test_errors_name_the_thing():
    out = np.zeros((3, 4))
    with pytest.raises(IndexError, match=r"from 0 to 2 .* got values from -1 to 3"):
        scatter_add_rows(out, np.array([-1, 3]), np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"must be \(2, 4\), got \(2, 5\)"):
        scatter_add_rows(out, np.array([0, 1]), np.zeros((2, 5)))
    with pytest.raises(TypeError, match="rows are float32 but out is float64"):
        scatter_add_rows(out, np.array([0]), np.zeros((1, 4), np.float32))
    with pytest.raises(TypeError, match="index must hold integers"):
        scatter_add_rows(out, np.array([0.0]), np.zeros((1, 4)))
    with pytest.raises(ValueError, match="C-contiguous"):
        scatter_add_rows(out.T, np.array([0]), np.zeros((1, 3)))
    with pytest.raises(TypeError, match="float32 or float64"):
        scatter_add_rows(np.zeros((3, 4), np.int64), np.array([0]), np.zeros((1, 4), np.int64))
