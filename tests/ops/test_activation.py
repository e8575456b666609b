from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.autograd import grad
from tinygrad_attn.ops.activation import elu, gelu, leaky_relu, relu, silu, softplus
from tinygrad_attn.tensor import Tensor

every = pytest.mark.parametrize("activation", [relu, leaky_relu, elu, gelu, silu, softplus], ids=lambda op: op.name)


def slope(activation, x, **options):
    x = Tensor(np.asarray(x), requires_grad=True)
    z = activation(x, **options)
    return grad(z, x, np.ones_like(x.array))[0].array


@given(st.floats(-50, 50))
def test_formulas(x):
    def value(activation, **options):
        return activation(np.array([x]), **options).array[0]

    close = {"rel": 1e-12, "abs": 1e-14}
    assert value(relu) == max(x, 0.0)
    assert value(leaky_relu, negative_slope=0.2) == pytest.approx(x if x > 0 else 0.2 * x, **close)
    assert value(elu, alpha=0.5) == pytest.approx(x if x > 0 else 0.5 * math.expm1(x), **close)
    assert value(gelu) == pytest.approx(x * 0.5 * math.erfc(-x / math.sqrt(2)), **close)
    assert value(gelu, approximate="tanh") == pytest.approx(
        x * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), **close
    )
    assert value(silu) == pytest.approx(x / (1 + math.exp(-x)), **close)
    assert value(softplus, beta=2.0) == pytest.approx(max(x, 0.0) + math.log1p(math.exp(-2 * abs(x))) / 2, rel=1e-8)


@given(st.floats(-1e4, 1e4))
def test_the_tanh_form_is_near_the_exact_gelu(x):
    assert abs(gelu(np.array([x]), approximate="tanh").item() - gelu(np.array([x])).item()) < 1e-3


@every
def test_float32_stays(activation):
    x = np.linspace(-3, 3, 7, dtype=np.float32)
    assert activation(x).dtype == np.float32
    assert slope(activation, x).dtype == np.float32


@every
def test_nan_stays_and_marks_no_other_element(activation):
    z = activation(np.array([np.nan, 1.0])).array
    assert np.isnan(z[0])
    assert np.isfinite(z[1])


@every
def test_large_inputs_have_finite_derivatives(activation):
    x = Tensor(np.array([-1e4, -800.0, 800.0, 1e4]), requires_grad=True)
    (first,) = grad(activation(x), x, Tensor(np.ones(4)), create_graph=True)
    np.testing.assert_allclose(first.array[2:], 1.0)
    assert np.isfinite(first.array).all()
    (second,) = grad(first, x, Tensor(np.ones(4)), allow_unused=True) if first.requires_grad else (None,)
    assert second is None or np.array_equal(second.array, np.zeros(4))


def test_gradient_at_the_kink():
    zeros = [0.0, -0.0]
    assert slope(relu, zeros).tolist() == [0.0, 0.0]
    assert slope(leaky_relu, zeros, negative_slope=0.25).tolist() == [0.25, 0.25]
    assert slope(elu, zeros, alpha=0.25).tolist() == [0.25, 0.25]


def test_relu_stops_an_infinite_gradient_where_it_is_flat():
    x = Tensor(np.array([-1.0, 1.0]), requires_grad=True)
    (found,) = grad(relu(x), x, np.array([np.inf, 2.0]))
    assert found.array.tolist() == [0.0, 2.0]


def test_softplus_is_the_identity_above_its_threshold():
    x = np.array([2.9, 3.1])
    z = softplus(x, beta=1.0, threshold=3.0).array
    assert z[0] == math.log1p(math.exp(2.9))
    assert z[1] == 3.1
    assert slope(softplus, x, threshold=3.0)[1] == 1.0


def test_relu_keeps_integers():
    z = relu(np.array([-2, 3], np.int32))
    assert z.dtype == np.int32
    assert z.tolist() == [0, 3]


def test_options_may_be_given_by_position():
    x = np.array([-1.0, 2.0])
    assert np.array_equal(leaky_relu(x, 0.5).array, [-0.5, 2.0])
    assert np.array_equal(gelu(x, "tanh").array, gelu(x, approximate="tanh").array)


@every
def test_inplace_is_refused(activation):
    with pytest.raises(TypeError, match=rf"^{activation.name}: .*inplace"):
        activation(np.ones(2), inplace=True)
