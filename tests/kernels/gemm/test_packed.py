from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.gemm.packed import Rows, multiply_packed, multiply_packed_in_numpy, pack
from tinygrad_attn.kernels.runtime.flat import flat
from tinygrad_attn.kernels.runtime.jit import serial_kernel

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


@serial_kernel
def call(arguments):
    multiply_packed(*arguments)


def multiply(a, b, c, bias=None, accumulate=False, backwards=False):
    """C, or C +, = A B + bias, where A and C are every other row of what is given."""
    a_rows, c_rows = (Rows(x.reshape(-1), x.shape[1], 2 * x.shape[1]) for x in (a, c))
    call((len(a) // 2, a_rows, pack(b), flat(bias, a.dtype), c_rows, accumulate, backwards))


@examples
@given(
    st.integers(0, 1000),
    st.integers(0, 20),
    st.integers(1, 20),
    st.integers(1, 70),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_equals_numpy(seed, rows, depth, columns, dtype, transposed, biased, accumulate):
    rng = np.random.default_rng(seed)
    a, c = rng.standard_normal((2 * rows, depth)).astype(dtype), rng.standard_normal((2 * rows, columns)).astype(dtype)
    b, bias = rng.standard_normal((columns, depth)).astype(dtype).T, rng.standard_normal(columns).astype(dtype)
    b = b if transposed else np.ascontiguousarray(b)
    before, backwards = c.copy(), c.copy()
    multiply(a, b, c, bias if biased else None, accumulate)
    multiply(a, b, backwards, bias if biased else None, accumulate, backwards=True)
    expected = before[1::2].copy()
    multiply_packed_in_numpy(a[1::2], b, bias if biased else None, expected, accumulate)
    np.testing.assert_allclose(c[1::2], expected, rtol=0, atol=20 * TOLERANCE[dtype])
    np.testing.assert_array_equal(c[::2], before[::2])  # nothing else is written
    np.testing.assert_array_equal(c, backwards)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_has_the_same_bits_whatever_rows_are_with_it(dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((34, 9)).astype(dtype), rng.standard_normal((9, 40)).astype(dtype)
    together, alone = (np.empty((34, 40), dtype) for _ in range(2))
    multiply(a, b, together)
    for row in range(0, 34, 2):
        multiply(a[row : row + 2], b, alone[row : row + 2])
    np.testing.assert_array_equal(together[1::2], alone[1::2])


@compiled_only
def test_packing_has_the_same_bits_for_any_number_of_threads():
    matrix = np.random.default_rng(0).standard_normal((400, 320)).astype(np.float32)
    assert_same_bits(lambda: pack(matrix.T).panels)
