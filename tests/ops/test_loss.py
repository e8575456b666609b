from __future__ import annotations

import numpy as np
import pytest

from tinygrad_attn.autograd import grad
from tinygrad_attn.check import gradcheck, gradgradcheck
from tinygrad_attn.ops.loss import binary_cross_entropy_with_logits, kl_div, logsigmoid, mse_loss
from tinygrad_attn.tensor import Tensor


def leaf(seed, *shape, low=-2.0, high=2.0):
    return Tensor(np.random.default_rng(seed).uniform(low, high, shape), requires_grad=True)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradients(reduction):
    x, y, p = leaf(0, 2, 3), leaf(1, 2, 3), leaf(2, 2, 3, low=0.1, high=1.0)
    w, u = leaf(3, 3, low=0.5), leaf(4, 3, low=0.5)
    for function, inputs in (
        (lambda x, y: mse_loss(x, y, reduction=reduction), [x, y]),
        (lambda x, y, a, b: binary_cross_entropy_with_logits(x, y, a, reduction=reduction, pos_weight=b), [x, p, w, u]),
        (lambda x, y: kl_div(x, y, reduction=reduction), [x, p]),
        (lambda x, y: kl_div(x, y, reduction=reduction, log_target=True), [x, y]),
    ):
        gradcheck(function, inputs)
        gradgradcheck(function, inputs)


def test_kl_div_of_a_distribution_from_itself_is_zero():
    p = np.array([[0.2, 0.8], [0.5, 0.5]])
    assert kl_div(np.log(p), p, reduction="batchmean").item() == pytest.approx(0.0, abs=1e-15)


def test_kl_div_at_a_probability_of_zero():
    x, y = Tensor(np.log([0.25, 0.75]), requires_grad=True), Tensor(np.array([0.0, 1.0]), requires_grad=True)
    z = kl_div(x, y, reduction="sum")
    assert z.item() == pytest.approx(-np.log(0.75))
    for_x, for_y = grad(z, [x, y])
    np.testing.assert_array_equal(for_x.array, [-0.0, -1.0])
    np.testing.assert_allclose(for_y.array, [-np.log(0.25), 1.0 - np.log(0.75)])


def test_logsigmoid_neither_overflows_nor_rounds_to_zero():
    x = Tensor(np.array([-1000.0, 0.0, 30.0, 1000.0]), requires_grad=True)
    z = logsigmoid(x)
    np.testing.assert_allclose(z.array, [-1000.0, -np.log(2.0), -np.exp(-30.0), 0.0], rtol=1e-12)
    np.testing.assert_allclose(grad(z, x, np.ones(4))[0].array, [1.0, 0.5, np.exp(-30.0), 0.0], rtol=1e-12)


def test_float32_stays_float32():
    x, y = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    for reduction in ("mean", "sum", "none"):
        for function in (mse_loss, binary_cross_entropy_with_logits, kl_div):
            assert function(x, y, reduction=reduction).dtype == np.float32


@pytest.mark.parametrize("function", [mse_loss, binary_cross_entropy_with_logits, kl_div])
def test_errors(function):
    with pytest.raises(
        ValueError, match=rf"{function.__name__}: target must have input's shape \(2, 3\), it has \(3,\)"
    ):
        function(np.ones((2, 3)), np.ones(3))
    with pytest.raises(ValueError, match=r"reduction must be .* got 'max'"):
        function(np.ones(3), np.ones(3), reduction="max")
    with pytest.raises(TypeError, match="target must hold floats, it is int64"):
        function(np.ones(3), np.ones(3, int))
    with pytest.raises(TypeError, match="size_average"):
        function(np.ones(3), np.ones(3), size_average=True)


def test_errors_of_weights():
    for name in ("weight", "pos_weight"):
        with pytest.raises(ValueError, match=rf"{name} of shape \(2,\) does not broadcast to input \(2, 3\)"):
            binary_cross_entropy_with_logits(np.ones((2, 3)), np.ones((2, 3)), **{name: np.ones(2)})


def test_an_infinite_target_costs_infinitely_much():
    x, y = np.array([0.5, 0.5]), np.array([0.25, -np.inf])
    losses = binary_cross_entropy_with_logits(x, y, reduction="none").array
    assert losses[1] == np.inf and np.isfinite(losses[0])
