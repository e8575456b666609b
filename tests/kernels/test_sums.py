"""Long sums: as accurate as pairwise ones along every axis of any array, and short ones NumPy's to the bit."""

import numpy as np
import pytest
from bits import assert_same_bits, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.column_sums import column_sums
from tinygrad_attn.kernels.scatter import scatter_add_rows
from tinygrad_attn.kernels.sums import add_repeated, running_sum, sum_over

EPS = float(np.finfo(np.float32).eps)  # 1.2e-7: two units of rounding


@st.composite
def arrays(draw, longest):
    """An array of any layout, and axes to sum. Numbers of one sign and size are the worst to add in a chain."""
    shape = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    shape[draw(st.integers(0, len(shape) - 1))] = draw(st.integers(1, longest))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    x = (rng.random([2 * size for size in shape]) + draw(st.sampled_from([0.1, -0.5, 7.0]))).astype(np.float32)
    x = x[tuple(slice(None, None, draw(st.sampled_from([2, -2]))) for _ in shape)]
    x = x.transpose(draw(st.permutations(range(len(shape)))))
    if draw(st.booleans()):
        x = np.array(x, order=draw(st.sampled_from(["C", "F"])))
    axes = [axis for axis in range(len(shape)) if draw(st.booleans())]
    return x, tuple(axes)


@examples
@given(arrays(20_000), st.booleans())
def test_a_sum_is_accurate_along_any_axes(drawn, keepdims):
    x, axes = drawn
    found = sum_over(x, axes, keepdims)
    expected = x.sum(axis=axes, keepdims=keepdims, dtype=np.float64)
    bound = 8 * EPS * np.abs(x).sum(axis=axes, keepdims=keepdims, dtype=np.float64)
    assert np.shape(found) == expected.shape and np.asarray(found).dtype == np.float32
    assert (np.abs(found - expected) <= bound).all()


@examples
@given(arrays(1), st.booleans())
def test_a_short_sum_is_that_of_numpy(drawn, keepdims):
    x, axes = drawn
    np.testing.assert_array_equal(sum_over(x, axes, keepdims), np.add.reduce(x, axis=axes, keepdims=keepdims))


@pytest.mark.parametrize("shape", [(3_000_000, 2), (70_000, 33), (1, 2_000_000, 1), (2, 600_000, 3)])
@pytest.mark.parametrize("value", [0.1, 1.0, 3e38 / 4e6])
def test_millions_of_equal_numbers(shape, value):
    x = np.full(shape, value, np.float32)
    axis = len(shape) - 2
    expected = x.shape[axis] * float(np.float32(value))
    np.testing.assert_allclose(sum_over(x, (axis,)), expected, rtol=8 * EPS)
    running = running_sum(x, axis)
    np.testing.assert_allclose(running.take(-1, axis), expected, rtol=EPS)


def test_infinities_and_nan_are_those_of_numpy():
    x = np.ones((5_000, 6), np.float32)
    x[7, 0], x[4_000, 1], x[9, 2], x[4_999, 2], x[3_000, 3] = np.inf, -np.inf, np.inf, -np.inf, np.nan
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(sum_over(x, (0,)), [np.inf, -np.inf, np.nan, np.nan, 5_000, 5_000])


def test_no_numbers_and_other_dtypes():
    assert sum_over(np.ones((0, 3), np.float32), (0,)).tolist() == [0, 0, 0]
    assert sum_over(np.ones((1_000, 3), np.bool_), (0,), dtype=np.int64).tolist() == [1_000] * 3
    np.testing.assert_allclose(sum_over(np.full((100_000, 2), 0.1), (0,)), 10_000, rtol=1e-14)


@pytest.mark.parametrize("rows", [100, 5_000, 200_000])
def test_column_sums_are_accurate_and_the_same_for_any_number_of_threads(rows):
    x = (np.random.default_rng(0).random((rows, 19)) + 0.1).astype(np.float32)
    found = column_sums(x)
    np.testing.assert_allclose(found, x.sum(0, dtype=np.float64), rtol=12 * EPS)
    assert_same_bits(lambda: column_sums(x))


@pytest.mark.parametrize("shape", [(), (1,), (33,), (2, 8)])
def test_rows_added_to_one_row_over_and_over(shape):
    rng = np.random.default_rng(0)
    index = np.concatenate([np.full(60_000, 3), rng.integers(0, 9, 2_000), np.full(600, 0)])
    rows = np.full((index.size, *shape), 0.1, np.float32)
    out = np.ones((9, *shape), np.float32)
    expected = np.ones((9, *shape))
    np.add.at(expected, index, rows.astype(np.float64))
    np.testing.assert_allclose(scatter_add_rows(out, index, rows), expected, rtol=60 * EPS)
    assert np.allclose(out[3], expected[3], rtol=8 * EPS, atol=0)
    if not shape:
        table = np.ones(9, np.float32)
        add_repeated(table, index, rows)
        np.testing.assert_allclose(table, expected, rtol=EPS)
