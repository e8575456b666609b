"""Differential operators and checkpoint beside torch.func, torch.autograd.functional and torch.utils.checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the parity extra is not installed")

from torch.utils.checkpoint import checkpoint as their_checkpoint  # noqa: E402

import tinygrad_attn as ta  # noqa: E402
from tinygrad_attn import func  # noqa: E402

BODIES: dict[str, Any] = {
    "one": lambda lib, x, w: lib.tanh(x @ w) * x.sum(),
    "two": lambda lib, x, w: (lib.exp(x) @ w, {"sum": lib.sin(w).sum()}),
    "not of w": lambda lib, x, w: lib.softmax(x, -1),
}


def leaves(structure: Any) -> list[np.ndarray]:
    if isinstance(structure, dict):
        structure = [structure[key] for key in sorted(structure)]
    if isinstance(structure, (tuple, list)):
        return [each for part in structure for each in leaves(part)]
    return [structure.detach().numpy()]


def assert_alike(found: Any, expected: Any) -> None:
    ours, theirs = leaves(found), leaves(expected)
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@given(
    body=st.sampled_from(sorted(BODIES)), rows=st.integers(1, 3), columns=st.integers(1, 3), both=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_operators(body: str, rows: int, columns: int, both: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, u, v = [rng.uniform(-1, 1, s) for s in [(rows, columns), (columns, rows)] * 2]
    argnums = (0, 1) if both else 1
    given = {}
    for lib, tensor in ((ta, ta.tensor), (torch, torch.tensor)):

        def f(x: Any, w: Any, lib: Any = lib) -> Any:
            return BODIES[body](lib, x, w)

        def number(x: Any, w: Any, lib: Any = lib, f: Any = f) -> Any:
            result = f(x, w)
            return (lib.sin(result[0] if isinstance(result, tuple) else result) * 2.0).sum() + (w * w).sum()

        given[lib] = f, number, *[tensor(each) for each in (x, w, u, v)]
    of_ours, of_theirs = given[ta], given[torch]
    for name in ("jacrev", "jacfwd", "hessian", "grad", "grad_and_value"):
        f = 1 if name in ("hessian", "grad", "grad_and_value") else 0
        found = getattr(func, name)(of_ours[f], argnums)(*of_ours[2:4])
        assert_alike(found, getattr(torch.func, name)(of_theirs[f], argnums)(*of_theirs[2:4]))
    assert_alike(
        func.jvp(of_ours[0], of_ours[2:4], of_ours[4:]), torch.func.jvp(of_theirs[0], of_theirs[2:4], of_theirs[4:])
    )
    ours, theirs = func.vjp(of_ours[0], *of_ours[2:4]), torch.func.vjp(of_theirs[0], *of_theirs[2:4])
    assert_alike(ours[1](ours[0]), theirs[1](theirs[0]))
    functional = torch.autograd.functional
    assert_alike(
        func.hvp(of_ours[1], of_ours[2:4], of_ours[4:]), functional.hvp(of_theirs[1], of_theirs[2:4], of_theirs[4:])
    )
    if body == "one":
        assert_alike(func.jacobian(of_ours[0], of_ours[2:4]), functional.jacobian(of_theirs[0], of_theirs[2:4]))


@pytest.mark.parametrize(("in_dims", "out_dims"), [(0, 0), ((0, None), 1), ((1, 0), 0)])
def test_vmap(in_dims: Any, out_dims: int) -> None:
    x, w = np.random.default_rng(0).standard_normal((2, 3, 3))

    def f(x: Any, w: Any) -> Any:
        return x * w.sum(), {"dot": (x * w).sum(-1, keepdims=True)}

    ours = func.vmap(f, in_dims, out_dims)(ta.tensor(x), ta.tensor(w))
    assert_alike(ours, torch.func.vmap(f, in_dims, out_dims)(torch.tensor(x), torch.tensor(w)))


def test_functional_call() -> None:
    theirs, ours = torch.nn.Linear(3, 2).double(), ta.nn.Linear(3, 2).double()
    ours.load_state_dict({name: each.numpy() for name, each in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((4, 3))

    def gradient(lib: Any, module: Any, x: Any) -> Any:
        parameters = {name: each.detach() for name, each in module.named_parameters()}
        return lib.grad(lambda p: (lib.functional_call(module, p, (x,)) ** 2).sum())(parameters)

    assert_alike(gradient(func, ours, ta.tensor(x)), gradient(torch.func, theirs, torch.tensor(x)))


def test_checkpoint() -> None:
    x = np.random.default_rng(0).standard_normal(3)
    found = []
    for lib, tensor, checkpoint in ((ta, ta.tensor, ta.checkpoint), (torch, torch.tensor, their_checkpoint)):
        leaf = tensor(x, requires_grad=True)
        y = checkpoint(lambda x, lib=lib: lib.sin(x) * lib.exp(x), leaf, use_reentrant=False)
        (first,) = (
            lib.grad(y.sum(), leaf, create_graph=True)
            if lib is ta
            else torch.autograd.grad(y.sum(), leaf, create_graph=True)
        )
        (first * first).sum().backward()
        found.append([first.detach(), leaf.grad])
    assert_alike(*found)
