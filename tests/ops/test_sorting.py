"""Where extremes are, sorting, and the k largest: ties, nan, and where gradients go."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinygrad_attn.autograd import grad
from tinygrad_attn.check import gradcheck, gradgradcheck
from tinygrad_attn.ops.sorting import argmax, argmin, argsort, max, min, sort, topk
from tinygrad_attn.tensor import Tensor

# Few values, so that many are equal.
tied = arrays(
    np.float64,
    array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6),
    elements=st.sampled_from([0.0, 1.0, 2.0, math.nan, math.inf, -math.inf]),
)


def gradient(z: Tensor, x: Tensor) -> np.ndarray:
    return grad(z, x, np.ones_like(z.array))[0].array


def reference_order(row: np.ndarray, descending: bool) -> list[int]:
    """Indices sorted by value with nan the greatest, equal ones by index."""

    def key(i: int) -> tuple[bool, float, int]:
        nan = math.isnan(row[i])
        value = 0.0 if nan else float(row[i])
        return (nan is not descending, -value, i) if descending else (nan, value, i)

    return sorted(range(len(row)), key=key)


@given(tied, st.booleans(), st.data())
def test_order(x: np.ndarray, descending: bool, data: st.DataObject) -> None:
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    values, indices = sort(Tensor(x), dim, descending)
    lines, order = np.moveaxis(x, dim, -1), np.moveaxis(indices.array, dim, -1)
    for place in np.ndindex(lines.shape[:-1]):
        assert order[place].tolist() == reference_order(lines[place], descending)
    np.testing.assert_array_equal(values.array, np.take_along_axis(x, indices.array, dim))


@given(tied, st.booleans(), st.data())
def test_topk_is_the_head_of_the_order(x: np.ndarray, largest: bool, data: st.DataObject) -> None:
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    k = data.draw(st.integers(0, x.shape[dim]))
    values, indices = topk(Tensor(x), k, dim, largest)
    everything = sort(Tensor(x), dim, descending=largest)
    np.testing.assert_array_equal(indices.array, np.take(everything.indices.array, range(k), dim), strict=True)
    np.testing.assert_array_equal(values.array, np.take(everything.values.array, range(k), dim), strict=True)


@given(tied, st.data())
def test_extremes_are_at_their_first_place(x: np.ndarray, data: st.DataObject) -> None:
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    for both, place, value in ((max, argmax, np.max), (min, argmin, np.min)):
        values, indices = both(Tensor(x), dim)
        np.testing.assert_array_equal(values.array, value(x, dim), strict=True)
        np.testing.assert_array_equal(indices.array, place(Tensor(x), dim).array)
        lines = np.moveaxis(x, dim, -1)
        equal = (lines == values.array[..., None]) | (np.isnan(lines) & np.isnan(values.array[..., None]))
        np.testing.assert_array_equal(indices.array, equal.argmax(-1))


@given(st.permutations(range(6)), st.integers(0, 3))
def test_gradients(order: list[int], k: int) -> None:
    x = Tensor(np.array(order, float).reshape(2, 3), requires_grad=True)
    for function in (
        lambda x: sort(x, 0).values,
        lambda x: sort(x, 1, True).values,
        lambda x: topk(x, k, 1).values,
        lambda x: max(x, 1).values,
        lambda x: min(x, 0, True).values,
    ):
        gradcheck(function, [x])
        gradgradcheck(function, [x])


def test_the_chosen_element_gets_the_whole_gradient() -> None:
    x = Tensor(np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 0.0]]), requires_grad=True)
    assert gradient(max(x, 1).values, x).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert gradient(min(x, 1).values, x).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert gradient(max(x), x).tolist() == [[0, 0.5, 0.5], [0, 0, 0]]


def test_max_of_two() -> None:
    x, y = Tensor(np.array([1.0, 5.0])), Tensor(np.array([[2.0], [7.0]]))
    assert max(x, y).tolist() == [[2, 5], [7, 7]]
    assert min(x, other=y).tolist() == [[1, 2], [1, 5]]


def test_max_of_bools_and_integers() -> None:
    assert max(Tensor(np.array([[False, True]])), 1).indices.tolist() == [1]
    values, indices = max(Tensor(np.array([[3, 1], [2, 9]])), 0)
    assert values.dtype == indices.dtype == np.int64
    assert (values.tolist(), indices.tolist()) == ([3, 9], [0, 1])


def test_forms_do_not_mix() -> None:
    x = Tensor(np.ones((2, 3)))
    for arguments, options in [((), {"keepdim": True}), ((0,), {"other": x}), ((x, True), {}), ((x,), {"other": x})]:
        with pytest.raises(TypeError, match="max: "):
            max(x, *arguments, **options)
    with pytest.raises(TypeError, match=r"max: dim must be an integer, got \(0, 1\)"):
        max(x, (0, 1))
    with pytest.raises(IndexError, match="min: dim 2 is out of range"):
        min(x, 2)


def test_nothing() -> None:
    empty = Tensor(np.ones((0, 3)))
    for function in (argmax, argmin, lambda x: max(x, 0), lambda x: min(x, 0), max):
        with pytest.raises(ValueError, match=r"axis 0 has size 0 in a tensor of shape \(0, 3\)"):
            function(empty)
    assert max(empty, 1).indices.shape == argsort(empty, 1)[:, 0].shape == (0,)
    assert sort(empty, 0).values.shape == (0, 3)
    assert topk(empty, 2, 1).indices.shape == (0, 2)
    assert topk(empty, 0, 0).values.shape == (0, 3)


def test_topk_out_of_range() -> None:
    x = Tensor(np.ones((2, 3)))
    with pytest.raises(ValueError, match="topk: k must be from 0 to 2, the size of axis 0, got 3"):
        topk(x, 3, 0)
    with pytest.raises(TypeError, match=r"k must be an integer, got 1\.5"):
        topk(x, 1.5)  # type: ignore[arg-type]


def test_indices_do_not_need_a_gradient() -> None:
    x = Tensor(np.array([2.0, 1.0]), requires_grad=True)
    for indices in (argmax(x), argsort(x), topk(x, 1).indices, sort(x).indices, max(x, 0).indices):
        assert indices.dtype == np.int64
        assert not indices.requires_grad
