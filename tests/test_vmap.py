"""vmap: the loop over examples, under torch.func's arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_attn as ta
from tinygrad_attn import func
from tinygrad_attn.nn import functional as F


def draw(shape: tuple[int, ...], seed: int = 0) -> ta.Tensor:
    return ta.tensor(np.random.default_rng(seed).uniform(-1.0, 1.0, shape), dtype=ta.float64)


@given(
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=3), size=st.integers(0, 3), to=st.integers(-4, 3),
    data=st.data(),
)  # fmt: skip
def test_any_axis_in_and_out(shape: list[int], size: int, to: int, data: st.DataObject) -> None:
    dim = data.draw(st.integers(-len(shape) - 1, len(shape)))
    whole = list(shape)
    whole.insert(dim % (len(shape) + 1), size)
    x = draw(tuple(whole))
    if not -len(shape) - 1 <= to <= len(shape):
        with pytest.raises(IndexError, match=r"^vmap: dim .* is out of range"):
            func.vmap(lambda each: each * 2.0, dim, to)(x)
        return
    found = func.vmap(lambda each: each * 2.0, dim, to)(x)
    np.testing.assert_array_equal(found.array, np.moveaxis(x.array * 2.0, dim, to))
    assert found.dtype == np.float64


def test_it_is_the_loop_and_differentiable() -> None:
    x, w = draw((4, 3)), draw((2, 3), 1)
    mapped = func.vmap(lambda x, w: {"y": w @ x}, in_dims=(0, None))(x, w)
    np.testing.assert_allclose(mapped["y"].array, x.array @ w.array.T)
    per_example = func.vmap(func.grad(lambda w, x: (w @ x).square().sum()), in_dims=(None, 0))(w, x)
    total = func.grad(lambda w: (x @ w.mT).square().sum())(w)
    np.testing.assert_allclose(per_example.sum(0).array, total.array)
    np.testing.assert_allclose(
        func.hessian(lambda x: ta.vmap(lambda row: (row**3).sum())(x).sum())(x).array.reshape(12, 12),
        np.diag(6.0 * x.array.reshape(-1)),
    )
    x.requires_grad_()
    func.vmap(ta.exp)(x).sum().backward()
    np.testing.assert_allclose(x.grad.array, np.exp(x.array))


def test_structures_in_and_out() -> None:
    model, x = {"w": draw((2, 3)), "b": [draw((4, 2), 1)]}, draw((3, 4), 2)
    found = func.vmap(
        lambda p, x: (p["w"] @ x + p["b"][0], {"sum": x.sum(), "w": p["w"]}),
        in_dims=({"w": None, "b": [0]}, 1),
        out_dims=(1, {"sum": 0, "w": None}),
    )(model, x)
    np.testing.assert_allclose(found[0].array, model["w"].array @ x.array + model["b"][0].array.T)
    np.testing.assert_allclose(found[1]["sum"].array, x.array.sum(0))
    assert found[1]["w"] is model["w"]
    rows = func.vmap(lambda i, m: ta.where(m, F.embedding(i, model["w"]), 0.0))
    ids, mask = ta.tensor([[0, 1], [1, 1]]), ta.tensor([[[True], [False]]] * 2)
    np.testing.assert_array_equal(rows(ids, mask).array[:, 0], model["w"].array[[0, 1]])
    assert func.vmap(lambda x, k: x * k, (0, None))(x, 3).tolist() == (x * 3).tolist()
    assert func.vmap(lambda x: x, 0, (1,))(x).shape == (4, 3)


def test_of_no_examples_the_shapes_are_found() -> None:
    found = func.vmap(lambda x: (x @ ta.ones(3, 2), x.sum().long()), 1, (1, 0))(ta.zeros(3, 0))
    assert [(each.shape, str(each.dtype)) for each in found] == [((2, 0), "float32"), ((0,), "int64")]


def test_random_numbers_are_different_the_same_or_an_error() -> None:
    x = ta.ones(6, 40)

    def drop(x: Any) -> Any:
        return F.dropout(x, 0.5, True)

    ta.manual_seed(3)
    state = ta.random.get_state()
    with pytest.raises(RuntimeError, match=r"^vmap: the function draws random numbers"):
        func.vmap(drop)(x)
    assert ta.random.get_state() == state
    same = func.vmap(drop, randomness="same")(x).array
    assert (same == same[0]).all() and 0.0 in same
    ta.manual_seed(3)
    np.testing.assert_array_equal(drop(x[0]).array, same[0])
    after = ta.random.get_state()
    ta.manual_seed(3)
    different = func.vmap(drop, randomness="different", chunk_size=2)(x).array
    assert len({row.tobytes() for row in different}) == 6 and (different[0] == same[0]).all()
    ta.manual_seed(3)
    func.vmap(drop, randomness="same")(x)
    assert ta.random.get_state() == after


X = draw((2,))
N = None


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: func.vmap(3), TypeError, "^vmap: expected a function, got 3$"),
        (lambda: func.vmap(ta.add)(X, draw((3,))), ValueError, "^vmap: all arguments .* found 2, 3$"),
        (lambda: func.vmap(ta.exp, (N,))(X), ValueError, "^vmap: all arguments must have .*; found none$"),
        (
            lambda: func.vmap(ta.add, (0,))(X, X),
            ValueError,
            "^vmap: in_dims does not fit .* a tuple of 1 for a tuple of",
        ),
        (
            lambda: func.vmap(len, ({"a": 0},))({"b": X}),
            ValueError,
            "in_dims does not fit .* a dict of 'a' for a dict of",
        ),
        (lambda: func.vmap(ta.exp, [0]), ValueError, "^vmap: in_dims must be an integer or a tuple"),
        (lambda: func.vmap(lambda: X)(), ValueError, "^vmap: the function was given no argument that has examples$"),
        (lambda: func.vmap(ta.mul)(X, 3), ValueError, "^vmap: 3 is no tensor .*; give None for it in in_dims$"),
        (lambda: func.vmap(ta.add)(X, ta.tensor(1.0)), IndexError, "^vmap: a tensor without axes has no examples"),
        (lambda: func.vmap(ta.exp, 3)(X), IndexError, "^vmap: dim 3 is out of range"),
        (lambda: func.vmap(ta.exp, 0, (0, 1))(X), ValueError, "^vmap: out_dims does not fit the results"),
        (lambda: func.vmap(ta.exp, 0, N)(X), ValueError, "^vmap: a result depends on the example"),
        (lambda: func.vmap(lambda x: 1.0)(X), TypeError, "^vmap: the function must return tensors, got 1.0"),
        (lambda: func.vmap(ta.exp, chunk_size=0), ValueError, "^vmap: chunk_size must be None or a whole number above"),
        (
            lambda: func.vmap(ta.exp, randomness="x"),
            ValueError,
            "^vmap: randomness must be 'error', 'different' or 'sa",
        ),
    ],
)
def test_errors(call: Callable[[], Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()


def test_results_that_differ_in_shape_or_structure_are_told() -> None:
    sizes = iter([1, 2, 1, 2])
    with pytest.raises(
        ValueError, match=r"^vmap: a result must have one shape for all examples, got \(\d,\), \(\d,\)$"
    ):
        func.vmap(lambda x: ta.ones(next(sizes)))(X)
    with pytest.raises(
        TypeError, match=r"^vmap: the function must return the same structure for each example, got a tu"
    ):
        func.vmap(lambda x: (x,) * next(sizes))(X)
