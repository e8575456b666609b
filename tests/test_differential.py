"""Differential operators: held to finite differences, to each other, and differentiable themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_attn as ta
from tinygrad_attn import func, nn
from tinygrad_attn.nn import functional as F

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda x: ta.softmax(x * 2.0, -1),
    "products": lambda x: (x @ x.mT).tanh() * x.sum(),
    "norm": lambda x: F.layer_norm(x.exp(), (x.shape[-1],)),
    "attention": lambda x: F.scaled_dot_product_attention(x[None], x.sin()[None], x[None], is_causal=True)[0],
    "a number": lambda x: (x**3).sum() * x.cos().mean(),
}
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3))


def draw(shape: tuple[int, ...], seed: int = 0) -> ta.Tensor:
    return ta.tensor(np.random.default_rng(seed).uniform(-1.0, 1.0, shape), dtype=ta.float64)


def differences(function: Callable[[Any], Any], x: ta.Tensor, h: float = 1e-6) -> np.ndarray:
    """The Jacobian by central differences."""
    columns = []
    for position in range(x.numel()):
        step = np.zeros(x.numel())
        step[position] = h
        ends = [function(ta.tensor(x.array + sign * step.reshape(x.shape))).array for sign in (1, -1)]
        columns.append((ends[0] - ends[1]) / (2 * h))
    return np.stack(columns, -1).reshape(columns[0].shape + x.shape)


@given(name=st.sampled_from(sorted(FUNCTIONS)), shape=SHAPES, seed=st.integers(0, 99))
def test_the_jacobian_is_that_of_differences(name: str, shape: tuple[int, int], seed: int) -> None:
    f, x = FUNCTIONS[name], draw(shape, seed)
    expected = differences(f, x)
    for found in (func.jacrev(f)(x), func.jacfwd(f)(x), func.jacobian(f, x)):
        assert found.shape == expected.shape and not found.requires_grad
        np.testing.assert_allclose(found.array, expected, atol=1e-7)


@given(name=st.sampled_from(sorted(FUNCTIONS)), shape=SHAPES, seed=st.integers(0, 99))
def test_products_are_those_with_the_jacobian(name: str, shape: tuple[int, int], seed: int) -> None:
    f, x, u = FUNCTIONS[name], draw(shape, seed), draw(shape, seed + 1)
    jacobian = func.jacrev(f)(x).array
    value, pushed = func.jvp(f, (x,), (u,))
    np.testing.assert_array_equal(value.array, f(x).array)
    np.testing.assert_allclose(pushed.array, np.tensordot(jacobian, u.array, 2), atol=1e-12)
    value, pull_back = func.vjp(f, x)
    v = draw(value.shape, seed + 2)
    for _ in range(2):  # as often as one likes
        (pulled,) = pull_back(v)
        np.testing.assert_allclose(pulled.array, np.tensordot(v.array, jacobian, value.ndim), atol=1e-12)


@given(name=st.sampled_from(sorted(FUNCTIONS)), shape=SHAPES, seed=st.integers(0, 99))
def test_second_derivatives(name: str, shape: tuple[int, int], seed: int) -> None:
    x, v = draw(shape, seed), draw(shape, seed + 1)

    def f(x: Any) -> Any:
        return (FUNCTIONS[name](x) * 1.5).sin().sum()

    hessian = func.hessian(f)(x).array
    np.testing.assert_allclose(hessian, differences(func.grad(f), x), atol=1e-6)
    value, product = func.hvp(f, x, v)
    assert value.item() == f(x).item()
    np.testing.assert_allclose(product.array, np.tensordot(hessian, v.array, 2), atol=1e-10)


def test_operators_of_operators() -> None:
    cube = func.grad(func.grad(lambda x: x**4))
    assert cube(ta.tensor(3.0)).item() == 108.0
    x = draw((3,))
    third = func.jacrev(func.hessian(lambda x: (x**3).sum()))(x).array
    expected = np.zeros((3, 3, 3))
    expected[range(3), range(3), range(3)] = 6.0
    np.testing.assert_allclose(third, expected, atol=1e-12)


def test_results_are_differentiable_by_what_requires_a_gradient_outside() -> None:
    x, w = draw((3,)).requires_grad_(), draw((3,), 1).requires_grad_()
    penalty = func.grad(lambda x: (w * x**3).sum())(x).square().sum()  # Σ (3 w x²)²
    penalty.backward()
    np.testing.assert_allclose(w.grad.array, 18.0 * w.array * x.array**4)
    np.testing.assert_allclose(x.grad.array, 36.0 * w.array**2 * x.array**3)
    with ta.no_grad():
        assert not func.grad(lambda x: (w * x**3).sum())(x).requires_grad
        assert not func.vjp(lambda x: w * x, x)[1](w)[0].requires_grad
    assert func.grad(lambda y: (w * y).sum())(draw((3,))).requires_grad
    assert not func.grad(lambda y: (w.detach() * y).sum())(draw((3,))).requires_grad


def test_structures_and_argnums() -> None:
    parameters, x = {"w": draw((2, 3)), "b": [draw((2,), 1)]}, draw((3,), 2)

    def f(p: Any, x: Any) -> Any:
        return {"y": p["w"] @ x + p["b"][0], "z": (x.sum(),)}

    rows = func.jacrev(f, argnums=(0, 1))(parameters, x)
    assert rows["y"][0]["w"].shape == (2, 2, 3) and rows["y"][0]["b"][0].tolist() == [[1, 0], [0, 1]]
    np.testing.assert_allclose(rows["y"][1].array, parameters["w"].array)
    assert rows["z"][0][0]["w"].tolist() == np.zeros((2, 3)).tolist()  # nothing depends on it
    assert rows["z"][0][1].tolist() == [1, 1, 1]
    columns = func.jacfwd(f, argnums=(0, 1))(parameters, x)
    np.testing.assert_allclose(columns["y"][0]["w"].array, rows["y"][0]["w"].array)
    gradient, (value, aux) = func.grad_and_value(lambda p, x: (f(p, x)["y"].sum(), "kept"), has_aux=True)(parameters, x)
    assert sorted(gradient) == ["b", "w"] and value.shape == () and aux == "kept"
    matrix = func.hessian(lambda a, b: (a**2 * b).sum(), argnums=(0, 1))(x, x)
    np.testing.assert_allclose(matrix[0][1].array, np.diag(2.0 * x.array))
    for call in (lambda f: f(x, 3), lambda f: f(x, k=3)):
        assert call(func.grad(lambda x, k: (x * k).sum(), np.int64(0))).tolist() == [3, 3, 3]
        assert call(func.jacrev(lambda x, k: x * k)).tolist() == call(func.jacfwd(lambda x, k: x * k)).tolist()
    assert func.vmap(lambda x, k: x * k)(x, k=3).tolist() == (x * 3).tolist()


def test_vmap_is_the_loop() -> None:
    x, w = draw((4, 3)), draw((2, 3), 1)
    mapped = func.vmap(lambda x, w: {"y": w @ x}, in_dims=(0, None))(x, w)
    np.testing.assert_allclose(mapped["y"].array, x.array @ w.array.T)
    across = func.vmap(lambda a: a * 2.0, in_dims=1, out_dims=1)(x)
    np.testing.assert_array_equal(across.array, x.array * 2.0)
    per_example = func.vmap(func.grad(lambda w, x: (w @ x).square().sum()), in_dims=(None, 0))(w, x)
    total = func.grad(lambda w: (x @ w.mT).square().sum())(w)
    np.testing.assert_allclose(per_example.sum(0).array, total.array)
    x.requires_grad_()
    func.vmap(ta.exp)(x).sum().backward()
    np.testing.assert_allclose(x.grad.array, np.exp(x.array))


def test_a_module_as_a_function_of_its_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).to(ta.float64)
    model[2].weight = model[0].weight  # tied
    x, parameters = draw((2, 3)), dict(model.named_parameters())
    before = {name: p.array.copy() for name, p in parameters.items()}

    def loss(parameters: Any) -> Any:
        return func.functional_call(model, parameters, (x,)).square().sum()

    found = func.grad(loss)({name: p.detach() for name, p in parameters.items()})
    model(x).square().sum().backward()
    for name, p in parameters.items():
        np.testing.assert_allclose(found[name].array, p.grad.array, err_msg=name)
    zeros = {name: ta.zeros_like(p) for name, p in parameters.items()}
    assert func.functional_call(model, ({}, zeros), x).tolist() == np.zeros((2, 3)).tolist()
    with pytest.raises(ValueError, match=r"matmul|linear"):
        func.functional_call(model, {"0.weight": ta.zeros(1, 1, dtype=ta.float64)}, x)
    assert all(p is parameters[name] for name, p in model.named_parameters())
    assert all((p.array == before[name]).all() for name, p in parameters.items())


X = draw((2,))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: func.grad(ta.exp)(X), ValueError, r"^grad: the function must return one scalar, .* \(2,\)$"),
        (lambda: func.grad(lambda x: 1.0)(X), TypeError, "^grad: the function must return tensors of float32 or flo"),
        (lambda: func.grad(ta.sum)(ta.tensor([1])), TypeError, "^grad: argument 0 must be .*, got int64$"),
        (lambda: func.jacrev(ta.exp, 1)(X), ValueError, "^jacrev: argnums names argument 1, the function got 1$"),
        (lambda: func.grad(ta.sum, (0, -1))(X), ValueError, "^grad: argnums names an argument twice"),
        (
            lambda: func.jvp(ta.exp, (X,), (X.float(),)),
            TypeError,
            "^jvp: the tangents must have the dtype of what they",
        ),
        (
            lambda: func.vjp(ta.exp, X)[1](X.long()),
            TypeError,
            "^vjp: the cotangents must have the dtype of what they a",
        ),
        (lambda: func.jacfwd(ta.exp, 0.0)(X), TypeError, "^jacfwd: argnums must be an integer or a tuple"),
        (lambda: func.jacrev(3), TypeError, "^jacrev: expected a function, got"),
        (lambda: func.vjp(ta.exp, X)[1](draw((3,))), ValueError, r"^vjp: the cotangents must have the shapes \(2,\)"),
        (lambda: func.jvp(ta.exp, (X,), (draw((3,)),)), ValueError, r"^jvp: the tangents must have the shapes \(2,\)"),
        (lambda: func.jvp(ta.exp, X, X), TypeError, "^jvp: primals must be a tuple"),
        (lambda: func.hvp(ta.sum, X, draw((3,))), ValueError, r"^hvp: v must have the shapes \(2,\)"),
        (lambda: func.vmap(ta.add)(X, draw((3,))), ValueError, "^vmap: all arguments .* found 2, 3$"),
        (lambda: func.vmap(ta.add, (0,))(X, X), ValueError, "^vmap: in_dims has 1 entries for 2 arguments$"),
        (lambda: func.vmap(ta.add)(X, ta.tensor(1.0)), IndexError, "^vmap: a tensor without axes has no examples"),
        (lambda: func.vmap(ta.exp, 3)(X), IndexError, r"^vmap: "),
        (lambda: func.vmap(lambda x: 1.0)(X), TypeError, "^vmap: the function must return tensors, as many for each"),
        (lambda: func.functional_call(nn.Linear(2, 2), X, X), TypeError, "^functional_call: expected a dict of tens"),
        (lambda: func.grad(ta.exp, has_aux=True)(X), TypeError, r"^grad: with has_aux .* \(result, aux\)"),
        (lambda: func.functional_call(nn.Linear(2, 2), {"w": X}, X), ValueError, "^functional_call: .* 'w'$"),
        (lambda: func.functional_call(ta.exp, {}, X), TypeError, "^functional_call: expected a module"),
    ],
)
def test_errors(call: Callable[[], Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()
