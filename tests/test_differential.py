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


def test_dicts_are_matched_by_their_keys() -> None:
    x, u = draw((3,)), draw((3,), 1)
    _, pull_back = func.vjp(lambda x: {"b": x * 2.0, "a": x * 5.0}, x)
    np.testing.assert_allclose(pull_back({"a": u, "b": x})[0].array, 5.0 * u.array + 2.0 * x.array)
    point, tangent = {"a": x, "b": u}, {"b": x, "a": u}
    np.testing.assert_allclose(func.jvp(lambda p: p["a"] * 7.0, (point,), (tangent,))[1].array, 7.0 * u.array)


def test_linearize_calls_the_function_once() -> None:
    calls, x, u = [], draw((3,)), draw((3,), 1)

    def f(x: Any) -> Any:
        calls.append(1)
        return x.sin() * x.sum()

    value, push = func.linearize(f, x)
    for scale in (1.0, -2.0):
        expected = func.jvp(f, (x,), (u * scale,))
        np.testing.assert_allclose(push(u * scale).array, expected[1].array, rtol=1e-14)
        np.testing.assert_array_equal(value.array, expected[0].array)
    assert len(calls) == 3


def test_an_ensemble_is_its_modules() -> None:
    models = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(ta.float64) for _ in range(3)]
    models[0][0].bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"^stack_module_state: 0\.bias .* or requires no gradient"):
        func.stack_module_state(models)
    models[0][0].bias.requires_grad_()
    parameters, buffers = func.stack_module_state(models)
    assert all(p.is_leaf and p.requires_grad for p in parameters.values()) and parameters["0.weight"].shape == (3, 4, 3)
    x = draw((5, 3))
    found = func.vmap(lambda p, b: func.functional_call(models[0], (p, b), (x,)))(parameters, buffers)
    np.testing.assert_array_equal(found.array, np.stack([model(x).array for model in models]))
    found.sum().backward()
    models[1](x).sum().backward()
    np.testing.assert_allclose(parameters["0.weight"].grad.array[1], models[1][0].weight.grad.array)


def test_a_tied_weight_may_be_replaced_in_one_place() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)).to(ta.float64)
    model[1].weight = model[0].weight
    other, x = draw((2, 2), 5), draw((2,))
    both, one = (func.functional_call(model, {"0.weight": other}, x, tie_weights=tied) for tied in (True, False))
    np.testing.assert_allclose(both.array, other.array @ (other.array @ x.array))
    np.testing.assert_allclose(one.array, model[1].weight.array @ (other.array @ x.array))


X = draw((2,))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: func.grad(ta.exp)(X), ValueError, r"^grad: the function must return one scalar, .* \(2,\); sum\(\)"),
        (
            lambda: func.grad(lambda x: x.sum(0, keepdim=True))(X),
            ValueError,
            r"^grad: the function must return .* \(1,\)",
        ),
        (lambda: func.grad(ta.sum, ())(X), ValueError, "^grad: argnums names no argument$"),
        (
            lambda: func.jacrev(ta.exp, chunk_size=0),
            ValueError,
            "^jacrev: chunk_size must be None or a whole number ab",
        ),
        (
            lambda: func.jacfwd(ta.exp, randomness="no"),
            ValueError,
            "^jacfwd: randomness must be 'error', 'different' or",
        ),
        (
            lambda: func.vjp(lambda x: {"a": x, "b": x}, X)[1]({"a": X, "c": X}),
            ValueError,
            "^vjp: the cotangents must have the structure .* got a dict of 'a', 'c' in place of a dict of 'a', 'b'$",
        ),
        (
            lambda: func.linearize(ta.exp, X)[1](draw((3,))),
            ValueError,
            r"^linearize: the tangents must have the shapes",
        ),
        (
            lambda: func.functional_call(nn.Linear(2, 2), {}, X, strict=True),
            ValueError,
            "nothing is given for weight, b",
        ),
        (
            lambda: func.stack_module_state([]),
            ValueError,
            "^stack_module_state: expected at least one module, got none",
        ),
        (lambda: func.stack_module_state([nn.Linear(2, 2), nn.Tanh()]), TypeError, "expected modules of one class$"),
        (
            lambda: func.stack_module_state([nn.Linear(2, 2), nn.Linear(2, 3)]),
            ValueError,
            "^stack_module_state: weight has another shape in another module",
        ),
        (
            lambda: func.stack_module_state([nn.Linear(2, 2), nn.Linear(2, 2).eval()]),
            ValueError,
            "^stack_module_state: some modules are in training mode and some are not$",
        ),
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
        (lambda: func.functional_call(nn.Linear(2, 2), X, X), TypeError, "^functional_call: expected a dict of tens"),
        (lambda: func.grad(ta.exp, has_aux=True)(X), TypeError, r"^grad: with has_aux .* \(result, aux\)"),
        (lambda: func.functional_call(nn.Linear(2, 2), {"w": X}, X), ValueError, "^functional_call: .* 'w'$"),
        (lambda: func.functional_call(ta.exp, {}, X), TypeError, "^functional_call: expected a module"),
    ],
)
def test_errors(call: Callable[[], Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()
