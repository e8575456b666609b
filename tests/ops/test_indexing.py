from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from tinygrad_attn.autograd import grad
from tinygrad_attn.check import check_op, gradcheck, gradgradcheck
from tinygrad_attn.creation import tensor
from tinygrad_attn.op import registered_ops
from tinygrad_attn.ops import indexing as index
from tinygrad_attn.ops import subscript
from tinygrad_attn.ops.indexing import (
    gather,
    index_add,
    index_select,
    masked_fill,
    scatter,
    scatter_add,
    take_along_dim,
)
from tinygrad_attn.ops.subscript import getitem, index_put
from tinygrad_attn.tensor import Tensor

FAMILY = [name for name, op in registered_ops().items() if op.__module__ in (index.__name__, subscript.__name__)]


def count(*sizes):
    return Tensor(np.arange(np.prod(sizes, dtype=int), dtype=np.float64).reshape(sizes))


@pytest.mark.parametrize("name", FAMILY)
def test_op_keeps_its_promises(name):
    check_op(registered_ops()[name], samples=30, seed=1)


# -- subscripts ----------------------------------------------------------------------------------------------------


@st.composite
def subscripts(draw, sizes):
    """An index of a tensor of the given sizes: slices, None, an ellipsis, integers, integer arrays and masks, mixed."""
    common = draw(array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=3))
    items, axis, ellipsis = [], 0, False
    while axis < len(sizes) and draw(st.integers(0, 5)) > 0:
        size = sizes[axis]
        kinds = ["slice", "none", *(["int", "array"] if size else []), "mask", *([] if ellipsis else ["ellipsis"])]
        kind = draw(st.sampled_from(kinds))
        if kind == "slice":
            bound = st.none() | st.integers(-5, 5)
            items.append(slice(draw(bound), draw(bound), draw(st.none() | st.integers(1, 3))))
        elif kind == "none":
            items.append(None)
            continue
        elif kind == "int":
            items.append(draw(st.integers(-size, size - 1)))
        elif kind == "array":
            keep = draw(st.integers(0, len(common)))
            shape = tuple(draw(st.sampled_from([1, n])) for n in common[keep:])
            seed = draw(st.integers(0, 999))
            items.append(np.asarray(np.random.default_rng(seed).integers(-size, size, shape)))
            # PyTorch and this engine take an integer without axes as an integer, NumPy as an array.
            assume(shape != ())
        elif kind == "mask":
            seed = draw(st.integers(0, 999))
            items.append(np.random.default_rng(seed).random(size) < 0.6)
        else:
            items.append(Ellipsis)
            ellipsis = True
            axis += draw(st.integers(0, len(sizes) - axis))
            continue
        axis += 1
    return tuple(items)


@given(st.data())
def test_getitem_equals_numpy(data):
    sizes = data.draw(array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    items = data.draw(subscripts(sizes))
    x = count(*sizes)
    has_array = any(isinstance(item, np.ndarray) for item in items)
    # Beside arrays NumPy takes an integer for an array too, which can move axes to the front; PyTorch does not.
    assume(not (has_array and any(isinstance(item, int) for item in items)))
    try:
        expected = x.array[items]
    except IndexError:
        with pytest.raises(IndexError, match="getitem: "):
            getitem(x, items)
        return
    found = getitem(x, items)
    np.testing.assert_array_equal(found.array, expected)
    assert np.shares_memory(found.array, x.array) == (not has_array and found.numel() > 0)
    tensors = tuple(Tensor(item) if isinstance(item, np.ndarray) else item for item in items)
    np.testing.assert_array_equal(getitem(x, tensors).array, expected)


@pytest.mark.parametrize("mask", [(0,), (3, 0), (0, 2)])
def test_an_axis_of_a_mask_without_elements_keeps_nothing(mask):
    x, key = count(3, 2), np.zeros(mask, bool)
    assert getitem(x, key).shape == x.array[key].shape
    with pytest.raises(IndexError, match="getitem: a mask of shape"):
        getitem(x, np.zeros((0, 5), bool))


@given(st.data())
def test_gradient_of_getitem(data):
    sizes = data.draw(array_shapes(min_dims=1, max_dims=3, max_side=3))
    items = data.draw(subscripts(sizes))
    x = Tensor(np.random.default_rng(0).standard_normal(sizes), requires_grad=True)
    try:
        getitem(x, items)
    except IndexError:
        assume(False)
    gradcheck(lambda x: getitem(x, items), [x])


def test_second_gradient_of_a_mixed_subscript():
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 4)), requires_grad=True)
    gradgradcheck(lambda x: getitem(x, (0, slice(None), [1, 1, -1])) ** 2, [x])


def test_integers_beside_arrays_count_as_slices():
    assert getitem(count(2, 3, 4), (0, slice(None), [0, 1])).shape == (3, 2)


def test_bools_keep_or_drop_a_new_axis():
    x = count(2, 3)
    assert getitem(x, True).shape == (1, 2, 3)
    assert getitem(x, False).shape == (0, 2, 3)


def test_a_single_element_is_a_view():
    x = count(2, 3)
    element = getitem(x, (1, 2))
    assert element.shape == ()
    assert np.shares_memory(element.array, x.array)


def test_repeated_rows_add_their_gradients():
    x = tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    (found,) = grad(getitem(x, [0, 0, 0]), x, Tensor(np.ones((3, 2), np.float32)))
    assert found.tolist() == [[3.0, 3.0], [0.0, 0.0]]


def test_an_index_changed_later_does_not_change_the_gradient():
    x, rows = tensor([1.0, 2.0], requires_grad=True), tensor([0])
    picked = getitem(x, rows)
    rows.array[0] = 1
    (found,) = grad(picked, x, Tensor(np.ones(1, np.float32)))
    assert found.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        (2, IndexError, r"index 2 .*axis 0 of size 2.*\(2, 3\)"),
        ((0, -4), IndexError, "index -4 .*axis 1 of size 3"),
        ([0, 2], IndexError, "index 2 .*axis 0 of size 2"),
        ((slice(None), [-4]), IndexError, "index -4 .*axis 1 of size 3"),
        ((0, 0, 0), IndexError, r"3 indices are too many .*2 axes"),
        ((..., ...), IndexError, "one ellipsis"),
        (np.ones(3, bool), IndexError, r"mask of shape \(3,\) .*\(2,\)"),
        (np.ones((2, 2), bool), IndexError, r"mask of shape \(2, 2\) .*\(2, 3\)"),
        (([0, 1], [0, 1, 2]), IndexError, r"broadcast.*\(2,\), \(3,\)"),
        (1.0, IndexError, "got float"),
        ("a", IndexError, "got str"),
        (np.ones(2), IndexError, "it is float64"),
        (np.ones(2, np.uint8), IndexError, "it is uint8"),
        (slice(None, None, -1), ValueError, "step .*got -1; use flip"),
        (slice(None, None, 0), ValueError, "step .*got 0"),
        (slice(0.5, None), IndexError, "parts of a slice .*0.5"),
        ([[0], [0, 1]], IndexError, "equal lengths"),
    ],
)
def test_subscript_errors_say_what_is_wrong(item, error, message):
    with pytest.raises(error, match=f"getitem: .*{message}"):
        getitem(count(2, 3), item)


def test_index_put_keeps_the_last_or_adds():
    x = Tensor(np.zeros(3))
    values = Tensor(np.array([1.0, 2.0, 4.0]), requires_grad=True)
    put = index_put(x, ([0, 0, 2],), values)
    assert put.tolist() == [2.0, 0.0, 4.0]
    assert grad(put, values, Tensor(np.ones(3)))[0].tolist() == [0.0, 1.0, 1.0]
    assert index_put(x, ([0, 0, 2],), values, accumulate=True).tolist() == [3.0, 0.0, 4.0]


@given(array_shapes(min_dims=1, max_dims=4, max_side=4), st.data())
def test_index_put_accumulates_as_numpy_add_at(sizes, data):
    chosen = data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)).filter(any))
    seed = np.random.default_rng(data.draw(st.integers(0, 999)))
    indices = [seed.integers(-size, size, (3, 2)) if take else None for size, take in zip(sizes, chosen, strict=True)]
    key = tuple(slice(None) if i is None else i for i in indices)
    x = seed.integers(-9, 9, sizes)
    values = seed.integers(-9, 9, x[key].shape)
    for dtype in (np.float64, np.int64):
        expected = x.astype(dtype)
        np.add.at(expected, key, values.astype(dtype))
        found = index_put(Tensor(x.astype(dtype)), indices, Tensor(values.astype(dtype)), accumulate=True)
        np.testing.assert_array_equal(found.array, expected)


# -- along one axis ------------------------------------------------------------------------------------------------


def test_gather_of_a_tensor_without_axes():
    assert gather(tensor(3.0), 0, tensor(0)).item() == 3.0


@given(array_shapes(min_dims=1, max_dims=3, max_side=4), st.data())
def test_take_along_dim_broadcasts_as_numpy(sizes, data):
    dim = data.draw(st.integers(-len(sizes), len(sizes) - 1))
    shape = [data.draw(st.sampled_from([1, n])) for n in sizes]
    shape[dim] = data.draw(st.integers(0, 3))
    at = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-sizes[dim], sizes[dim], shape)
    x = Tensor(np.random.default_rng(0).standard_normal(sizes), requires_grad=True)
    np.testing.assert_array_equal(take_along_dim(x, Tensor(at), dim).array, np.take_along_axis(x.array, at, dim))
    gradcheck(lambda x: take_along_dim(x, Tensor(at), dim), [x])


def test_take_along_dim_of_flattened_tensors():
    assert take_along_dim(count(2, 2), tensor([[3], [-4]])).tolist() == [3.0, 0.0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: take_along_dim(count(2, 3), tensor([[3]]), 1), IndexError, "take_along_dim: index 3 .*size 3"),
        (lambda: take_along_dim(count(2, 3), tensor([0]), 1), ValueError, "take_along_dim: .*as many axes"),
        (
            lambda: take_along_dim(count(2, 3), tensor([[0]] * 3), 1),
            ValueError,
            "axis 0 has size 2 in input and 3 ",
        ),
        (lambda: index_put(count(3), [None], 0.0), IndexError, "index_put: .*at least one array"),
        (lambda: index_put(count(3), [[5]], 0.0), IndexError, "index_put: index 5"),
        (lambda: index_put(count(3), [[0]], tensor([1.0])), TypeError, "index_put: .*float64.*float32"),
    ],
)
def test_index_errors_name_the_op_and_the_sizes(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_sums_come_in_order_and_integers_stay_integers():
    assert scatter_add(tensor([0, 0]), 0, tensor([1, 1, 0]), tensor([1, 2, 3])).tolist() == [3, 3]
    assert index_add(tensor([[0, 0]]), 0, tensor([0, 0]), tensor([[1, 2], [3, 4]]), alpha=2).tolist() == [[8, 12]]


def test_scatter_keeps_the_last_and_gives_it_the_gradient():
    src = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    result = scatter(Tensor(np.zeros(2)), 0, tensor([1, 1]), src)
    assert result.tolist() == [0.0, 2.0]
    assert grad(result, src, Tensor(np.ones(2)))[0].tolist() == [0.0, 1.0]


def test_index_select_takes_a_single_index():
    assert index_select(count(2, 3), 1, tensor(2)).tolist() == [[2.0], [5.0]]


# -- by a mask -----------------------------------------------------------------------------------------------------


def test_masked_fill_keeps_the_dtype():
    mask = tensor([True, False])
    assert masked_fill(tensor([1, 2]), mask, 1.5).tolist() == [1, 2]
    assert masked_fill(tensor([1, 2]), mask, 1.5).dtype == np.int64
    assert masked_fill(tensor([1.0, 2.0]), mask, Tensor(np.array(0.5))).dtype == np.float32


def test_masked_fill_stops_nan():
    x = tensor([np.nan, 2.0], requires_grad=True)
    filled = masked_fill(x, tensor([True, False]), float("-inf"))
    assert filled.tolist() == [float("-inf"), 2.0]
    assert grad(filled, x, Tensor(np.array([np.nan, 1.0], np.float32)))[0].tolist() == [0.0, 1.0]


def test_scalars_are_taken_as_axes_of_one():
    assert take_along_dim(tensor(3.0), tensor(-1), 0).item() == 3.0
    assert take_along_dim(np.array([1.0, 2.0]), [1], 0).tolist() == [2.0]
    with pytest.raises(ValueError, match=r"index_select: index must be a single 0"):
        index_select(tensor(3.0), 0, tensor([0, 0]))


def test_numbers_and_lists_are_put_in_the_dtype_of_the_tensor():
    assert index_put(tensor([1, 2]), [[0]], 7.5).tolist() == [7, 2]
    assert index_put(tensor([1.0, 2.0]), [[0]], [3.0]).dtype == np.float32


def test_an_object_with_an_index_is_an_integer():
    class Two:
        def __index__(self):
            return 2

    assert getitem(count(3), Two()).item() == 2.0


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint64])
def test_a_numpy_integer_is_an_integer(dtype: type) -> None:
    x = Tensor(np.arange(6.0).reshape(2, 3))
    assert x[dtype(1)].tolist() == x[1].tolist() and x[:, dtype(2)].tolist() == [2.0, 5.0]
