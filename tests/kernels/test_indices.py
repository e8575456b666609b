from __future__ import annotations

import numpy as np
import pytest

from tinygrad_attn.kernels.indices import highest_index


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64])
def test_the_largest_with_negative_ones_above_all(dtype):
    for index in (np.array([3], dtype), np.array([[0, 5], [2, 1]], dtype), np.arange(9, dtype=dtype)[::-2]):
        assert highest_index(index) == index.max()
    if np.dtype(dtype).kind == "i":
        assert highest_index(np.array([1, -1, 100], dtype)) >= 2**31
        assert highest_index(np.array([np.iinfo(dtype).min], dtype)) >= 2**31
