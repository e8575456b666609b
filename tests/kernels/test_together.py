from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.column_sums import column_sums
from tinygrad_attn.kernels.gemm.product import gemm
from tinygrad_attn.kernels.sums import sum_over
from tinygrad_attn.kernels.together import multiply_and_sum


@examples
@given(st.integers(0, 2000), st.integers(0, 70), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_sums_in_chains_have_the_bits_of_numpys_in_blocks(rows, columns, dtype, wide):
    columns += 1000 * wide * (rows < 700)
    matrix = np.random.default_rng(rows).standard_normal((rows, columns)).astype(dtype)
    total = np.full(columns, np.nan, dtype)
    multiply_and_sum([], [(matrix, total)], in_chains=True)
    np.testing.assert_array_equal(total, sum_over(matrix, (0,)))


def _work(seed=0):
    """Products of several ranks and sizes, one of them empty, and sums."""
    rng = np.random.default_rng(seed)
    pairs = [
        ((70, 30), (30, 200)),
        ((2, 2), (2, 2)),
        ((3, 40, 50), (3, 50, 60)),
        ((5, 0), (0, 4)),
        ((300, 90), (90, 40)),
    ]
    products = [[rng.standard_normal(shape).astype(np.float32) for shape in pair] for pair in pairs]
    products[0][0] = np.asfortranarray(products[0][0])
    for pair in products:
        pair.append(np.full((*pair[0].shape[:-1], pair[1].shape[-1]), np.nan, np.float32))
    sums = [
        (rng.standard_normal(shape).astype(np.float32), np.empty(shape[1], np.float32))
        for shape in ((600, 70), (9, 300))
    ]
    return products, sums


@pytest.mark.parametrize("in_chains", [False, True])
def test_all_has_the_bits_of_each(in_chains):
    products, sums = _work()
    multiply_and_sum(products, sums, in_chains)
    for a, b, c in products:
        np.testing.assert_array_equal(c, gemm(a, b))
    for matrix, total in sums:
        np.testing.assert_array_equal(total, sum_over(matrix, (0,)) if in_chains else column_sums(matrix))


@compiled_only
@pytest.mark.parametrize("in_chains", [False, True])
def test_same_bits_for_any_number_of_threads(in_chains):
    def results():
        products, sums = _work()
        multiply_and_sum(products, sums, in_chains)
        return [each[-1] for each in (*products, *sums)]

    assert_same_bits(results)
