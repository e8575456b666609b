from __future__ import annotations

import math

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.adam import AdamSettings, adam_update, global_norm, norm_in_numpy, update_in_numpy

DTYPES = [np.float32, np.float64]
SHAPES = [(3, 5), (), (70,), (0, 4), (2, 3, 11)]


def parameters(shapes, dtype, seed=0):
    """Parameters, gradients, and zeros for the two means."""
    rng = np.random.default_rng(seed)
    params, grads = ([np.asarray(rng.standard_normal(shape), dtype) for shape in shapes] for _ in range(2))
    return params, grads, [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]


@examples
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
    st.sampled_from(DTYPES),
    st.floats(0.0, 0.99),
    st.floats(0.0, 0.999),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
    st.sampled_from([1.0, 0.25]),
)
def test_update_equals_its_twin(sizes, dtype, beta1, beta2, weight_decay, decoupled, grad_scale):
    arrays = parameters([(size,) for size in sizes], dtype)
    for group in arrays[:2]:  # all above zero: a gradient that cancels with the decay would be all rounding error
        group[:] = [np.abs(array) + dtype(0.1) for array in group]
    settings = AdamSettings(0.01, beta1, beta2, 1e-8, weight_decay, decoupled, grad_scale)
    expected = [tuple(a.astype(np.float64) for a in group) for group in zip(*arrays, strict=True)]
    grads = [grad.copy() for grad in arrays[1]]
    for step in (1, 2, 3):
        adam_update(*arrays, step, settings)
        expected = [(*(r := update_in_numpy(p, g, m, v, step, settings))[:1], g, *r[1:]) for p, g, m, v in expected]
    tolerance = {np.float32: 2e-6, np.float64: 2e-14}[dtype]
    for position, (param, _, m, v) in enumerate(expected):
        np.testing.assert_allclose(arrays[0][position], param, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(arrays[2][position], m, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(arrays[3][position], v, rtol=tolerance, atol=tolerance)
        np.testing.assert_array_equal(arrays[1][position], grads[position])


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_update_equals_pytorch(decoupled, weight_decay):
    torch = pytest.importorskip("torch")
    params, grads, m, v = parameters(SHAPES, np.float64)
    leaves = [torch.nn.Parameter(torch.from_numpy(param.copy())) for param in params]
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimiser = kind(leaves, lr=0.01, betas=(0.9, 0.98), eps=1e-9, weight_decay=weight_decay)
    for step in range(1, 6):
        for leaf, grad in zip(leaves, grads, strict=True):
            leaf.grad = torch.from_numpy(grad.copy())
        norm = torch.nn.utils.clip_grad_norm_(leaves, 1.0)
        optimiser.step()
        ours = global_norm(grads)
        np.testing.assert_allclose(ours, norm.numpy(), rtol=1e-14)
        scale = min(1.0, 1.0 / (ours + 1e-6))
        settings = AdamSettings(0.01, 0.9, 0.98, 1e-9, weight_decay, decoupled, scale)
        adam_update(params, grads, m, v, step, settings)
        for param, leaf in zip(params, leaves, strict=True):
            np.testing.assert_allclose(param, leaf.detach().numpy(), rtol=1e-13)
        grads = [np.asarray(grad + 0.1 * param) for grad, param in zip(grads, params, strict=True)]


@examples
@given(st.lists(st.integers(0, 100), max_size=5), st.sampled_from(DTYPES))
def test_norm_equals_its_formula(sizes, dtype):
    rng = np.random.default_rng(sum(sizes))
    arrays = [rng.standard_normal(size).astype(dtype) for size in sizes]
    expected = math.sqrt(math.fsum(float(x) ** 2 for array in arrays for x in array))
    np.testing.assert_allclose(global_norm(arrays), expected, rtol=1e-14)
    np.testing.assert_allclose(norm_in_numpy(arrays), expected, rtol=1e-14)


def test_norm_of_large_float32_does_not_overflow_and_infinity_shows():
    x = np.full(40, 1e30, np.float32)
    np.testing.assert_allclose(global_norm([x, x]), float(x[0]) * math.sqrt(80), rtol=1e-14)
    x[7] = np.inf
    assert global_norm([x]) == math.inf
    x[7] = np.nan
    assert math.isnan(global_norm([x]))


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_for_any_number_of_threads(dtype):
    shapes = [(100003,), (300, 77), (12,)]

    def step():
        arrays = parameters(shapes, dtype)
        adam_update(*arrays, 1, AdamSettings(0.01, weight_decay=0.1))
        return [np.float64(global_norm(arrays[1])), *arrays[0], *arrays[2], *arrays[3]]

    assert_same_bits(step)


def test_gradients_may_have_any_strides():
    params, grads, m, v = parameters([(6, 7)], np.float32)
    turned = parameters([(6, 7)], np.float32)
    adam_update(params, grads, m, v, 1, AdamSettings(0.1))
    adam_update(turned[0], [np.asfortranarray(grads[0])], *turned[2:], 1, AdamSettings(0.1))
    np.testing.assert_array_equal(turned[0][0], params[0])
    assert global_norm([grads[0].T]) == pytest.approx(global_norm(grads), rel=1e-14)


def test_errors_name_the_thing():
    params, grads, m, v = parameters([(2, 3)], np.float32)
    with pytest.raises(ValueError, match=r"grads\[0\] is \(3, 2\) float32, but params\[0\] is \(2, 3\) float32"):
        adam_update(params, [grads[0].T], m, v, 1, AdamSettings(0.1))
    with pytest.raises(ValueError, match=r"v\[0\] is .* float64"):
        adam_update(params, grads, m, [v[0].astype(np.float64)], 1, AdamSettings(0.1))
    with pytest.raises(ValueError, match="C-contiguous"):
        adam_update([params[0].T], [grads[0].T], [m[0].T], [v[0].T], 1, AdamSettings(0.1))
    with pytest.raises(TypeError, match="int64"):
        adam_update([np.zeros(3, np.int64)], grads, m, v, 1, AdamSettings(0.1))
