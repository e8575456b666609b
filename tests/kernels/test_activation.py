from __future__ import annotations

import math

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only

from tinygrad_attn.kernels.activation import ACTIVATIONS, activate, activate_backward

OPTIONS = {"leaky_relu": (0.2,), "elu": (0.7,), "softplus": (2.0, 1000.0)}
POINTS = [0.0, 1e-9, -1e-9, 0.3, -0.3, 1.0, -1.0, 2.5, -2.5, 6.0, -6.0, 11.0, -11.0, 25.0, -25.0]


def exact(name, x):
    """Value and derivative at a float, in plain floating-point arithmetic."""
    density, cdf = math.exp(-x * x / 2) / math.sqrt(2 * math.pi), math.erfc(-x / math.sqrt(2)) / 2
    s = 1 / (1 + math.exp(-x))
    root = math.sqrt(2 / math.pi)
    t = math.tanh(root * (x + 0.044715 * x**3))
    return {
        "relu": (max(x, 0.0), float(x > 0)),
        "leaky_relu": (x, 1.0) if x > 0 else (0.2 * x, 0.2),
        "elu": (x, 1.0) if x > 0 else (0.7 * math.expm1(x), 0.7 * math.exp(x)),
        "gelu": (x * cdf, cdf + x * density),
        "gelu_tanh": (
            x * (1 + t) / 2,
            (1 + t) / 2 + x / 2 * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x),
        ),
        "silu": (x * s, s * (1 + x * (1 - s))),
        "softplus": (max(x, 0.0) + math.log1p(math.exp(-2 * abs(x))) / 2, 1 / (1 + math.exp(-2 * x))),
    }[name]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_and_gradient(name, dtype):
    x = np.array(POINTS, dtype)
    g = np.linspace(-2, 2, x.size, dtype=dtype)
    expected = np.array([exact(name, value) for value in x.tolist()])
    tolerance = 8 * np.finfo(dtype).eps
    options = OPTIONS.get(name, ())
    value, gradient = activate(name, x, *options), activate_backward(name, g, x, *options)
    assert value.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(value, expected[:, 0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(gradient, g * expected[:, 1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_below_zero_gelu_keeps_its_relative_precision(dtype):
    x = np.array([-3.0, -5.0, -8.0, -11.0], dtype)
    expected = [value * math.erfc(-value / math.sqrt(2)) / 2 for value in x.tolist()]
    # The error of the exponent's argument, x^2 / 2, becomes one of the result's digits.
    np.testing.assert_allclose(activate("gelu", x), expected, rtol=121 * np.finfo(dtype).eps)


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


@compiled_only
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_bits_do_not_depend_on_threads(name):
    x = np.random.default_rng(0).standard_normal(50_001).astype(np.float32)
    options = OPTIONS.get(name, ())
    assert_same_bits(lambda: (activate(name, x, *options), activate_backward(name, x[::-1], x, *options)))
