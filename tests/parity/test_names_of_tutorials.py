"""Names that tutorials on attention, translation and GPT use: dtypes, conversions, shapes, searching, chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")

from against_torch import assert_equal_to_torch  # noqa: E402
from torch.nn import functional as TF  # noqa: E402

import tinygrad_attn as ta  # noqa: E402
from tinygrad_attn import nn  # noqa: E402
from tinygrad_attn.nn import functional as F  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.uniform(-2.3, 2.3, (4, 6))
INTEGERS = np.array([[3, 0, 3], [1, 0, 2]])
DTYPES = "bool uint8 uint16 uint32 uint64 int8 int16 short int32 int int64 long float32 float float64 double".split()


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes(name: str) -> None:
    found, expected = ta.zeros(2, dtype=getattr(ta, name)), torch.zeros(2, dtype=getattr(torch, name))
    assert str(found.dtype) == str(expected.dtype).removeprefix("torch.") and found.dtype == getattr(ta, name)


@pytest.mark.parametrize("name", "bool byte char short int long float double".split())
def test_conversions(name: str) -> None:
    values = np.array([0.0, 1.5, 100.9])
    found, expected = getattr(ta.tensor(values), name)(), getattr(torch.tensor(values), name)()
    assert str(found.dtype) == str(expected.dtype).removeprefix("torch.") and found.tolist() == expected.tolist()


def test_conversions_as_tutorials_write_them() -> None:
    x = ta.tensor([[1.0, 0.0]])
    assert x.type(ta.uint8).dtype == np.uint8 and x.type_as(ta.tensor([1])).dtype == np.int64
    for same in (x.to("cpu"), x.cpu(), x.to(x.device), x.to(device="cpu"), x.to(x), x.to("cpu", ta.float32)):
        assert same is x
    assert x.to("cpu", ta.float64).dtype == x.to(dtype=ta.double, device="cpu").dtype == np.float64
    for call in (lambda: x.to("cuda"), lambda: ta.zeros(2, device="cuda"), lambda: x.to("cuda:0"), lambda: x.to()):
        with pytest.raises(TypeError, match=r"^(to|zeros): (there is no device 'cuda|expected a dtype)"):
            call()
    layer = nn.Linear(2, 3)
    assert layer.double().weight.dtype == np.float64 and layer.float().cpu().weight.dtype == np.float32
    assert layer.to("cpu", ta.float64).weight.dtype == np.float64


LIKE = {"dtype": ta.int64}


@pytest.mark.parametrize("name", ["new_zeros", "new_ones", "new_empty", "zeros_like", "ones_like", "empty_like"])
def test_new_tensors_like_another(name: str) -> None:
    for options in ({}, LIKE, {"device": "cpu"}, {"requires_grad": True}):
        theirs = {key: torch.int64 if key == "dtype" else value for key, value in options.items()}
        if name.startswith("new"):
            found = getattr(ta.tensor(X), name)(2, 3, **options)
            expected = getattr(torch.tensor(X), name)(2, 3, **theirs)
        else:
            found, expected = (
                getattr(ta, name)(ta.tensor(X), **options),
                getattr(torch, name)(torch.tensor(X), **theirs),
            )
        assert found.shape == tuple(expected.shape) and str(found.dtype) == str(expected.numpy(force=True).dtype)
        assert found.requires_grad == expected.requires_grad
        assert "empty" in name or found.tolist() == expected.tolist()


def test_new_tensors_of_values() -> None:
    x = ta.tensor(INTEGERS, dtype=ta.int32)
    assert x.new_full((2,), 7).tolist() == [7, 7] and x.new_full([2], 7).dtype == np.int32
    assert x.new_tensor([1, 2]).dtype == np.int32
    with pytest.raises(OverflowError, match="new_full: 300 does not fit uint8"):
        x.byte().new_full((2,), 300)
    array = np.ones(2)
    assert ta.as_tensor(array).array is array and ta.as_tensor(x) is x and ta.as_tensor([1.0]).dtype == np.float32


Call = Callable[[Any, Any], Any]

DIFFERENTIABLE: dict[str, Call] = {
    "norm": lambda m, x: x.norm(),
    "norm p": lambda m, x: m.norm(x, 1, 0, True),
    "norm fro": lambda m, x: m.norm(x, p="fro", dim=(0, 1)),
    "norm inf": lambda m, x: x.norm(float("inf"), dim=-1),
    "tile": lambda m, x: x.tile((2,)),
    "tile more": lambda m, x: m.tile(x, (2, 1, 3)),
    "tile ints": lambda m, x: x.tile(3, 2),
    "repeat_interleave": lambda m, x: x.repeat_interleave(3, dim=0),
    "repeat_interleave last": lambda m, x: m.repeat_interleave(x, 2, -1),
    "repeat_interleave flat": lambda m, x: x.repeat_interleave(2),
    "repeat_interleave none": lambda m, x: x.repeat_interleave(0, dim=1),
    "repeat_interleave each": lambda m, x: x.repeat_interleave(m.tensor([2, 0, 1, 3]), dim=0),
    "unflatten": lambda m, x: x.unflatten(1, (2, -1)),
    "unflatten negative": lambda m, x: m.unflatten(x, -1, (3, 2)),
    "t": lambda m, x: x.t(),
    "t of a vector": lambda m, x: m.t(x[0]),
    "ravel": lambda m, x: m.ravel(x),
    "reshape_as": lambda m, x: x.reshape_as(m.zeros(8, 3)),
    "expand_as": lambda m, x: x.expand_as(m.zeros(2, 4, 6)),
    "broadcast_tensors": lambda m, x: m.broadcast_tensors(x, m.zeros(3, 1, 1))[0],
    "meshgrid": lambda m, x: m.meshgrid(x[0], x[:, 1], indexing="ij")[1],
    "meshgrid xy": lambda m, x: m.meshgrid([x[0], x[:, 1]], indexing="xy")[0],
    "diag": lambda m, x: x.diag(1),
    "diag of a vector": lambda m, x: m.diag(x[0], -2),
    "trace": lambda m, x: x.trace(),
    "hstack": lambda m, x: m.hstack([x, x]),
    "hstack vectors": lambda m, x: m.hstack((x[0], x[1])),
    "vstack": lambda m, x: m.vstack((x, x[0])),
    "concat": lambda m, x: m.concat([x, x], 1),
    "masked_select": lambda m, x: x.masked_select(x > 0.3),
    "masked_select broadcast": lambda m, x: m.masked_select(x, m.tensor([True, False, True, True, False, False])),
    "index_fill": lambda m, x: x.index_fill(1, m.tensor([2, 0]), 0.5),
    "nonzero": lambda m, x: x[(x > 0.0).nonzero(as_tuple=True)],
    "addmm": lambda m, x: m.addmm(x[:, :1], x, x.t(), beta=0.5, alpha=2.0),
    "baddbmm": lambda m, x: m.baddbmm(x[:, :4], x[None], x.t()[None], beta=2),
    "frac": lambda m, x: x.frac(),
    "floor": lambda m, x: x * x.floor() + m.ceil(x) + x.trunc() * x.round(),
    "div trunc": lambda m, x: m.div(x, 0.7, rounding_mode="trunc") * x,
    "div": lambda m, x: x.div(2.0),
    "glu": lambda m, x: (F if m is ta else TF).glu(x),
    "glu dim": lambda m, x: (F if m is ta else TF).glu(x, dim=0),
    "asin": lambda m, x: m.asin(x / 3.0) + m.arccos(x / 3.0),
    "sinh": lambda m, x: x.sinh() + m.cosh(x),
    "log10": lambda m, x: (x * x).log10(),
    "aliases": lambda m, x: m.subtract(m.multiply(x, m.negative(x)), m.absolute(x)).clip(-1.0, 1.0).divide(3.0),
    "moveaxis": lambda m, x: m.moveaxis(x, 0, 1) + x.swapdims(0, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_values_and_gradients(name: str) -> None:
    call = DIFFERENTIABLE[name]
    assert_equal_to_torch(lambda x: call(ta, x), lambda x: call(torch, x), [X])


PLAIN: dict[str, Call] = {
    "nonzero": lambda m, x: m.nonzero(x),
    "nonzero of a number": lambda m, x: m.tensor(3).nonzero(),
    "argwhere": lambda m, x: x.argwhere(),
    "count_nonzero": lambda m, x: x.count_nonzero(dim=1),
    "unique": lambda m, x: x.unique(),
    "unique counts": lambda m, x: m.unique(x, return_inverse=True, return_counts=True),
    "unique dim": lambda m, x: x.unique(dim=1),
    "bincount": lambda m, x: x.flatten().bincount(minlength=6),
    "bincount weights": lambda m, x: m.bincount(x[0], weights=m.tensor([0.5, 1.0, 2.0])),
    "one_hot": lambda m, x: (F if m is ta else TF).one_hot(x),
    "one_hot classes": lambda m, x: (F if m is ta else TF).one_hot(x, num_classes=5),
    "isclose": lambda m, x: m.isclose(x.float(), x + m.tensor([0.0, 1e-3, 1e-7])),
    "not_equal": lambda m, x: m.stack([m.not_equal(x, 3), x.greater_equal(2), m.less(x, 1)]),
    "div of integers": lambda m, x: m.div(x - 2, 2, rounding_mode="trunc"),
    "div by negative integers": lambda m, x: (x - 5).div(m.tensor([-2, 3, -3]), rounding_mode="trunc"),
    "floor of integers": lambda m, x: m.floor(x),
    "scatter_": lambda m, x: m.zeros(2, 4).scatter_(1, x, 0.9),
    "scatter_ value": lambda m, x: m.zeros(2, 4).scatter_(1, x, value=2),
    "index_fill_": lambda m, x: x.clone().index_fill_(0, m.tensor([1]), 9),
    "empty and fill": lambda m, x: m.empty(1, 1).type_as(x).fill_(4),
    "norm": lambda m, x: x.float().norm(dim=1),
    "finfo": lambda m, x: m.tensor([m.finfo(m.float32).min, m.finfo(x.float().dtype).eps, m.inf, m.pi]),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_values_alone(name: str) -> None:
    found, expected = PLAIN[name](ta, ta.tensor(INTEGERS)), PLAIN[name](torch, torch.tensor(INTEGERS))
    found, expected = (each if isinstance(each, tuple) else (each,) for each in (found, expected))
    for mine, theirs in zip(found, expected, strict=True):
        assert str(mine.dtype) == str(theirs.dtype).removeprefix("torch.") and mine.shape == tuple(theirs.shape)
        np.testing.assert_allclose(mine.array, theirs.numpy(), rtol=1e-6)


def test_answers_that_are_no_tensors() -> None:
    for m in (ta, torch):
        x = m.tensor([[1.0, 2.0], [3.0, 4.0]])
        assert m.is_tensor(x) and not m.is_tensor(1.0) and m.is_floating_point(x) and m.numel(x) == x.nelement() == 4
        assert m.equal(x, x.clone()) and not m.equal(x, x[0]) and m.allclose(x, x + 1e-7) and not m.allclose(x, x + 1)
        assert x.is_contiguous() and not x.t().is_contiguous()
        assert (x.element_size(), x.itemsize, x.nbytes, x.ndimension()) == (4, 4, 16, 2)


def test_comparisons_promote_as_arithmetic_does() -> None:
    """A 0-d tensor decides nothing within its category, and two dtypes meet in the wider one."""
    for m in (ta, torch):
        tenth = m.tensor(0.1, dtype=m.float64)
        assert bool((m.tensor([0.1]) == tenth).all()) and not bool((m.tensor([0.1]) == tenth[None]).all())
        assert (m.tensor([5], dtype=m.uint8) & m.tensor(3)).dtype == m.uint8
        assert (m.tensor([5], dtype=m.uint8) | m.tensor([3])).dtype == m.int64
        assert (m.tensor([16777217]) == m.tensor([16777216.0])).tolist() == [True]


ERRORS: dict[str, tuple[Callable[[ta.Tensor], Any], str]] = {
    "unflatten": (lambda x: x.unflatten(1, (4, 2)), r"the axis 1 of size 6 cannot become axes of sizes \(4, 2\)"),
    "unflatten twice": (lambda x: x.unflatten(1, (-1, -1)), "unflatten: the axis 1"),
    "repeats": (lambda x: x.repeat_interleave(ta.tensor([1, 2]), 0), "repeat_interleave: 2 repeats for the 4 slices"),
    "negative": (lambda x: x.repeat_interleave(-1, 0), "repeat_interleave: repeats must not be negative"),
    "half": (lambda x: x.repeat_interleave(1.5, 0), "repeat_interleave: repeats must be an integer"),
    "size": (lambda x: x.repeat_interleave(2, 0, output_size=9), "output_size is 9, the result has 8 slices"),
    "tile": (lambda x: x.tile(-1), "tile: negative repeats"),
    "norm": (lambda x: x.norm("nuc"), "norm: the nuclear norm"),
    "norm nan": (lambda x: x.norm(float("nan")), "vector_norm: ord is nan"),
    "diag": (lambda x: x[None].diag(), "diag: input must have one axis or two"),
    "trace": (lambda x: x[0].trace(), "trace: input must have two axes"),
    "t": (lambda x: x[None].t(), "t: input must have at most two axes"),
    "mask": (lambda x: x.masked_select(x), "masked_select: mask must be bool"),
    "mask shape": (lambda x: x.masked_select(x[:, :4] > 0), r"masked_select: input \(4, 6\) and mask \(4, 4\)"),
    "fill": (lambda x: x.index_fill(0, ta.tensor([4]), 0), "index_fill: index 4 is out of range for axis 0 of size 4"),
    "one_hot": (lambda x: F.one_hot(ta.tensor([3]), 3), "one_hot: classes must be from 0 to 2, they are from 3 to 3"),
    "one_hot floats": (lambda x: F.one_hot(x), "one_hot: tensor must hold integers"),
    "bincount": (lambda x: ta.bincount(ta.tensor([-1])), "bincount: input must be"),
    "mode": (lambda x: ta.div(x, 2, rounding_mode="up"), "div: rounding_mode must be None, 'floor' or 'trunc', got"),
    "glu": (lambda x: F.glu(x[:, :3]), "glu: axis -1 must have an even size"),
    "multinomial": (lambda x: ta.multinomial(x, 1), "multinomial: input must hold finite numbers of at least 0"),
    "too many": (lambda x: ta.multinomial(ta.tensor([1.0, 0.0]), 2), "multinomial: cannot draw 2 of a row with 1"),
    "bernoulli": (lambda x: ta.bernoulli(x), "bernoulli: input must hold probabilities"),
    "std": (lambda x: ta.normal(0.0, -1.0, (2,)), "normal: std must be at least 0"),
    "no size": (lambda x: ta.normal(0.0, 1.0), "normal: expected a size"),
    "leaf": (lambda x: x.requires_grad_().normal_(), "normal_: a leaf tensor that requires a gradient"),
    "integers": (lambda x: x.long().uniform_(), "uniform_: the tensor must hold floats"),
    "addmm": (lambda x: ta.addmm(x, x, x.t()), r"addmm: input of shape \(4, 6\) does not broadcast"),
    "scatter_": (lambda x: x.scatter_(1, ta.tensor([[0]])), "scatter_: expected src, a tensor or a number"),
    "meshgrid": (lambda x: ta.meshgrid(x), "meshgrid: the tensors must have one axis"),
    "isclose": (lambda x: ta.isclose(x, x[:, :5]), "isclose: shapes"),
    "type_as": (lambda x: x.type_as(3), "type_as: other must be a tensor, got a int"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_function_and_the_fix(name: str) -> None:
    call, message = ERRORS[name]
    with pytest.raises((ValueError, TypeError, IndexError, RuntimeError, NotImplementedError), match=message):
        call(ta.tensor(X))


def test_multinomial_follows_the_probabilities() -> None:
    ta.manual_seed(0)
    weights = ta.tensor([[1.0, 3.0, 0.0], [0.0, 0.2, 0.2]])
    for replacement in (True, False):
        drawn = np.concatenate([ta.multinomial(weights, 1, replacement).array for _ in range(2000)], 1)
        shares = np.stack([np.bincount(row, minlength=3) for row in drawn]) / 2000
        np.testing.assert_allclose(shares, [[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]], atol=0.05)
    both = ta.multinomial(weights, 2).array
    assert [sorted(row) for row in both.tolist()] == [[0, 1], [1, 2]]
    assert ta.multinomial(weights[0], 5, replacement=True).shape == (5,)


def test_random_tensors() -> None:
    ta.manual_seed(1)
    x = ta.empty(4000).normal_(2.0, 0.5)
    assert abs(x.mean().item() - 2.0) < 0.05 and abs(x.std().item() - 0.5) < 0.05
    y = ta.empty(4000, dtype=ta.float64).uniform_(-1.0, 3.0)
    assert -1.0 <= y.min().item() < -0.9 and 2.9 < y.max().item() < 3.0
    chosen = ta.bernoulli(ta.full((4000,), 0.3))
    assert set(chosen.tolist()) == {0.0, 1.0} and abs(chosen.mean().item() - 0.3) < 0.05
    z = ta.normal(ta.tensor([0.0, 100.0]), ta.tensor([1.0, 0.0]))
    assert z.tolist()[1] == 100.0 and ta.normal(1.0, 0.1, (2, 3)).shape == (2, 3)
    assert ta.rand_like(y).dtype == np.float64 and ta.randn_like(x).shape == (4000,)
    assert ta.randint(0, 5, (3,), dtype=ta.uint8, device="cpu").dtype == np.uint8
    assert set(ta.randint_like(ta.zeros(200), 2, 4).tolist()) == {2.0, 3.0}
    weight = nn.Linear(2, 3).weight
    with ta.no_grad():
        weight.normal_(0.0, 0.02)
    assert weight.is_leaf and weight.requires_grad


def test_modules_by_path() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    model.add_module("last", nn.Linear(3, 1))
    model.register_parameter("scale", nn.Parameter([1.0]))
    model.register_buffer("mask", ta.ones(2))
    assert model.get_submodule("0") is model[0] and model.get_submodule("") is model
    assert model.get_parameter("0.weight") is model[0].weight and list(model.buffers()) == [model.mask]
    assert dict(model.named_parameters())["scale"].item() == 1.0
    for call in (lambda: model.get_parameter("1.weight"), lambda: model.get_submodule("9")):
        with pytest.raises(AttributeError, match="Sequential: there is no"):
            call()
