"""One row times a matrix: the bits of the same row among others, whatever is added or applied."""

import numpy as np
import pytest
from bits import examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.gemm.plan import SINGLE
from tinygrad_attn.kernels.gemm.product import ACTIVATION_CODES
from tinygrad_attn.kernels.gemm.shares import multiply


def _product(a, b, out, bias, code, accumulate):
    multiply(a, b, out, bias, code, accumulate, 1)
    return out


@examples
@given(
    depth=st.one_of(st.integers(1, 40), st.sampled_from([SINGLE.block_depth, SINGLE.block_depth + 1, 1500])),
    columns=st.integers(1, 70),
    dtype=st.sampled_from([np.float32, np.float64]),
    biased=st.booleans(),
    activation=st.sampled_from([None, "relu"]),
    accumulate=st.booleans(),
    apart=st.booleans(),
)
def test_a_row_alone_has_the_bits_of_a_row_among_others(depth, columns, dtype, biased, activation, accumulate, apart):
    rng = np.random.default_rng(depth)
    a = rng.standard_normal((3, 2 * depth)).astype(dtype)
    a = a[:, ::2] if apart else a[:, :depth]
    b, bias = (
        rng.standard_normal((depth, columns + 1)).astype(dtype)[:, :-1],
        rng.standard_normal(columns).astype(dtype),
    )
    outs = rng.standard_normal((3, columns)).astype(dtype)
    alone = outs[:1].copy()
    code = ACTIVATION_CODES[activation]
    together = _product(a, b, outs, bias if biased else None, code, accumulate)
    _product(a[:1], b, alone, bias if biased else None, code, accumulate)
    np.testing.assert_array_equal(alone, together[:1])


@pytest.mark.parametrize("columns", [1, 300_000])
def test_a_row_longer_than_the_scratch_memory(columns):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((1, 9)), rng.standard_normal((9, columns))
    out = rng.standard_normal((1, columns))
    expected = out + a @ b
    np.testing.assert_allclose(_product(a, b, out, None, -1, True), expected, rtol=1e-12, atol=1e-12)
