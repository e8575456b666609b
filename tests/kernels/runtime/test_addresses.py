"""Where an array begins: what is read from NumPy's object is what NumPy says itself."""

import numpy as np
import pytest

from tinygrad_attn.kernels.runtime.addresses import addresses_of, array_address, data_address


def arrays(folder):
    whole = np.arange(24.0).reshape(2, 3, 4)
    fixed = whole.copy()
    fixed.flags.writeable = False
    mapped = np.memmap(folder / "numbers", np.float32, "w+", shape=(5,))
    return {
        "whole": whole,
        "part": whole[1:, ::2],
        "reversed": whole[::-1],
        "transposed": whole.T,
        "0-d": np.array(3.0),
        "float32": np.ones(7, np.float32),
        "bool": np.ones((2, 2), np.bool_),
        "read-only": fixed,
        "memory map": mapped,
    }


def test_an_address_is_what_numpy_says(tmp_path):
    for name, array in arrays(tmp_path).items():
        assert data_address(array) == array.ctypes.data, name


def test_elements_must_adjoin(tmp_path):
    found = arrays(tmp_path)
    assert addresses_of([found["whole"], found["float32"]]).tolist() == [
        found["whole"].ctypes.data,
        found["float32"].ctypes.data,
    ]
    with pytest.raises(ValueError, match="must be C-contiguous, its strides are"):
        array_address(found["part"])
