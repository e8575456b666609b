from __future__ import annotations

import math

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only

from tinygrad_attn.kernels.activation import (
    ACTIVATIONS,
    activate,
    activate_backward,
    activate_in_numpy,
    gelu_in_place,
    times_slope,
)  # fmt: skip

OPTIONS = {"leaky_relu": (0.2,), "elu": (0.7,), "softplus": (2.0, 1000.0)}
POINTS = [0.0, 1e-9, -1e-9, 0.3, -0.3, 1.0, -1.0, 2.5, -2.5, 6.0, -6.0, 11.0, -11.0, 25.0, -25.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_and_gradient(name, dtype):
    x = np.array(POINTS, dtype)
    g = np.linspace(-2, 2, x.size, dtype=dtype)
    tolerance = 8 * np.finfo(dtype).eps
    options = OPTIONS.get(name, ())
    expected, slope = activate_in_numpy(name, x.astype(np.float64), *options)
    value, gradient = activate(name, x, *options), activate_backward(name, g, x, *options)
    assert value.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(gradient, g * slope, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_below_zero_gelu_keeps_its_relative_precision(dtype):
    x = np.array([-3.0, -5.0, -8.0, -11.0], dtype)
    expected = [value * math.erfc(-value / math.sqrt(2)) / 2 for value in x.tolist()]
    # The error of the exponent's argument, x^2 / 2, becomes one of the result's digits.
    np.testing.assert_allclose(activate("gelu", x), expected, rtol=121 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_and_its_derivative_at_once(dtype):
    """Of 0 to 40 elements, so that the last vector is whole, or a part, or there is none."""
    for size in range(41):
        x = np.random.default_rng(size).standard_normal(size).astype(dtype) * 3
        g, z = np.arange(size, dtype=dtype) - 9, x.copy()
        slopes = gelu_in_place(z)
        np.testing.assert_array_equal(z, activate("gelu", x))
        np.testing.assert_array_equal(times_slope(g, slopes), activate_backward("gelu", g, x))


@compiled_only
def test_gelu_is_exact_to_a_few_units_of_float32():
    x = np.linspace(-6, 6, 100_001).astype(np.float32)
    expected, slope = activate_in_numpy("gelu", x.astype(np.float64))
    eps = np.finfo(np.float32).eps
    z = x.copy()
    np.testing.assert_allclose(gelu_in_place(z), slope, rtol=0, atol=2 * eps)
    assert (abs(z - expected) <= 2 * eps * np.maximum(abs(expected), abs(x) * 0.5 ** abs(x))).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_layouts_and_sizes(name):
    x = np.random.default_rng(0).standard_normal((6, 14))[::2, ::-2]
    g = np.broadcast_to(np.arange(7.0), x.shape)
    options = OPTIONS.get(name, ())
    value, gradient = activate(name, x, *options), activate_backward(name, g, x, *options)
    for i in range(3):
        for j in range(7):
            assert value[i, j] == activate(name, x[i, j].reshape(1), *options)[0]
            assert gradient[i, j] == activate_backward(name, g[i, j].reshape(1), x[i, j].reshape(1), *options)[0]
    for shape in [(), (0,), (2, 0)]:
        assert activate(name, np.ones(shape), *options).shape == shape
        assert activate_backward(name, np.ones(shape), np.ones(shape), *options).shape == shape


def test_softplus_is_the_identity_above_its_threshold():
    x = np.array([1.4, 1.6])
    assert activate("softplus", x, 2.0, 3.0)[1] == 1.6
    assert activate("softplus", x, 2.0, 3.0)[0] == pytest.approx(math.log1p(math.exp(2.8)) / 2, rel=1e-15)
    assert activate_backward("softplus", np.full(2, 5.0), x, 2.0, 3.0)[1] == 5.0


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_twin_equals_pytorch(name):
    torch = pytest.importorskip("torch")
    x, options = np.array(POINTS), OPTIONS.get(name, ())
    leaf = torch.from_numpy(x).requires_grad_()
    function = getattr(torch.nn.functional, name.removesuffix("_tanh"))
    theirs = function(leaf, approximate="tanh") if name == "gelu_tanh" else function(leaf, *options)
    (gradient,) = torch.autograd.grad(theirs.sum(), leaf)
    value, slope = activate_in_numpy(name, x, *options)
    np.testing.assert_allclose(value, theirs.detach().numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(slope, gradient.numpy(), rtol=1e-12, atol=1e-14)


@compiled_only
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_bits_do_not_depend_on_threads(name):
    x = np.random.default_rng(0).standard_normal(50_001).astype(np.float32)
    options = OPTIONS.get(name, ())
    assert_same_bits(lambda: (activate(name, x, *options), activate_backward(name, x[::-1], x, *options)))
