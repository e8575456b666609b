"""Products with a matrix that was packed, whole or in part, and with A read along its rows or its columns."""

import numpy as np
import pytest
from bits import examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.gemm.operands import Extent, Matrix
from tinygrad_attn.kernels.gemm.panels import packed_size, packer_for, panel_product_for
from tinygrad_attn.kernels.gemm.plan import tile_shape
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.calls import call
from tinygrad_attn.kernels.runtime.jit import serial_kernel

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


@serial_kernel
def pack(packer, extent, matrix, panels):
    call(packer, extent, matrix, panels)


@serial_kernel
def multiply(product, extent, a, b, c, accumulate):
    call(product, extent, a, b, c, accumulate)


def matrix_of(array):
    return Matrix(data_address(array), *array.strides)


@examples
@given(
    st.integers(0, 1000),
    st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(1, 20)),
    st.integers(0, 10),
    st.sampled_from([np.float32, np.float64]),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_equals_numpy(seed, sizes, skipped, dtype, choices):
    """C, or C +, = A B, with B from its row number ``skipped`` on."""
    (rows, columns, depth), (a_transposed, b_transposed, accumulate) = sizes, choices
    rng = np.random.default_rng(seed)

    def draw(n, m, transposed):
        return rng.standard_normal((m, n)).astype(dtype).T if transposed else rng.standard_normal((n, m)).astype(dtype)

    a, b, c = draw(rows, depth, a_transposed), draw(skipped + depth, columns, b_transposed), draw(rows, columns, False)
    size, panel = b.itemsize, tile_shape(b.itemsize).columns
    panels = np.full(packed_size(len(b), columns, size), np.nan, dtype)
    pack(packer_for(size), Extent(len(b), columns, 0), matrix_of(b), data_address(panels))
    expected = a @ b[skipped:] + (c if accumulate else 0)
    packed = Matrix(data_address(panels) + skipped * panel * size, panel * size, panel * size * len(b))
    around = np.full((rows, columns + 3), 7.0, dtype)
    around[:, :columns] = c
    target = Matrix(data_address(around), *around.strides)
    multiply(panel_product_for(size), Extent(rows, columns, depth), matrix_of(a), packed, target, int(accumulate))
    np.testing.assert_allclose(around[:, :columns], expected, rtol=0, atol=20 * TOLERANCE[dtype])
    assert (around[:, columns:] == 7.0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_element_has_the_same_bits_whatever_part_of_c_is_asked_for(dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((30, 9)).astype(dtype), rng.standard_normal((9, 70)).astype(dtype)
    size, panel = b.itemsize, tile_shape(b.itemsize).columns
    panels, whole, part = np.empty(packed_size(9, 70, size), dtype), np.empty((30, 70), dtype), np.empty((5, 8), dtype)
    pack(packer_for(size), Extent(9, 70, 0), matrix_of(b), data_address(panels))
    packed = Matrix(data_address(panels), panel * size, panel * size * 9)
    multiply(panel_product_for(size), Extent(30, 70, 9), matrix_of(a), packed, matrix_of(whole), 0)
    multiply(panel_product_for(size), Extent(5, 8, 9), matrix_of(a[7:]), packed, matrix_of(part), 0)
    np.testing.assert_array_equal(part, whole[7:12, :8])
