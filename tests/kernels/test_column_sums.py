from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.column_sums import column_sums


@examples
@given(st.integers(0, 1000), st.integers(0, 70), st.integers(0, 40), st.sampled_from([np.float32, np.float64]))
def test_equals_numpy(seed, rows, columns, dtype):
    matrix = np.random.default_rng(seed).standard_normal((columns, rows)).astype(dtype).T
    sums = column_sums(matrix)
    assert sums.dtype == dtype and sums.shape == (columns,)
    bound = np.finfo(dtype).eps * (rows + 1) * np.abs(matrix).sum(0)
    assert (np.abs(sums - matrix.sum(0, dtype=np.float64)) <= bound).all()


@compiled_only
@pytest.mark.parametrize("shape", [(1000, 100), (37, 5000)])
def test_same_bits_for_any_number_of_threads(shape):
    matrix = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert_same_bits(lambda: column_sums(matrix))
