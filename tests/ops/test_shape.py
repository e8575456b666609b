from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from tinygrad_attn.check import check_op
from tinygrad_attn.creation import tensor
from tinygrad_attn.op import registered_ops
from tinygrad_attn.ops import joining as parts
from tinygrad_attn.ops import rearrangement as arrange
from tinygrad_attn.ops import shape
from tinygrad_attn.tensor import Tensor

FAMILY = [
    name for name, op in registered_ops().items() if op.__module__ in (shape.__name__, parts.__name__, arrange.__name__)
]


def count(*sizes):
    return Tensor(np.arange(np.prod(sizes, dtype=int), dtype=np.float64).reshape(sizes))


@pytest.mark.parametrize("name", FAMILY)
def test_op_keeps_its_promises(name):
    check_op(registered_ops()[name], samples=30, seed=1)


# -- views ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda x: shape.reshape(x, 6),
        lambda x: shape.view(x, (3, 2)),
        lambda x: shape.transpose(x, 0, 1),
        lambda x: shape.permute(x, 1, 0),
        lambda x: shape.expand(x, 4, -1, -1),
        lambda x: shape.unsqueeze(x, 0),
        lambda x: shape.squeeze(x),
        lambda x: shape.movedim(x, 0, 1),
        lambda x: parts.narrow(x, 1, 0, 2),
        lambda x: parts.select(x, 1, 0),
        lambda x: parts.split(x, 2, 1)[1],
        lambda x: parts.unbind(x)[0],
        lambda x: arrange.diagonal(x),
    ],
)
def test_views_share_memory_and_version(make):
    x = count(2, 3)
    y = make(x)
    assert np.shares_memory(x.array, y.array)
    assert y.storage is x.storage


@pytest.mark.parametrize(
    "make",
    [
        shape.clone,
        lambda x: shape.flip(x, 0),
        lambda x: parts.cat([x]),
        lambda x: arrange.repeat(x, 1, 1),
        arrange.tril,
    ],
)
def test_copies_share_nothing(make):
    x = count(2, 3)
    assert not np.shares_memory(x.array, make(x).array)


def test_view_refuses_to_copy():
    x = shape.transpose(count(2, 3), 0, 1)
    assert shape.view(x, 3, 2, 1).shape == (3, 2, 1)
    with pytest.raises(RuntimeError, match=r"view: .*\(3, 2\).*\(6,\); use reshape"):
        shape.view(x, 6)
    np.testing.assert_array_equal(shape.reshape(x, 6).array, [0, 3, 1, 4, 2, 5])


def test_view_as_another_dtype_is_refused():
    with pytest.raises(NotImplementedError, match=r"view: .*dtype"):
        shape.view(count(2), np.float32)


def test_contiguous_returns_the_tensor_itself_where_it_can():
    x = count(2, 3)
    assert shape.contiguous(x) is x
    turned = shape.transpose(x, 0, 1)
    assert shape.contiguous(turned).array.flags.c_contiguous
    np.testing.assert_array_equal(shape.contiguous(turned).array, turned.array)


@given(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3), st.randoms(use_true_random=False))
def test_permute_and_its_inverse_give_the_tensor_back(sizes, random):
    x = count(*sizes)
    dims = list(range(len(sizes)))
    random.shuffle(dims)
    there = shape.permute(x, dims)
    assert there.shape == tuple(sizes[d] for d in dims)
    np.testing.assert_array_equal(shape.permute(there, np.argsort(dims).tolist()).array, x.array)


@given(array_shapes(min_dims=2, max_dims=4, max_side=3), st.data())
def test_movedim_equals_numpy(sizes, data):
    dims = st.permutations(range(len(sizes)))
    number = data.draw(st.integers(1, len(sizes)))
    source, destination = data.draw(dims)[:number], data.draw(dims)[:number]
    expected = np.moveaxis(count(*sizes).array, source, destination)
    np.testing.assert_array_equal(shape.movedim(count(*sizes), source, destination).array, expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: shape.reshape(count(2, 3), 4), ValueError, r"reshape: .*\(2, 3\) with 6 elements.*\(4,\)"),
        (lambda: shape.reshape(count(0, 2), -1, 0), ValueError, "reshape: "),
        (lambda: shape.reshape(count(2), "a"), TypeError, "reshape: expected integers"),
        (lambda: shape.view(count(2, 3), -1, 4), ValueError, r"view: .*\(-1, 4\)"),
        (lambda: shape.flatten(count(2, 3), 1, 0), ValueError, "flatten: start_dim 1 comes after end_dim 0"),
        (lambda: shape.transpose(count(2, 3), 0, 2), IndexError, "transpose: dim 2"),
        (lambda: shape.permute(count(2, 3), 1, 1), ValueError, "permute: .*twice"),
        (lambda: shape.movedim(count(2, 3), (0, 1), 0), ValueError, "movedim: .*equally many"),
        (lambda: shape.squeeze(count(2, 3), 2), IndexError, "squeeze: dim 2"),
        (lambda: shape.expand(count(2, 3), 3, 3), ValueError, "expand: axis -2 has size 2, which cannot become 3"),
        (lambda: shape.flip(count(2, 3), 0, -2), ValueError, "flip: .*twice"),
    ],
)
def test_shape_errors_name_the_op_and_the_sizes(call, error, message):
    with pytest.raises(error, match=message):
        call()


# -- parts ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 7), st.integers(1, 9), st.booleans())
def test_split_and_chunk_are_undone_by_cat(size, step, by_count):
    x = count(2, size)
    pieces = parts.chunk(x, step, 1) if by_count else parts.split(x, step, 1)
    np.testing.assert_array_equal(parts.cat(pieces, 1).array, x.array)
    assert all(piece.shape[1] <= step for piece in pieces) or by_count


@given(array_shapes(max_dims=3, max_side=3), st.data())
def test_unbind_is_undone_by_stack(sizes, data):
    dim = data.draw(st.integers(-len(sizes), len(sizes) - 1))
    x = count(*sizes)
    np.testing.assert_array_equal(parts.stack(parts.unbind(x, dim), dim % len(sizes)).array, x.array)


def test_cat_and_stack_take_arrays_and_promote():
    assert parts.cat([tensor([1.0]), np.array([2, 3])]).dtype == np.float32
    assert parts.stack([tensor([1, 2]), tensor([3.0, 4.0])]).tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: parts.cat([]), ValueError, "cat: .*at least one"),
        (lambda: parts.cat(count(2, 2)), ValueError, "cat: needs a list"),
        (lambda: parts.stack([]), ValueError, "stack: .*at least one"),
        (lambda: parts.split(count(3), 0), ValueError, "split: .*1 or more, got 0"),
        (lambda: parts.split(count(3), [1, 1]), ValueError, r"split: the sizes \[1, 1\] .*sum to 3"),
        (lambda: parts.chunk(count(3), 0), ValueError, "chunk: chunks must be 1 or more, got 0"),
        (lambda: parts.narrow(count(3), 0, 2, 2), ValueError, "narrow: start 2 and length 2 .*size 3"),
        (lambda: parts.narrow(count(3), 0, 4, 0), IndexError, "narrow: start 4 .*size 3"),
        (lambda: parts.select(count(3), 0, -4), IndexError, "select: index -4 .*size 3"),
        (lambda: parts.unbind(count()), IndexError, "unbind: a 0-d tensor"),
    ],
)
def test_part_errors_name_the_op_and_the_sizes(call, error, message):
    with pytest.raises(error, match=message):
        call()


# -- arrangements --------------------------------------------------------------------------------------------------


def test_triangles_hide_nan():
    x = tensor([[1.0, np.nan], [2.0, 3.0]])
    assert arrange.tril(x).tolist() == [[1.0, 0.0], [2.0, 3.0]]


@given(array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=4), st.integers(-5, 5))
def test_triangles_sum_to_the_whole(sizes, diagonal):
    x = count(*sizes)
    np.testing.assert_array_equal(arrange.tril(x, diagonal).array + arrange.triu(x, diagonal + 1).array, x.array)


@given(array_shapes(max_dims=3, min_side=0, max_side=4), st.integers(-9, 9))
def test_roll_there_and_back(sizes, shift):
    x = count(*sizes)
    np.testing.assert_array_equal(arrange.roll(arrange.roll(x, shift), -shift).array, x.array)
    np.testing.assert_array_equal(arrange.roll(x, shift, 0).array, np.roll(x.array, shift, 0))


def test_pad_of_another_mode_is_refused():
    with pytest.raises(NotImplementedError, match="pad: mode 'reflect'"):
        arrange.pad(count(3), (1, 1), mode="reflect")


def test_pad_keeps_an_integer_dtype():
    assert arrange.pad(tensor([1, 2]), (1, 0), value=7.5).tolist() == [7, 1, 2]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: arrange.pad(count(3), (1,)), ValueError, r"pad: .*\(3,\), got \(1,\)"),
        (lambda: arrange.pad(count(3), (1, 1, 1, 1)), ValueError, "pad: "),
        (lambda: arrange.pad(count(3), (-2, -2)), ValueError, "pad: .*size 3"),
        (lambda: arrange.roll(count(3), (1, 2)), ValueError, "roll: .*2 shifts and 0 dims"),
        (lambda: arrange.repeat(count(2, 3), 2), ValueError, "repeat: .*at least 2 repeats"),
        (lambda: arrange.diagonal(count(2, 3), 0, 1, 1), ValueError, "diagonal: .*different"),
    ],
)
def test_arrangement_errors_name_the_op_and_the_sizes(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ["split", "unbind"])
def test_ops_that_count_from_the_front_say_so(name):
    options = {"split": {"sizes": (1, 2)}, "unbind": {}}[name]
    with pytest.raises(IndexError, match=f"{name}: the op counts dim from the front, got -1"):
        registered_ops()[name](tensor(np.ones((2, 3))), dim=-1, **options)
