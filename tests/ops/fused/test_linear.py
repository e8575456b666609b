from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.autograd import backward, grad
from tinygrad_attn.modes import unfused
from tinygrad_attn.ops.activation import gelu, relu
from tinygrad_attn.ops.fused.linear import activated_linear, linear, paired_linear
from tinygrad_attn.tensor import Tensor

seeds = st.integers(0, 2**32 - 1)


def leaf(rng, *shape, dtype=np.float64):
    return Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)


def test_messages_name_both_sizes():
    with pytest.raises(ValueError, match=r"^linear: the last axis of input has size 3"):
        linear(np.ones((2, 3)), np.ones((3, 2)))


@given(seeds, st.lists(st.integers(0, 4), max_size=3), st.integers(0, 4), st.integers(0, 4), st.booleans())
def test_linear_is_its_reference(seed, leading, inputs, outputs, biased):
    rng = np.random.default_rng(seed)
    leaves = [leaf(rng, *leading, inputs), leaf(rng, outputs, inputs), *([leaf(rng, outputs)] if biased else [])]
    z = linear(*leaves)
    g = rng.standard_normal(z.shape)
    with unfused():
        reference = linear(*leaves)
    assert reference.node.op.name != "linear"
    np.testing.assert_allclose(z.array, reference.array, rtol=1e-12, atol=1e-12)
    for found, expected in zip(grad(z, leaves, g), grad(reference, leaves, g), strict=True):
        np.testing.assert_allclose(found.array, expected.array, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", range(3))
def test_linear_gives_no_gradient_to_what_needs_none(frozen):
    rng = np.random.default_rng(0)
    leaves = [leaf(rng, 5, 3), leaf(rng, 4, 3), leaf(rng, 4)]
    leaves[frozen].requires_grad_(False)
    backward(linear(*leaves), np.ones((5, 4)))
    assert [x.grad is None for x in leaves] == [position == frozen for position in range(3)]


def test_linear_takes_its_operands_by_name():
    x, w, b = np.ones((2, 3)), np.ones((4, 3)), np.arange(4.0)
    assert np.array_equal(linear(x, bias=b, weight=w).array, 3.0 + np.tile(b, (2, 1)))


@pytest.mark.parametrize(("name", "function"), [("relu", relu), ("gelu", gelu)])
@pytest.mark.parametrize("rows", [3, 300])
def test_activated_linear_is_linear_and_then_the_activation(name, function, rows):
    rng = np.random.default_rng(0)
    leaves = [
        leaf(rng, rows, 40, dtype=np.float32),
        leaf(rng, 70, 40, dtype=np.float32),
        leaf(rng, 70, dtype=np.float32),
    ]
    g = rng.standard_normal((rows, 70)).astype(np.float32)
    z, expected = activated_linear(*leaves, activation=name), function(linear(*leaves))
    np.testing.assert_allclose(z.array, expected.array, rtol=1e-6, atol=1e-6)
    for found, one in zip(grad(z, leaves, g), grad(expected, leaves, g), strict=True):
        np.testing.assert_allclose(found.array, one.array, rtol=1e-5, atol=1e-5)


def test_paired_linear_gives_zeros_to_the_rows_whose_output_is_not_used():
    rng = np.random.default_rng(0)
    x, y, weight, bias = leaf(rng, 2, 3), leaf(rng, 4, 3), leaf(rng, 5, 3), leaf(rng, 5)
    first, second = paired_linear(x, y, weight, bias, rows=2)
    np.testing.assert_allclose(first.array, linear(x, weight, bias).array[:, :2], rtol=1e-12)
    np.testing.assert_allclose(second.array, linear(y, weight, bias).array[:, 2:], rtol=1e-12)
    backward(second, np.ones((4, 3)))
    assert x.grad is None
    np.testing.assert_array_equal(weight.grad.array, [[0.0] * 3] * 2 + [list(y.array.sum(0))] * 3)
    np.testing.assert_array_equal(bias.grad.array, [0.0, 0.0, 4.0, 4.0, 4.0])
