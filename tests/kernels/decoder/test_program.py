from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.decoder.int8 import multiply_int8_in_numpy, pack_int8
from tinygrad_attn.kernels.decoder.linear import columns_call, linear_of, rows_call
from tinygrad_attn.kernels.decoder.program import Program
from tinygrad_attn.kernels.decoder.rows import (
    Append,
    Embed,
    append_call,
    append_in_numpy,
    embed_call,
    embed_in_numpy,
)
from tinygrad_attn.kernels.gemm.packed import pack

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}
DTYPES = st.sampled_from([np.float32, np.float64])


@examples
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 20), DTYPES)
def test_embedding_and_appending(seed, rows, size, dtype):
    rng = np.random.default_rng(seed)
    table, vector = rng.standard_normal((7, size)).astype(dtype), rng.standard_normal(size).astype(dtype)
    tokens, y = rng.integers(0, 7, rows), np.empty((rows, size), dtype)
    target = np.zeros((3, rows + 1, size), dtype)
    append = Append(y, size, target, rows + 1, np.array([2]), size)
    embed = Embed(tokens, table, vector, y, size, 1.7, len(table), np.zeros(1, np.int64))
    Program([embed_call(dtype, embed), append_call(dtype, append)]).run(rows)
    np.testing.assert_allclose(y, embed_in_numpy(tokens, table, vector, 1.7), atol=TOLERANCE[dtype])
    expected = np.zeros_like(target)
    append_in_numpy(y, expected, 2)
    np.testing.assert_array_equal(target, expected)


@examples
@given(st.integers(0, 1000), st.tuples(*[st.integers(1, n) for n in (40, 30, 130)]), st.booleans(), DTYPES)
def test_linear_maps_divided_by_rows_and_by_columns(seed, sizes, biased, dtype):
    rows, depth, columns = sizes
    rng = np.random.default_rng(seed)
    x, matrix = rng.standard_normal((rows, depth + 1)).astype(dtype), rng.standard_normal((depth, columns))
    bias = rng.standard_normal(columns).astype(dtype) if biased else None
    matrix = matrix.astype(dtype)
    product = x[:, :depth] @ matrix + (0.0 if bias is None else bias)
    packed, y, before = pack(matrix), np.full((rows, columns + 2), 5.0, dtype), np.full(2, 5.0)
    Program([rows_call(dtype, linear_of(packed, bias, x, y, relu=True))]).run(rows)
    np.testing.assert_allclose(y[:, :columns], np.maximum(product, 0.0), rtol=0, atol=10 * TOLERANCE[dtype])
    by_columns = columns_call(dtype, linear_of(packed, bias, x, y, add=True, rows=np.array([rows])))
    Program([by_columns]).run(len(packed.panels))
    expected = product + np.maximum(product, 0.0)
    np.testing.assert_allclose(y[:, :columns], expected, rtol=0, atol=20 * TOLERANCE[dtype])
    np.testing.assert_array_equal(y[:, columns:], np.tile(before, (rows, 1)))


@pytest.mark.parametrize("alone", [False, True])
def test_a_program_runs_its_kernels_in_order(alone):
    """Each link of a chain reads what the link before it wrote."""
    x = np.random.default_rng(0).standard_normal((50, 8))
    matrices = np.random.default_rng(1).standard_normal((3, 8, 8))
    buffers = [x, *np.empty((3, 50, 8))]
    calls = [
        rows_call(np.float64, linear_of(pack(matrix), None, *pair))
        for matrix, *pair in zip(matrices, buffers, buffers[1:], strict=False)
    ]
    Program(calls).run(50, alone=alone)
    np.testing.assert_allclose(buffers[-1], x @ matrices[0] @ matrices[1] @ matrices[2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 8, 9])
def test_few_rows_have_the_same_bits_where_threads_divide_the_columns(int8, rows):
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((200, 800), np.float32), rng.standard_normal((800, 190), np.float32)
    x, inner, there = rng.standard_normal((9, 200), np.float32), np.empty((9, 800), np.float32), np.array([rows])
    packed = [(pack_int8 if int8 else pack)(matrix) for matrix in (first, second)]

    def run():
        y = np.zeros((9, 190), np.float32)
        calls = [
            rows_call(np.float32, linear_of(packed[0], None, x, inner, relu=True, rows=there)),
            rows_call(np.float32, linear_of(packed[1], None, inner, y, add=True, rows=there)),
        ]
        assert all(len(call) == 3 for call in calls)  # their columns can be divided
        program = Program(calls)
        program.run(rows)
        program.run(rows)
        return y

    assert_same_bits(run)
    product = (lambda x, matrix: multiply_int8_in_numpy(x, matrix, None)) if int8 else np.matmul
    y, expected = run(), 2.0 * product(np.maximum(product(x[:rows], first), 0.0), second)
    one_number_rounded_the_other_way = 2e-3
    tolerance = one_number_rounded_the_other_way if int8 else 1e-5
    np.testing.assert_allclose(y[:rows], expected, rtol=0, atol=tolerance * np.abs(expected).max())
    assert not y[rows:].any()
