"""A network of two maps in one launch, held to `kernels.linear` and `kernels.activation`, bit by bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only

from tinygrad_attn.kernels import feed_forward as kernels
from tinygrad_attn.kernels import linear, together
from tinygrad_attn.kernels.activation import activate_backward, gelu_in_place, times_slope
from tinygrad_attn.kernels.column_sums import column_sums
from tinygrad_attn.kernels.gemm import product
from tinygrad_attn.kernels.gemm.product import gemm

SIZES = [(1, 3, 2, 5), (20, 40, 33, 18), (130, 5, 2, 9), (2, 1, 1, 1)]  # rows, in, inner, out


@pytest.fixture(autouse=True)
def of_any_size(monkeypatch):
    monkeypatch.setattr(product, "_NUMPY_WORK", 0)
    monkeypatch.setattr(product, "_SERIAL_WORK", 0)
    prepared = (
        kernels._prepared,
        kernels._prepared_weights,
        linear._prepared,
        linear._prepared_backward,
        together.prepared_together,
    )
    for cached in prepared:
        cached.cache_clear()
    yield
    for cached in prepared:
        cached.cache_clear()


def _operands(sizes, dtype, leading=None, scale=1.0):
    rng = np.random.default_rng(0)
    rows, inputs, inner, outputs = sizes
    leading = (rows,) if leading is None else leading
    shapes = (*leading, outputs), (*leading, inputs), (inner, inputs), (outputs, inner), (inner,), (outputs,)
    return [(scale * rng.standard_normal(shape)).astype(dtype) for shape in shapes]


def _apart(g, x, w1, w2, b1, b2, activation):
    """Forward and backward by one kernel after the other."""
    inner = gemm(x, w1.T, bias=b1, activation="relu" if activation == "relu" else None)
    slopes = gelu_in_place(inner) if activation == "gelu" else None
    z = gemm(inner, w2.T, bias=b2)
    g_inner = gemm(g, w2)
    before = activate_backward("relu", g_inner, inner) if slopes is None else times_slope(g_inner, slopes)
    gradients = gemm(before, w1), gemm(before.T, x), gemm(g.T, inner), column_sums(before), column_sums(g)
    return z, inner, slopes, gradients


def _equal(found, expected):
    assert (found is None) == (expected is None)
    if found is not None:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_the_bits_are_those_of_one_kernel_after_the_other(sizes, dtype, activation, scale):
    with np.errstate(all="ignore"):
        g, x, w1, w2, b1, b2 = _operands(sizes, dtype, scale=scale)
        z, inner, slopes, gradients = _apart(g, x, w1, w2, b1, b2, activation)
        found = kernels.feed_forward(x, w1, b1, w2, b2, activation)
        for ours, expected in zip(found, (z, inner, slopes), strict=True):
            _equal(ours, expected)
        backward = kernels.feed_forward_backward(g, x, (w1, w2), *found[1:], (True,) * 5)
        for ours, expected in zip(backward, gradients, strict=True):
            _equal(ours, expected)


@pytest.mark.parametrize("needs", list(itertools.product([False, True], repeat=5)))
def test_what_is_not_needed_is_not_computed(needs):
    g, x, w1, w2, b1, b2 = _operands((7, 4, 6, 5), np.float32)
    *_, gradients = _apart(g, x, w1, w2, b1, b2, "gelu")
    _, inner, slopes = kernels.feed_forward(x, w1, b1, w2, b2, "gelu")
    found = kernels.feed_forward_backward(g, x, (w1, w2), inner, slopes, needs)
    for ours, expected, needed in zip(found, gradients, needs, strict=True):
        _equal(ours, expected if needed else None)


def test_leading_axes_and_no_biases():
    g, x, w1, w2, *_ = _operands((12, 4, 6, 5), np.float32, (3, 2, 2))
    z, inner, slopes = kernels.feed_forward(x, w1, None, w2, None, "gelu")
    flat = kernels.feed_forward(x.reshape(12, 4), w1, None, w2, None, "gelu")
    assert z.shape == (3, 2, 2, 5) and inner.shape == slopes.shape == (3, 2, 2, 6)
    np.testing.assert_array_equal(z.reshape(12, 5), flat[0])
    for_x, *_ = kernels.feed_forward_backward(g, x, (w1, w2), inner, slopes, (True,) * 5)
    assert for_x.shape == x.shape


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, w1, b1, w2, b2: (x[::2], w1, b1, w2, b2),
        lambda x, w1, b1, w2, b2: (x, w1.T.copy().T, b1, w2, b2),
        lambda x, w1, b1, w2, b2: (x, w1, b1[:-1], w2, b2),
        lambda x, w1, b1, w2, b2: (x, w1, b1, w2[:, :-1], b2),
        lambda x, w1, b1, w2, b2: (x.astype(np.float64), w1, b1, w2, b2),
        lambda x, w1, b1, w2, b2: (x[:0], w1, b1, w2, b2),
        lambda x, w1, b1, w2, b2: (x[:2], w1, b1, w2, b2),
    ],
)
def test_what_is_for_others_is_left_to_them(wrong):
    _, x, w1, w2, b1, b2 = _operands((8, 4, 6, 5), np.float32)
    assert kernels.feed_forward(*wrong(x, w1, b1, w2, b2), "relu") is None


def test_tiny_networks_are_left_to_numpy(monkeypatch):
    monkeypatch.setattr(product, "_NUMPY_WORK", 1000)
    _, x, w1, w2, b1, b2 = _operands((8, 4, 6, 5), np.float32)
    assert kernels.feed_forward(x, w1, b1, w2, b2, "relu") is None


@compiled_only
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_same_bits_for_any_number_of_threads(activation):
    g, x, w1, w2, b1, b2 = _operands((203, 70, 90, 50), np.float32)

    def both():
        z, inner, slopes = kernels.feed_forward(x, w1, b1, w2, b2, activation)
        return (z, *kernels.feed_forward_backward(g, x, (w1, w2), inner, slopes, (True,) * 5))

    assert_same_bits(both)
