"""F.dropout: seeded, scaled, the same mask in every derivative, PyTorch's cases."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tinygrad_attn import grad, random, unfused
from tinygrad_attn.check import gradcheck, gradgradcheck
from tinygrad_attn.ops.dropout import dropout
from tinygrad_attn.tensor import Tensor


def test_dropout_is_seeded_scaled_and_the_same_backward():
    x = Tensor(np.ones((100, 100), np.float32), requires_grad=True)
    random.manual_seed(0)
    z = dropout(x, 0.25)
    random.manual_seed(0)
    assert np.array_equal(dropout(x, 0.25).array, z.array)
    assert not np.array_equal(dropout(x, 0.25).array, z.array)
    assert z.dtype == np.float32
    assert set(np.unique(z.array)) == {np.float32(0.0), np.float32(4 / 3)}
    # The number dropped is binomial: five standard deviations are 217.
    assert abs(np.sum(z.array == 0.0) - 2500) < 217
    (gradient,) = grad(z, x, np.ones(z.shape, np.float32))
    np.testing.assert_array_equal(gradient.array, z.array)


def test_dropout_of_nothing_and_of_everything():
    x = Tensor(np.ones(5), requires_grad=True)
    assert dropout(x, 0.0) is x
    assert dropout(x, 0.5, training=False) is x
    z = dropout(x, 1.0)
    np.testing.assert_array_equal(z.array, np.zeros(5))
    np.testing.assert_array_equal(grad(z, x, np.ones(5))[0].array, np.zeros(5))


def test_dropout_errors():
    with pytest.raises(ValueError, match=r"p must be from 0 to 1, got 1\.5"):
        dropout(np.ones(2), 1.5)
    with pytest.raises(TypeError, match="floats, it is int64"):
        dropout(np.ones(2, np.int64), 0.5)
    with pytest.raises(TypeError, match="inplace"):
        dropout(np.ones(2), 0.5, inplace=True)


def test_a_stored_state_continues_with_the_same_masks():
    x = np.ones((7, 11))
    random.manual_seed(3)
    dropout(x, 0.5)
    state = json.loads(json.dumps(random.get_state()))
    masks = [dropout(x, 0.5).array for _ in range(3)]
    random.set_state(state)
    for mask in masks:
        np.testing.assert_array_equal(dropout(x, 0.5).array, mask)


def test_nothing_is_drawn_unless_something_is_dropped():
    before = random.get_state()
    dropout(np.ones(3), 0.0)
    dropout(np.ones(3), 1.0)
    dropout(np.ones(3), 0.5, training=False)
    assert random.get_state() == before


def test_derivatives_of_both_orders():
    """The seed fixes the mask, so that a difference quotient sees a smooth function."""

    def cube(x: Tensor) -> Tensor:
        random.manual_seed(5)
        return dropout(x * x * x, 0.4)

    x = Tensor(np.random.default_rng(0).standard_normal((5, 9)), requires_grad=True)
    gradcheck(cube, [x])
    gradgradcheck(cube, [x])


def test_primitives_drop_the_same_elements():
    x = Tensor(np.random.default_rng(0).standard_normal((33, 5)).astype(np.float32), requires_grad=True)
    random.manual_seed(1)
    z = dropout(x, 0.3)
    random.manual_seed(1)
    with unfused():
        same = dropout(x, 0.3)
    np.testing.assert_array_equal(z.array, same.array)
    np.testing.assert_array_equal(grad(z.sum(), x)[0].array, grad(same.sum(), x)[0].array)


@pytest.mark.parametrize("p", [1e-3, 0.5, 0.999, 1 - 1e-12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_probability(p, dtype):
    random.manual_seed(0)
    z = dropout(np.ones(100_000, dtype), p)
    assert z.dtype == dtype
    kept = z.array != 0
    assert abs(kept.mean() - (1 - p)) <= 5 * np.sqrt(p * (1 - p) / kept.size) + 1e-12
    np.testing.assert_array_equal(z.array[kept], dtype(1 / (1 - p)))


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,)])
def test_small_shapes(shape):
    z = dropout(np.ones(shape), 0.5)
    assert z.shape == shape
    assert set(np.unique(z.array)) <= {0.0, 2.0}
