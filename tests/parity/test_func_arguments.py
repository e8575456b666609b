"""torch.func's arguments, structures and errors: what it gives, and what it refuses, beside ours."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")

import tinygrad_attn as ta  # noqa: E402
from tinygrad_attn import func, nn  # noqa: E402
from tinygrad_attn.nn import functional  # noqa: E402


class Pair(NamedTuple):
    a: Any
    b: Any


class Library:
    """One of the two libraries: its functions, and the same tensors for both."""

    def __init__(self, lib: Any, operators: Any, layers: Any, functions: Any) -> None:
        self.lib, self.func, self.nn, self.F = lib, operators, layers, functions

    def draw(self, *shape: int, seed: int = 0) -> Any:
        return self.lib.tensor(np.random.default_rng([seed, *shape]).uniform(-1.0, 1.0, shape))

    def ids(self, *shape: int, most: int = 3) -> Any:
        return self.lib.tensor(np.random.default_rng([most, *shape]).integers(most, size=shape))

    def module(self, make: Any) -> Any:
        torch.manual_seed(0)
        theirs = make(torch.nn).double()
        if self.lib is torch:
            return theirs
        ours = make(nn).to(ta.float64)
        ours.load_state_dict({name: each.detach().numpy() for name, each in theirs.state_dict().items()})
        return ours


OURS, THEIRS = Library(ta, func, nn, functional), Library(torch, torch.func, torch.nn, torch.nn.functional)


def of_samples(lib: Any, weight: Any, bias: Any, x: Any, y: Any) -> Any:
    return lib.F.cross_entropy((x @ weight.T + bias)[None], y[None], label_smoothing=0.1)


def in_place(x: Any) -> Any:
    y = x.clone()
    y.add_(1.0)
    y.mul_(x)
    return y


def partly_without_graph(lib: Any, x: Any) -> Any:
    with lib.lib.no_grad():
        c = x**2
    return (x * c).sum()


def without_graph(lib: Any) -> Any:
    with lib.lib.no_grad():
        return lib.func.grad(lambda x: (x**2).sum())(lib.draw(3)), lib.func.jacfwd(lambda x: x**2)(lib.draw(3))


def of_ensemble(lib: Any) -> Any:
    models = [lib.module(lambda n: n.Sequential(n.Linear(3, 4), n.Tanh(), n.Linear(4, 2))) for _ in range(3)]
    state = lib.func.stack_module_state(models)
    call = lib.func.functional_call
    return lib.func.vmap(lambda p, b, x: call(models[0], (p, b), (x,)), (0, 0, None))(*state, lib.draw(5, 3))


def second_order(make: Any, *shape: int) -> Any:
    """The product of a layer's second derivatives with a vector, and its gradients by its parameters."""

    def of(lib: Any) -> Any:
        layer, x = lib.module(make), lib.draw(*shape)

        def loss(x: Any, parameters: Any) -> Any:
            result = lib.func.functional_call(layer, parameters, (x,))
            return ((result[0] if isinstance(result, tuple) else result) ** 2).sum()

        parameters = {name: each.detach() for name, each in layer.named_parameters()}
        along = lib.func.jvp(lambda x: lib.func.grad(loss)(x, parameters), (x,), (lib.draw(*shape, seed=1),))
        return along, lib.func.grad(loss, 1)(x, parameters)

    return of


RESULTS: dict[str, Any] = {
    "in_dims, a dict": lambda t: t.func.vmap(lambda p, x: p["w"] @ x + p["b"], ({"w": None, "b": 0}, 1))(
        {"w": t.draw(2, 3), "b": t.draw(4, 2)}, t.draw(3, 4)
    ),
    "in_dims, nested": lambda t: t.func.vmap(lambda p: p[0] * p[1], ((0, None),))((t.draw(4, 3), t.draw(3))),
    "axes from the end": lambda t: t.func.vmap(lambda x: x * 2, -1, -1)(t.draw(4, 3)),
    "out_dims, several": lambda t: t.func.vmap(lambda x: (x * 2, {"s": x.sum()}), 0, (1, {"s": 0}))(t.draw(4, 3)),
    "out_dims, None": lambda t: t.func.vmap(lambda x: (x, t.draw(3)), 0, (0, None))(t.draw(4, 3)),
    "the same for all": lambda t: t.func.vmap(lambda x: t.draw(3))(t.draw(4, 3)),
    "no examples": lambda t: t.func.vmap(lambda x: x @ t.draw(3, 2))(t.draw(0, 3)),
    "chunks": lambda t: t.func.vmap(lambda x: x.sum(), chunk_size=2)(t.draw(5, 3)),
    "vmap of vmap": lambda t: t.func.vmap(t.func.vmap(lambda a, b: (a * b).sum(), (None, 0)), (0, None))(
        t.draw(4, 3), t.draw(5, 3)
    ),
    "integers and masks": lambda t: t.func.vmap(lambda i, m: t.lib.where(m, t.F.embedding(i, t.draw(3, 2)), 0.0))(
        t.ids(4, 5), t.draw(4, 5, 1) > 0
    ),
    "gradients of samples": lambda t: t.func.vmap(
        t.func.grad(lambda *a: of_samples(t, *a), argnums=(0, 1)), (None, None, 0, 0)
    )(t.draw(3, 4), t.draw(3), t.draw(6, 4), t.ids(6)),
    "hessian under vmap": lambda t: t.func.vmap(t.func.hessian(lambda x: (x**3).sum() * x.sin().sum()))(t.draw(4, 3)),
    "hessian of vmap": lambda t: t.func.hessian(lambda x: t.func.vmap(lambda r: (r**3).sum())(x).sum())(t.draw(4, 3)),
    "jacobians of a vector": lambda t: t.func.vmap(t.func.vjp(lambda x: t.lib.tanh(t.draw(2, 3) @ x), t.draw(3))[1])(
        t.lib.eye(2, dtype=t.lib.float64)
    ),
    "jvp of grad": lambda t: t.func.jvp(t.func.grad(lambda x: (x**3).sum()), (t.draw(3),), (t.draw(3, seed=1),)),
    "grad of jvp": lambda t: t.func.grad(
        lambda x: t.func.jvp(lambda x: x.sin() * x.sum(), (x,), (t.draw(3, seed=1),))[1].sum()
    )(t.draw(3)),
    "jacrev, aux, chunks": lambda t: t.func.jacrev(lambda x: (x.sin(), x.cos()), has_aux=True, chunk_size=2)(t.draw(3)),
    "jacfwd, randomness": lambda t: t.func.jacfwd(lambda x: (x, {"k": x.sum()}), randomness="same")(t.draw(3)),
    "no rows": lambda t: (t.func.jacrev(lambda x: x[:0])(t.draw(3)), t.func.jacfwd(lambda x: x[:0])(t.draw(3))),
    "no columns": lambda t: t.func.jacrev(lambda x: x.sum(0))(t.draw(0, 3)),
    "argnums from the end": lambda t: t.func.grad(lambda x, y: (x * y).sum(), -1)(t.draw(3), t.draw(3, seed=1)),
    "argnums, a tuple of one": lambda t: t.func.jacrev(lambda x: x * 2, argnums=(0,))(t.draw(3)),
    "a named tuple": lambda t: t.func.grad(lambda n: (n.a * n.b).sum())(Pair(t.draw(3), t.draw(3, seed=1))),
    "unused": lambda t: t.func.grad(lambda x, y: (x * 2).sum(), (0, 1))(t.draw(3), t.draw(2)),
    "a constant": lambda t: t.func.grad(lambda x: t.lib.tensor(1.0, dtype=t.lib.float64))(t.draw(3)),
    "in place": lambda t: (t.func.jacrev(in_place)(t.draw(3)), t.func.vmap(in_place)(t.draw(4, 3))),
    "no_grad inside": lambda t: t.func.grad(lambda x: partly_without_graph(t, x))(t.draw(3)),
    "no_grad outside": without_graph,
    "linearize": lambda t: t.func.linearize(lambda x: x.sin() * x.sum(), t.draw(3))[1](t.draw(3, seed=1)),
    "an ensemble": of_ensemble,
    "lstm": second_order(lambda n: n.LSTM(3, 4, 2, batch_first=True), 2, 3, 3),
    "gru": second_order(lambda n: n.GRU(3, 4, bidirectional=True), 3, 2, 3),
    "norm": second_order(lambda n: n.Sequential(n.Linear(3, 4), n.LayerNorm(4)), 2, 3),
}
X = "an array in place of a tensor"
REFUSED: dict[str, Any] = {
    "in_dims, a list": lambda t: t.func.vmap(lambda x: x, [0])(t.draw(4, 3)),
    "in_dims, all None": lambda t: t.func.vmap(lambda x: x, (None,))(t.draw(3)),
    "a number among examples": lambda t: t.func.vmap(lambda x, k: x * k)(t.draw(4, 3), 3),
    "no such axis": lambda t: t.func.vmap(lambda x: x, 5)(t.draw(4, 3)),
    "other sizes": lambda t: t.func.vmap(lambda x, y: x)(t.draw(4, 3), t.draw(3, 3)),
    "out_dims of other results": lambda t: t.func.vmap(lambda x: (x, x), 0, (0, 0, 0))(t.draw(4, 3)),
    "None for what differs": lambda t: t.func.vmap(lambda x: x, 0, None)(t.draw(4, 3)),
    "a result that is no tensor": lambda t: t.func.vmap(lambda x: 1.0)(t.draw(4, 3)),
    "chunks of 0": lambda t: t.func.vmap(lambda x: x, chunk_size=0)(t.draw(4, 3)),
    "dropout, randomness unsaid": lambda t: t.func.vmap(lambda x: t.F.dropout(x, 0.5, True))(t.draw(4, 3)),
    "a result with an axis": lambda t: t.func.grad(lambda x: x.sum(0, keepdim=True))(t.draw(3)),
    "integers": lambda t: t.func.grad(lambda x: (x * 2.0).sum())(t.ids(3)),
    "no aux": lambda t: t.func.grad(lambda x: x.sum(), has_aux=True)(t.draw(3)),
    "no argnums": lambda t: t.func.grad(lambda x: x.sum(), argnums=())(t.draw(3)),
    "an argument that is not there": lambda t: t.func.grad(lambda x: x.sum(), argnums=1)(t.draw(3)),
    "a number": lambda t: t.func.grad(lambda x: x**2)(3.0),
    X: lambda t: t.func.grad(lambda x: (x**2).sum())(np.ones(3)),
    "a write into an argument": lambda t: t.func.grad(lambda x: x.mul_(2.0).sum())(t.draw(3)),
    "cotangents of another structure": lambda t: t.func.vjp(lambda x: (x, x), t.draw(3))[1](t.draw(3)),
    "cotangents of another shape": lambda t: t.func.vjp(lambda x: x, t.draw(3))[1](t.draw(2)),
    "lists for jvp": lambda t: t.func.jvp(lambda x: x, [t.draw(3)], [t.draw(3)]),
    "too few parameters": lambda t: t.func.functional_call(
        t.module(lambda n: n.Linear(3, 2)), {"bias": t.draw(2)}, t.draw(3), strict=True
    ),
}


def assert_alike(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, part in expected.items():
            assert_alike(found[key], part)
    elif isinstance(expected, (tuple, list)):
        assert type(found) is type(expected) and len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other)
    else:
        ours, theirs = found.detach().numpy(), expected.detach().numpy()
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.filterwarnings("ignore")  # of torch, about itself
@pytest.mark.parametrize("name", RESULTS)
def test_results_have_the_same_structure_shapes_and_values(name: str) -> None:
    assert_alike(RESULTS[name](OURS), RESULTS[name](THEIRS))


@pytest.mark.parametrize("name", REFUSED)
def test_what_they_refuse_is_refused(name: str) -> None:
    with pytest.raises((RuntimeError, ValueError, TypeError, IndexError, AttributeError)):
        REFUSED[name](THEIRS)
    with pytest.raises((RuntimeError, ValueError, TypeError, IndexError), match=r"^[a-z_]+: "):
        REFUSED[name](OURS)
