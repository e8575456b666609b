from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.rotary import rotate, rotate_in_numpy

TOLERANCE = {np.float32: 1e-6, np.float64: 1e-15}


def angles(rng, positions, half, dtype):
    theta = rng.uniform(0, 7, (positions, half))
    return np.cos(theta).astype(dtype), np.sin(theta).astype(dtype)


@examples
@given(
    st.integers(0, 1000), st.tuples(*[st.integers(0, n) for n in (3, 4, 3, 35)]),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from(["plain", "part", "exchanged", "strided"]),
)  # fmt: skip
def test_equals_its_formula_and_turns_back(seed, sizes, dtype, layout):
    rng = np.random.default_rng(seed)
    batch, positions, rows, half = sizes
    x = rng.standard_normal((batch, positions, rows + 2, 4 * half)).astype(dtype)
    x = x[..., ::2] if layout == "strided" else x[..., : 2 * half]
    x = x[:, :, 1:-1] if layout != "exchanged" else x.transpose(2, 1, 0, 3)
    before = x.copy()
    cos, sin = angles(rng, positions, half, dtype)
    y = rotate(x, cos, sin)
    assert y.dtype == dtype and y.shape == x.shape
    np.testing.assert_allclose(y, rotate_in_numpy(x, cos, sin), rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])
    np.testing.assert_allclose(rotate(y, cos, sin, back=True), x, atol=10 * TOLERANCE[dtype])
    np.testing.assert_array_equal(x, before)
    turned = rows // 2 if x.shape[2] >= rows // 2 else 0
    some = rotate(x, cos, sin, turned)
    np.testing.assert_array_equal(some[:, :, :turned], y[:, :, :turned])
    np.testing.assert_array_equal(some[:, :, turned:], x[:, :, turned:])


@compiled_only
def test_same_bits_for_any_number_of_threads():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 100, 4, 32)).astype(np.float32)
    tables = angles(rng, 100, 16, np.float32)
    assert_same_bits(lambda: rotate(x, *tables))


@pytest.mark.parametrize("half", [0, 3])
def test_nothing_to_turn(half):
    x = np.zeros((2, 0, 3, 2 * half))
    assert rotate(x, np.zeros((0, half)), np.zeros((0, half))).shape == x.shape
