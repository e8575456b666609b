from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only

from tinygrad_attn.kernels.dropout import drop, drop_in_numpy

KEY = 0x123456789ABCDEF


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (15,), (16,), (17,), (31,), (32,), (33,), (3, 5, 7), (2, 64)])
def test_equals_numpy_bit_for_bit(shape, dtype):
    x = np.asarray(np.random.default_rng(0).standard_normal(shape), dtype)
    for p in (0.0, 0.1, 0.5, 0.999):
        z = drop(x, p, KEY)
        assert z.dtype == dtype
        assert z.tobytes() == drop_in_numpy(x, p, KEY).tobytes()


def test_layouts_count_elements_in_c_order():
    x = np.random.default_rng(0).standard_normal((6, 14))[::2, ::-2]
    np.testing.assert_array_equal(drop(x, 0.5, KEY), drop(x.copy(), 0.5, KEY))
    np.testing.assert_array_equal(drop(x.T, 0.5, KEY), drop(x.T.copy(), 0.5, KEY))


def test_dropped_infinities_are_nan_as_in_pytorch():
    z = drop(np.full(64, np.inf), 0.5, KEY)
    assert set(np.isnan(z)) == {True, False}
    assert np.all(np.isnan(z) | np.isinf(z))


@compiled_only
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_number_of_threads(dtype):
    x = np.random.default_rng(0).standard_normal(100_003).astype(dtype)
    assert_same_bits(lambda: drop(x, 0.3, KEY))
    assert drop(x, 0.3, KEY).tobytes() == drop_in_numpy(x, 0.3, KEY).tobytes()
