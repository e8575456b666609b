"""Names that PyTorch's users reach for: //, %, unary +, data, grad_fn, stride(), axis=, keepdims=."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")

from against_torch import assert_equal_to_torch  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import tinygrad_attn as ta  # noqa: E402

RNG = np.random.default_rng(0)
X, Y = RNG.uniform(-5, 5, (3, 4)), RNG.uniform(0.5, 3.0, (4,))
VALUES = [0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 7.0, np.inf, -np.inf, np.nan]
INTEGERS = [-7, -1, 1, 2, 3, 5]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_remainder_and_its_gradient(sign: float) -> None:
    assert_equal_to_torch(operator.mod, operator.mod, [X, sign * Y])
    assert_equal_to_torch(lambda x: x % 1.5, lambda x: x % 1.5, [X])
    assert_equal_to_torch(lambda y: 7.25 % y, lambda y: torch.tensor(7.25) % y, [sign * Y])
    assert_equal_to_torch(lambda x: x - x // 2.0 * 2.0, lambda x: x - (x // 2.0).detach() * 2.0, [X], double=False)


@given(st.sampled_from(VALUES), st.sampled_from(VALUES), st.sampled_from(["floordiv", "mod"]))
def test_floats_of_every_kind(x: float, y: float, name: str) -> None:
    call = getattr(operator, name)
    expected = call(torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)).numpy()
    np.testing.assert_array_equal(call(ta.tensor(np.array([x])), ta.tensor(np.array([y]))).array, expected)


@given(st.sampled_from(INTEGERS), st.sampled_from(INTEGERS), st.booleans(), st.sampled_from(["floordiv", "mod"]))
def test_integers(x: int, y: int, number: bool, name: str) -> None:
    call = getattr(operator, name)
    for first, second in ((x, y), (float(x), y), (x, float(y))):
        found = call(ta.tensor([first]), second if number else ta.tensor([second]))
        expected = call(torch.tensor([first]), second if number else torch.tensor([second]))
        assert str(found.dtype) == str(expected.dtype).removeprefix("torch.") and found.tolist() == expected.tolist()


def test_what_cannot_be_divided() -> None:
    for name in ("floordiv", "mod"):
        with pytest.raises(ZeroDivisionError, match=r"^(floor_divide|remainder): an integer cannot be divided by zero"):
            getattr(operator, name)(ta.tensor([4, 5]), ta.tensor([2, 0]))
        with pytest.raises(TypeError, match="operands must be numbers, both are bool"):
            getattr(operator, name)(ta.tensor([True]), ta.tensor([True]))
    with pytest.raises(TypeError, match="positive: input must hold numbers, it is bool"):
        +ta.tensor([True])


def test_plus_and_grad_fn() -> None:
    x = ta.tensor([1.0, -2.0], requires_grad=True)
    assert (+x).tolist() == [1.0, -2.0] and x.grad_fn is None
    z = (+x).sum()
    z.backward()
    assert x.grad.tolist() == [1.0, 1.0] and "sum" in repr(z.grad_fn) and z.grad_fn is z.node


@given(st.data())
def test_strides(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    order = data.draw(st.permutations(range(len(shape))))
    x, y = ta.zeros(tuple(shape)).permute(*order), torch.zeros(shape).permute(*order)
    real = [axis for axis, size in enumerate(x.shape) if size > 1]  # NumPy and PyTorch count size-1 axes differently
    assert [x.stride()[axis] for axis in real] == [y.stride()[axis] for axis in real]
    assert all(x.stride(axis) == x.stride()[axis] for axis in range(x.ndim))


def test_data() -> None:
    weight = ta.tensor([[1.0, 2.0]], requires_grad=True)
    before = weight.array
    weight.data = weight.data * 3.0
    weight.data -= 1.0
    weight.data[0, 0] = 9.0
    assert weight.tolist() == [[9.0, 5.0]] and weight.array is before
    assert weight.is_leaf and weight.requires_grad and not weight.data.requires_grad
    z = (weight * weight).sum()
    weight.data = np.zeros((1, 2), np.float32)
    with pytest.raises(RuntimeError, match="an assignment to data"):
        z.backward()
    for bad in (ta.zeros(2), np.zeros((1, 2), complex), 3.0, None):
        with pytest.raises((ValueError, TypeError), match="data"):
            weight.data = bad


AXES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    *[(name, (), {"axis": 1, "keepdims": True})
      for name in ("sum", "mean", "amax", "amin", "any", "all", "logsumexp", "std", "var", "argmax", "argmin")],
    *[(name, (), {"axis": axis}) for name in ("softmax", "log_softmax", "cumsum", "argsort") for axis in (0, -1)],
    ("sum", (), {"axis": (0, 1)}), ("max", (), {"axis": 0}), ("min", (), {"axis": 0, "keepdims": True}),
    ("sort", (), {"axis": 0}), ("topk", (2,), {"axis": 0}), ("unbind", (), {"axis": 1}), ("prod", (), {"axis": 1}),
    ("squeeze", (), {"axis": 0}), ("unsqueeze", (), {"axis": 0}), ("chunk", (2,), {"axis": 1}),
    ("split", (2,), {"dim": 1}), ("narrow", (), {"axis": 0, "start": 1, "length": 2}),
    ("select", (), {"axis": 0, "index": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "options"), AXES)
def test_axis_is_dim(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    x = RNG.standard_normal((3, 4))
    for found, expected in (
        (getattr(ta.tensor(x), name)(*arguments, **options), getattr(torch.tensor(x), name)(*arguments, **options)),
        (getattr(ta, name)(ta.tensor(x), *arguments, **options),
         getattr(torch, name)(torch.tensor(x), *arguments, **options)),
    ):  # fmt: skip
        several = isinstance(found, tuple)
        for mine, theirs in zip(found if several else [found], expected if several else [expected], strict=True):
            np.testing.assert_allclose(mine.array, theirs.numpy(), rtol=1e-12)


def test_axis_where_it_is_not_known_or_given_twice() -> None:
    x = ta.ones(2, 3)
    with pytest.raises(TypeError, match="sum: dim is given twice, as dim and as axis"):
        x.sum(dim=0, axis=0)
    with pytest.raises(TypeError, match="amax: dim is given twice"):
        x.amax(dim=0, axis=0)
    with pytest.raises(TypeError, match=r"add: there is no argument 'axis'; it takes \(x, y\)"):
        ta.add(x, x, axis=0)
    with pytest.raises(TypeError, match=r"sum: got an unexpected keyword argument 'axes'; it takes \(input, dim=None"):
        x.sum(axes=0)
    with pytest.raises(TypeError, match=r"cat: missing a required argument: 'tensors'; it takes \(tensors, dim=0\)"):
        ta.cat()


def test_randint_without_a_least_number() -> None:
    for found in (ta.randint(3, (200,)), ta.randint(high=3, size=(200,)), ta.randint(0, 3, (200,))):
        assert set(found.tolist()) == {0, 1, 2}


def test_numpys_functions_of_a_tensor() -> None:
    """They ask for the method, with NumPy's names and ``out=None``."""
    x: Any = ta.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.sum(x).item() == 10.0 and np.mean(x, axis=0).tolist() == [2.0, 3.0]
