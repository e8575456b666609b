from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_attn.kernels.layernorm import (
    layer_norm,
    layer_norm_backward,
    layer_norm_backward_in_numpy,
    layer_norm_in_numpy,
)

DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 1e-5, np.float64: 2e-14}
shapes = hnp.array_shapes(max_dims=3, max_side=7) | st.tuples(st.integers(1, 40), st.integers(1, 70))


def reference_backward(g, x, weight, mean, rstd):
    """The chain rule through xhat, mean and variance one after the other, in float64."""
    g, off = g.astype(np.float64), x - mean[..., None].astype(np.float64)
    rstd = rstd[..., None].astype(np.float64)
    n = x.shape[-1]
    dxhat = g * weight
    dvar = (dxhat * off).sum(-1, keepdims=True) * -0.5 * rstd**3
    dmean = (-dxhat * rstd).sum(-1, keepdims=True) - 2 * dvar * off.mean(-1, keepdims=True)
    leading = tuple(range(x.ndim - 1))
    return dxhat * rstd + 2 * dvar * off / n + dmean / n, (g * off * rstd).sum(leading), g.sum(leading)


@examples
@given(st.integers(0, 1000), shapes, st.sampled_from(DTYPES), st.booleans())
def test_forward_and_backward_equal_their_formulas(seed, shape, dtype, affine):
    rng = np.random.default_rng(seed)
    x, g = rng.standard_normal((2, *shape)).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[-1])).astype(dtype)
    eps = 0.1  # a row of one or two elements has almost no variance
    y, mean, rstd = layer_norm(x, weight if affine else None, bias if affine else None, eps)
    if not affine:
        weight, bias = np.ones_like(weight), np.zeros_like(bias)
    wide_g, wide_x, wide_weight, wide_bias = (array.astype(np.float64) for array in (g, x, weight, bias))
    twin = layer_norm_in_numpy(wide_x, wide_weight, wide_bias, eps)
    for ours, expected in zip((y, mean, rstd), twin, strict=True):
        assert ours.dtype == dtype and ours.shape == expected.shape
        np.testing.assert_allclose(ours, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    gradients = layer_norm_backward(g, x, weight if affine else None, mean, rstd)
    twin = layer_norm_backward_in_numpy(wide_g, wide_x, wide_weight, eps)
    for ours, expected in zip(gradients, twin, strict=True):
        assert ours.dtype == dtype and ours.shape == expected.shape
        np.testing.assert_allclose(ours, expected, rtol=TOLERANCE[dtype], atol=2 * TOLERANCE[dtype])
    for ours, expected in zip(twin, reference_backward(g, x, weight, mean, rstd), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=TOLERANCE[dtype], atol=2 * TOLERANCE[dtype])


@examples
@given(st.integers(0, 1000), shapes, st.sampled_from(DTYPES))
def test_a_residual_counts_as_if_it_were_added_before(seed, shape, dtype):
    rng = np.random.default_rng(seed)
    x, residual, g = rng.standard_normal((3, *shape)).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[-1])).astype(dtype)
    found = layer_norm(x, weight, bias, 0.1, residual)
    expected = layer_norm(x + residual, weight, bias, 0.1)
    for ours, one in zip(found, expected, strict=True):
        assert ours.tobytes() == one.tobytes()
    gradients = layer_norm_backward(g, x, weight, *found[1:], residual)
    for ours, one in zip(gradients, layer_norm_backward(g, x + residual, weight, *found[1:]), strict=True):
        assert ours.tobytes() == one.tobytes()


@examples
@given(st.integers(0, 1000), shapes, st.sampled_from(DTYPES), st.sampled_from([1.0, 1e-30, 1e30]))
def test_the_sum_is_written_and_what_reaches_it_otherwise_is_added(seed, shape, dtype, scale):
    rng = np.random.default_rng(seed)
    x, residual, g, added = (scale * rng.standard_normal((4, *shape))).astype(dtype)
    weight = rng.standard_normal(shape[-1]).astype(dtype)
    total = np.full(shape, np.nan, dtype)
    with np.errstate(all="ignore"):
        found = layer_norm(x, weight, None, 0.1, residual, total)
        assert total.tobytes() == (x + residual).tobytes()
        for ours, one in zip(found, layer_norm(total, weight, None, 0.1), strict=True):
            assert ours.tobytes() == one.tobytes()
        dx, *sums = layer_norm_backward(g, total, weight, *found[1:], added=added)
        without, *others = layer_norm_backward(g, total, weight, *found[1:])
        np.testing.assert_array_equal(dx, without + added)
    for ours, one in zip(sums, others, strict=True):
        np.testing.assert_array_equal(ours, one)


def test_a_residual_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"layer_norm: residual \(2,\) float32 must be as x, \(3,\) float32"):
        layer_norm(np.ones(3, np.float32), residual=np.ones(2, np.float32))


def test_a_large_mean_does_not_swallow_the_variance():
    x = (1000 + np.random.default_rng(0).standard_normal((4, 100))).astype(np.float32)
    y, _, _ = layer_norm(x)
    np.testing.assert_allclose(y, layer_norm_in_numpy(x.astype(np.float64), 1.0, 0.0, 1e-5)[0], atol=2e-4)


def test_strides_and_inputs_unchanged():
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 5, 6))
    y, mean, rstd = layer_norm(x)
    before = x.copy(), g.copy()
    np.testing.assert_array_equal(layer_norm(np.asfortranarray(x))[0], y)
    plain = layer_norm_backward(g, x, None, mean, rstd)
    turned = layer_norm_backward(np.asfortranarray(g), np.asfortranarray(x), None, mean, rstd)
    for one, other in zip(plain, turned, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(before, (x, g))


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1000, 33), (17, 2000), (4, 100, 64)])
def test_same_bits_for_any_number_of_threads(shape, dtype):
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, *shape)).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[-1])).astype(dtype)
    _, mean, rstd = layer_norm(x, weight, bias)
    assert_same_bits(lambda: layer_norm(x, weight, bias))
    assert_same_bits(lambda: layer_norm_backward(g, x, weight, mean, rstd))


def test_no_rows():
    x = np.zeros((0, 3), np.float32)
    y, mean, rstd = layer_norm(x)
    assert y.shape == (0, 3) and mean.shape == rstd.shape == (0,)
    dx, dweight, dbias = layer_norm_backward(x, x, None, mean, rstd)
    assert dx.shape == (0, 3)
    np.testing.assert_array_equal((dweight, dbias), 0)


def test_errors_name_the_thing():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"weight must be \(3,\) and float32 for x \(2, 3\), got \(2,\) float32"):
        layer_norm(x, np.zeros(2, np.float32))
    with pytest.raises(ValueError, match=r"bias must be .* float64"):
        layer_norm(x, None, np.zeros(3))
    with pytest.raises(TypeError, match="int64"):
        layer_norm(np.zeros((2, 3), np.int64))
    with pytest.raises(ValueError, match="no elements"):
        layer_norm(np.zeros((2, 0)))
    with pytest.raises(ValueError, match=r"gradient \(3, 2\)"):
        layer_norm_backward(x.T, x, None, np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match=r"mean \(3,\)"):
        layer_norm_backward(x, x, None, np.zeros(3), np.zeros(2))


def test_equals_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, g = 3 * rng.standard_normal((2, 4, 5, 37))
    weight, bias = rng.standard_normal((2, 37))
    leaves = [torch.from_numpy(array).requires_grad_() for array in (x, weight, bias)]
    theirs = torch.nn.functional.layer_norm(leaves[0], (37,), *leaves[1:])
    y, mean, rstd = layer_norm(x, weight, bias)
    np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=1e-12, atol=1e-13)
    gradients = torch.autograd.grad(theirs, leaves, torch.from_numpy(g))
    for ours, gradient in zip(layer_norm_backward(g, x, weight, mean, rstd), gradients, strict=True):
        np.testing.assert_allclose(ours, gradient.numpy(), rtol=1e-12, atol=1e-12)
