from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.autograd import backward, grad
from tinygrad_attn.check import gradgradcheck
from tinygrad_attn.ops.matmul import dot, matmul, mm, outer
from tinygrad_attn.samples import Draw
from tinygrad_attn.tensor import Tensor

seeds = st.integers(0, 2**32 - 1)


def leaf(rng, *shape, dtype=np.float64):
    return Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)


@given(st.data())
def test_matmul_is_numpys_for_any_shapes_and_layouts(data):
    draw = Draw(lambda low, high: data.draw(st.integers(low, high)))
    rows, depth, columns = (draw.integer(0, 6) for _ in range(3))
    batch = draw.shape((0, 3), (0, 3))
    x = draw.floats(draw.choice([(rows, depth), (depth,), (*draw.broadcastable(batch), rows, depth)]))
    y = draw.floats(draw.choice([(depth, columns), (depth,), (*draw.broadcastable(batch), depth, columns)]))
    np.testing.assert_allclose(matmul(x, y).array, np.matmul(x, y), rtol=1e-12, atol=1e-12)


@given(seeds, st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_transpose_of_a_product(seed, rows, depth, columns):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((rows, depth)), rng.standard_normal((depth, columns))
    np.testing.assert_allclose(mm(y.T, x.T).array, mm(x, y).array.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("x", "y"), [((2, 3), (3,)), ((3,), (3,)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4))])
def test_float32_stays_and_mixed_dtypes_meet_in_the_wider(x, y):
    rng = np.random.default_rng(0)
    x, y = leaf(rng, *x, dtype=np.float32), leaf(rng, *y, dtype=np.float32)
    z = matmul(x, y)
    assert z.dtype == np.float32
    assert [g.dtype for g in grad(z, [x, y], np.ones(z.shape, np.float32))] == [np.float32] * 2
    assert matmul(x, y.array.astype(np.float64)).dtype == np.float64


@pytest.mark.filterwarnings("error")
def test_nan_and_inf_pass_through_their_rows_only():
    x = np.array([[1.0, np.nan], [1.0, np.inf], [-np.inf, np.inf], [1.0, 2.0]])
    z = matmul(x, np.array([[1.0], [1.0]])).array[:, 0]
    np.testing.assert_array_equal(z, [np.nan, np.inf, np.nan, 3.0])


def test_sum_over_nothing_is_zero():
    assert np.array_equal(matmul(np.ones((2, 0)), np.ones((0, 3))).array, np.zeros((2, 3)))
    assert dot(np.ones(0), np.ones(0)).item() == 0.0


def test_a_tensor_times_itself_gets_both_gradients():
    x = Tensor(np.array([[1.0, 2.0], [3.0, 4.0]]), requires_grad=True)
    backward(matmul(x, x), np.ones((2, 2)))
    ones = np.ones((2, 2))
    assert np.array_equal(x.grad.array, ones @ x.array.T + x.array.T @ ones)


def test_third_derivative_of_a_product():
    rng = np.random.default_rng(0)
    x, y = leaf(rng, 2, 3), leaf(rng, 3, 2)

    def gradient(x, y):
        z = matmul(matmul(x, y), matmul(x, y))
        return grad(z, [x, y], Tensor(np.ones((2, 2))), create_graph=True)

    gradgradcheck(gradient, [x, y])


def test_messages_name_both_sizes():
    with pytest.raises(
        ValueError, match=r"^matmul: axis 1 of x has size 3 and axis 1 of y has size 5.*\(2, 3\).*\(4, 5, 1\)"
    ):
        matmul(np.ones((2, 3)), np.ones((4, 5, 1)))
    with pytest.raises(ValueError, match=r"^matmul: x and y need at least one axis, they have 0 and 2"):
        matmul(np.ones(()), np.ones((2, 2)))


def test_bool_is_refused():
    with pytest.raises(TypeError, match=r"^matmul: bool operands"):
        matmul(np.ones((2, 2), bool), np.ones((2, 2), bool))


def test_outer_of_empty():
    assert outer(np.ones(0), np.ones(3)).shape == (0, 3)
