from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only

from tinygrad_attn.kernels import pairs
from tinygrad_attn.kernels.pairs import add_into, tanh_gradient


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("size", [0, 1, 100, 300])
def test_equals_numpy(dtype, size, monkeypatch):
    for least in ("_ADD_IN_NUMPY", "_TANH_IN_NUMPY"):
        monkeypatch.setattr(pairs, least, 90)
    x, y = (100 * np.random.default_rng(0).standard_normal((2, size, 2))).astype(dtype)
    expected = x + y
    out = np.empty_like(x)
    assert add_into(x, y, out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(add_into(x[::-1], y[::-1], np.empty_like(x)), expected[::-1])
    np.testing.assert_array_equal(add_into(x, np.ones(2, dtype), np.empty_like(x)), x + 1)
    if dtype is not np.int64:
        np.testing.assert_array_equal(tanh_gradient(x, y), x * (1 - y * y))
        np.testing.assert_array_equal(tanh_gradient(x.T, y.T), (x * (1 - y * y)).T)
    add_into(x, y, x)
    np.testing.assert_array_equal(x, expected)


@compiled_only
def test_same_bits_for_any_number_of_threads():
    x, y = np.random.default_rng(0).standard_normal((2, 200_001)).astype(np.float32)
    assert_same_bits(lambda: add_into(x, y, np.empty_like(x)))
    assert_same_bits(lambda: tanh_gradient(x, y))
