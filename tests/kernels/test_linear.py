from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only

from tinygrad_attn.kernels import linear as kernels
from tinygrad_attn.kernels import together
from tinygrad_attn.kernels.column_sums import column_sums
from tinygrad_attn.kernels.gemm import product
from tinygrad_attn.kernels.gemm.product import gemm

SIZES = [(1, 3, 5), (7, 40, 33), (130, 5, 2)]  # rows, in, out


@pytest.fixture(autouse=True)
def of_any_size(monkeypatch):
    monkeypatch.setattr(product, "_NUMPY_WORK", 0)
    monkeypatch.setattr(product, "_SERIAL_WORK", 0)
    prepared = kernels._prepared, kernels._prepared_backward, together.prepared_together
    for cached in prepared:
        cached.cache_clear()
    yield
    for cached in prepared:
        cached.cache_clear()


def _operands(sizes, dtype, leading=None, seed=0):
    rng = np.random.default_rng(seed)
    rows, inputs, outputs = sizes
    leading = (rows,) if leading is None else leading
    shapes = (*leading, outputs), (*leading, inputs), (outputs, inputs), (outputs,)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("biased", [False, True])
def test_forward_has_the_bits_of_the_product(sizes, dtype, activation, biased):
    _, x, weight, bias = _operands(sizes, dtype)
    bias = bias if biased else None
    found = kernels.linear(x, weight, bias, activation)
    np.testing.assert_array_equal(found, gemm(x, weight.T, bias=bias, activation=activation))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("needs", [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1) if a or b or c])
def test_backward_has_the_bits_of_products_and_sums(sizes, dtype, needs):
    g, x, weight, _ = _operands(sizes, dtype)
    needs = tuple(map(bool, needs))
    expected = gemm(g, weight), gemm(g.T, x), column_sums(g)
    for found, one, needed in zip(kernels.linear_backward(g, x, weight, needs), expected, needs, strict=True):
        assert (found is not None) == needed
        if needed:
            np.testing.assert_array_equal(found, one)


def test_leading_axes_and_operands_that_lie_otherwise():
    g, x, weight, bias = _operands((12, 9, 8), np.float32, (3, 4))
    rows = x.reshape(12, 9)
    np.testing.assert_array_equal(kernels.linear(x, weight, bias), gemm(x, weight.T, bias=bias))
    np.testing.assert_array_equal(kernels.linear(rows[::2], weight, bias), gemm(rows[::2], weight.T, bias=bias))
    turned = np.asfortranarray(weight)
    np.testing.assert_array_equal(kernels.linear(x, turned, bias), gemm(x, weight.T, bias=bias))
    of_x, of_weight, _ = kernels.linear_backward(g, x, turned, (True, True, True))
    np.testing.assert_array_equal(of_x, gemm(g, weight))
    np.testing.assert_array_equal(of_weight, gemm(g.reshape(12, 8).T, rows))
    assert kernels.linear(x.swapaxes(0, 1), weight, bias) is None
    assert kernels.linear(x, weight.astype(np.float64), None) is None
    assert kernels.linear(x, weight, np.ones(16, np.float32)[::2]) is None
    assert kernels.linear_backward(g.swapaxes(0, 1), x.swapaxes(0, 1), weight, (True, True, True)) is None


def test_two_maps_in_one_matrix():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((9, 4)).astype(np.float32)
    x, y = rng.standard_normal((6, 4)).astype(np.float32), rng.standard_normal((2, 5, 4)).astype(np.float32)
    g = rng.standard_normal((6, 3)).astype(np.float32), rng.standard_normal((2, 5, 6)).astype(np.float32)
    for_x, for_y, for_weight, for_bias = kernels.paired_linear_backward(g, (x, y), weight, 3)
    np.testing.assert_array_equal(for_x, gemm(g[0], weight[:3]))
    np.testing.assert_array_equal(for_y, gemm(g[1], weight[3:]))
    g_rows, y_rows = g[1].reshape(10, 6), y.reshape(10, 4)
    np.testing.assert_array_equal(for_weight, np.concatenate([gemm(g[0].T, x), gemm(g_rows.T, y_rows)]))
    np.testing.assert_array_equal(for_bias, np.concatenate([column_sums(g[0]), column_sums(g_rows)]))


@compiled_only
def test_same_bits_for_any_number_of_threads():
    g, x, weight, bias = _operands((200, 70, 130), np.float32)
    assert_same_bits(lambda: kernels.linear(x, weight, bias, "relu"))
    assert_same_bits(
        lambda: np.concatenate([each.ravel() for each in kernels.linear_backward(g, x, weight, (True,) * 3)])
    )
