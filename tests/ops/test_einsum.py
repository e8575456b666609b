from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.autograd import backward, grad
from tinygrad_attn.check import gradgradcheck
from tinygrad_attn.ops.einsum import einsum
from tinygrad_attn.samples import Draw
from tinygrad_attn.tensor import Tensor


@st.composite
def equations(draw):
    """An equation of one to three terms, repeated letters and lost axes among them, and operands that fit it."""
    terms = draw(st.lists(st.text("ijkl", max_size=3), min_size=1, max_size=3))
    sizes = {letter: draw(st.integers(0, 3)) for letter in "ijkl"}
    output = "".join(draw(st.permutations(sorted(set("".join(terms))))))[: draw(st.integers(0, 4))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    operands = [np.asarray(rng.standard_normal(tuple(sizes[letter] for letter in term))) for term in terms]
    return f"{','.join(terms)}->{output}", operands


@given(equations())
def test_value_is_numpys(case):
    equation, operands = case
    np.testing.assert_allclose(
        einsum(equation, *operands).array, np.einsum(equation, *operands), rtol=1e-11, atol=1e-12
    )


@given(equations())
def test_gradient_is_the_value_with_another_operand(case):
    """The einsum is linear in each operand: <g, f(..., d, ...)> is <gradient, d> for every d."""
    equation, operands = case
    rng = np.random.default_rng(0)
    leaves = [Tensor(operand, requires_grad=True) for operand in operands]
    z = einsum(equation, *leaves)
    g = np.asarray(rng.standard_normal(z.shape))
    for create_graph in (False, True):
        gradients = grad(z, leaves, g, retain_graph=True, create_graph=create_graph)
        for position, gradient in enumerate(gradients):
            direction = np.asarray(rng.standard_normal(operands[position].shape))
            moved = [direction if n == position else operand for n, operand in enumerate(operands)]
            expected = np.sum(g * np.einsum(equation, *moved))
            np.testing.assert_allclose(np.sum(gradient.array * direction), expected, rtol=1e-9, atol=1e-9)


@given(st.data())
def test_implicit_output_names_what_occurs_once_in_order(data):
    draw = Draw(lambda low, high: data.draw(st.integers(low, high)))
    i, j, k = (draw.integer(0, 3) for _ in range(3))
    x, y = draw.floats((k, j)), draw.floats((j, i))
    assert np.array_equal(einsum("kj,ji", x, y).array, einsum("kj,ji->ik", x, y).array)


def test_third_derivative():
    rng = np.random.default_rng(0)
    x, y = (Tensor(rng.standard_normal(shape), requires_grad=True) for shape in [(2, 2, 3), (3, 2)])

    def gradient(x, y):
        return grad(einsum("iij,jk,ji->k", x, y, y), [x, y], Tensor(np.ones(2)), create_graph=True)

    gradgradcheck(gradient, [x, y])


@pytest.mark.parametrize("equation", ["ij,jk,kl->il", "il,lk,kj->ij", "ij,kl,jk->il"])
def test_a_chain_and_its_gradients_never_make_more_than_matrices(equation):
    leaves = [Tensor(np.ones((50, 50)), requires_grad=True) for _ in range(3)]
    tracemalloc.start()
    try:
        backward(einsum(equation, *leaves), np.ones((50, 50)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50**3 * 8
    assert all(np.array_equal(x.grad.array, np.full((50, 50), 2500.0)) for x in leaves)


def test_a_diagonal_is_a_view_and_a_product_is_not():
    x = Tensor(np.arange(9.0).reshape(3, 3))
    diagonal = einsum("ii->i", x)
    assert np.shares_memory(diagonal.array, x.array)
    assert diagonal.storage is x.storage
    assert not np.shares_memory(einsum("ij,->ij", x, np.ones(())).array, x.array)


def test_ellipses_broadcast_from_the_right():
    x, y = np.ones((4, 1, 2, 3)), np.ones((5, 3, 6))
    assert einsum("...ij,...jk->...ik", x, y).shape == (4, 5, 2, 6)
    assert einsum("...ij,...jk->ik", x, y).array[0, 0] == 4 * 5 * 3


def test_operands_may_come_as_a_list():
    x, y = np.ones((2, 3)), np.ones((3, 4))
    assert np.array_equal(einsum("ij,jk->ik", [x, y]).array, x @ y)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32])
def test_dtype_is_kept(dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype)
    for equation, operands in [("ij->ji", [x]), ("ij,kj->ik", [x, x]), ("ij,ij->ij", [x, x])]:
        assert einsum(equation, *operands).dtype == dtype


def test_errors():
    x = np.ones((2, 3))
    with pytest.raises(TypeError, match=r"^einsum: equation must be a string, got ndarray"):
        einsum(x, [0, 1])
    with pytest.raises(ValueError, match=r"^einsum: at least one operand"):
        einsum("ij")
    with pytest.raises(TypeError, match=r"^einsum: operand 1 must be a tensor, it is the number 2.0"):
        einsum("ij,->ij", x, 2.0)
    with pytest.raises(TypeError, match=r"^einsum: operand 0 is bool"):
        einsum("ij->i", x > 0)
    with pytest.raises(ValueError, match="'j' in 'ij,jk' has size 3 in operand 0 and 2 in operand 1"):
        einsum("ij,jk", x, x)


def test_a_sum_of_integers_alone_is_int64():
    x = Tensor(np.array([[200, 200]], np.uint8))
    assert einsum("ij->i", x).tolist() == [400] and einsum("ij->i", x).dtype == np.int64
    assert einsum("ij->ji", x).dtype == np.uint8
