from __future__ import annotations

import numpy as np
from bits import examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.activation import ACTIVATIONS
from tinygrad_attn.kernels.decoder.activate import activate_rows_call, activate_rows_in_numpy
from tinygrad_attn.kernels.decoder.heads import Heads, heads_call, heads_in_numpy
from tinygrad_attn.kernels.decoder.program import Program

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}
dtypes = st.sampled_from([np.float32, np.float64])


@examples
@given(
    st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4), st.integers(1, 20), st.booleans(), st.booleans(), dtypes
)
def test_queries_and_keys_are_normalised_and_turned_and_values_are_not(seed, rows, keys, half, normed, turned, dtype):
    rng = np.random.default_rng(seed)
    width, queries = 2 * half, keys * int(rng.integers(1, 3))
    x = rng.standard_normal((rows, (queries + 2 * keys) * width + 3)).astype(dtype)
    weights = tuple(rng.standard_normal((2, width)).astype(dtype)) if normed else None
    angles = tuple(rng.standard_normal((2, 5, half)).astype(dtype)) if turned else None
    expected = x.copy()
    heads = expected[:, : (queries + keys) * width].reshape(rows, -1, width)
    at = None if angles is None else (angles[0][3], angles[1][3])
    expected[:, : (queries + keys) * width] = heads_in_numpy(heads, weights, 1e-6, at, queries).reshape(rows, -1)
    arguments = Heads(
        x, x.shape[1], queries, keys, width, *(weights or (None, None)), 1e-6, *(angles or (None, None)), np.array([3])
    )
    Program([heads_call(dtype, arguments)]).run(rows)
    np.testing.assert_allclose(x, expected, rtol=0, atol=20 * TOLERANCE[dtype])


@examples
@given(
    st.integers(0, 1000), st.integers(1, 4), st.integers(1, 40), st.sampled_from(["relu", "gelu", "gelu_tanh", "silu"]),
    st.booleans(), dtypes,
)  # fmt: skip
def test_the_first_columns_are_activated_and_gated(seed, rows, size, name, gated, dtype):
    assert name in ACTIVATIONS
    rng = np.random.default_rng(seed)
    x, gate = rng.standard_normal((2, rows, size + 5)).astype(dtype)
    expected = x.copy()
    expected[:, :size] = activate_rows_in_numpy(name, x[:, :size], gate[:, :size] if gated else None)
    Program([activate_rows_call(name, x, gate if gated else None, size)]).run(rows)
    np.testing.assert_allclose(x, expected, rtol=0, atol=TOLERANCE[dtype])
