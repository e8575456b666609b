from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from tinygrad_attn.autograd import backward
from tinygrad_attn.check import gradcheck, gradgradcheck
from tinygrad_attn.creation import tensor
from tinygrad_attn.modes import no_grad
from tinygrad_attn.ops.inplace import (
    add_,
    clamp_,
    copy_,
    div_,
    fill_,
    index_add_,
    masked_fill_,
    mul_,
    pow_,
    scatter_add_,
    setitem,
    sub_,
    zero_,
)  # fmt: skip
from tinygrad_attn.ops.pointwise import exp, mul
from tinygrad_attn.ops.reduction import sum_to
from tinygrad_attn.ops.shape import clone, expand, reshape
from tinygrad_attn.ops.subscript import getitem
from tinygrad_attn.tensor import Tensor


def random(*sizes, requires_grad=True):
    return Tensor(np.random.default_rng(len(sizes)).uniform(0.5, 1.5, sizes), requires_grad=requires_grad)


WRITES = {
    "add_": lambda x, y: add_(x, y),
    "sub_": lambda x, y: sub_(x, y),
    "mul_": lambda x, y: mul_(x, y),
    "div_": lambda x, y: div_(x, y),
    "pow_": lambda x, y: pow_(x, y),
    "clamp_": lambda x, y: clamp_(x, 0.8, 1.2),
    "copy_": lambda x, y: copy_(x, y),
    "fill_": lambda x, y: fill_(x, getitem(y, (0, 0))),
    "zero_": lambda x, y: zero_(x),
    "masked_fill_": lambda x, y: masked_fill_(x, Tensor(np.array([True, False, True])), getitem(y, (0, 0))),
    "index_add_": lambda x, y: index_add_(x, 0, tensor([1, 1]), y, alpha=2),
    "scatter_add_": lambda x, y: scatter_add_(x, 1, tensor([[0, 0, 2], [1, 1, 1]]), y),
    "setitem": lambda x, y: (setitem(x, (slice(None), [0, -1]), getitem(y, (slice(None), slice(2)))), x)[1],
}


@pytest.mark.parametrize("name", WRITES)
def test_gradient_flows_through_a_write(name):
    def function(x, y):
        z = clone(x)
        assert WRITES[name](z, y) is z
        return z * z

    gradcheck(function, [random(2, 3), random(2, 3)])
    gradgradcheck(function, [random(2, 3), random(2, 3)])


@pytest.mark.parametrize("name", WRITES)
def test_recorded_and_unrecorded_writes_give_the_same_numbers_in_the_same_memory(name):
    recorded, plain = clone(random(2, 3)), random(2, 3, requires_grad=False)
    for x in (recorded, plain):
        memory = x.array
        WRITES[name](x, random(2, 3, requires_grad=x is recorded))
        assert x.array is memory
        assert x.version == 1
        assert x.storage.writer == name
    np.testing.assert_array_equal(recorded.array, plain.array)
    assert recorded.requires_grad
    assert not plain.requires_grad


@pytest.mark.parametrize("name", WRITES)
def test_a_leaf_that_requires_a_gradient_is_written_to_in_no_grad_only(name):
    x, y = random(2, 3), random(2, 3, requires_grad=False)
    with pytest.raises(RuntimeError, match=f"{name}: a leaf .*no_grad"):
        WRITES[name](x, y)
    with no_grad():
        WRITES[name](x, y)
    assert x.is_leaf
    assert x.requires_grad
    assert x.version == 1


def test_a_plain_tensor_joins_the_graph():
    x, y = tensor([1.0, 2.0]), tensor([3.0, 4.0], requires_grad=True)
    mul_(x, y)
    backward(sum_to(x, shape=()))
    assert y.grad.tolist() == [1.0, 2.0]


def test_writing_step_by_step_collects_all_gradients():
    w = tensor(2.0, requires_grad=True)
    rows = tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    for step in range(3):
        setitem(rows, step, w * float(step + 1))
    backward(sum_to(rows, shape=()))
    assert w.grad.item() == 12.0


# -- what a write must not do unnoticed ----------------------------------------------------------------------------


def test_backward_over_a_changed_operand_names_both_ops_and_the_fix():
    x, w = clone(random(2, 3)), random(2, 3)
    y = mul(x, w)
    add_(x, 1.0)
    with pytest.raises(RuntimeError, match=r"mul saved x of shape \(2, 3\) at version 0, and add_ .*1.*clone\(\)"):
        backward(y, Tensor(np.ones((2, 3))))


def test_backward_over_a_changed_output_names_both_ops():
    y = exp(random(2, 3))
    with no_grad():
        zero_(y)
    with pytest.raises(RuntimeError, match=r"exp saved its output of shape \(2, 3\) at version 0, and zero_ "):
        backward(y, Tensor(np.ones((2, 3))))


def test_a_write_through_a_view_is_seen_by_the_base():
    x = tensor([1.0, 2.0], requires_grad=False)
    w = tensor([1.0, 1.0], requires_grad=True)
    y = x * w
    setitem(getitem(x, slice(1)), 0, 9.0)
    assert x.tolist() == [9.0, 2.0]
    with pytest.raises(RuntimeError, match="setitem has since changed it"):
        backward(y, Tensor(np.ones(2, np.float32)))


def test_a_recorded_write_is_refused_while_a_view_lives():
    x = clone(random(4))
    view = reshape(x, 2, 2)
    for written in (x, view):
        with pytest.raises(RuntimeError, match=r"add_: .*shares its memory .*clone\(\)"):
            add_(written, 1.0)
    del view, written
    add_(x, 1.0)


def test_a_detached_tensor_does_not_stand_in_the_way():
    x = clone(random(3))
    outside = x.detach()
    add_(x, 1.0)
    np.testing.assert_array_equal(outside.array, x.array)
    assert outside.version == 1


def test_an_expanded_tensor_is_not_written_to():
    with pytest.raises(RuntimeError, match=r"add_: .*expanded.*clone\(\)"):
        add_(expand(tensor([1.0]), 3), 1.0)


# -- dtypes and shapes ---------------------------------------------------------------------------------------------


def test_values_take_the_dtype_of_what_is_written_to():
    x = tensor([1.0, 2.0])
    add_(x, Tensor(np.array([1.0, 1.0])))
    assert x.dtype == np.float32
    integers = tensor([1, 2, 3])
    setitem(integers, 0, 7.9)
    setitem(integers, slice(1, None), tensor([8.9, 9.9]))
    assert integers.tolist() == [7, 8, 9]
    assert fill_(tensor([True, False]), 2).tolist() == [True, True]


def test_a_float64_gradient_reaches_a_value_of_another_dtype():
    x, y = tensor([1.0, 2.0]), random(2)
    add_(x, y)
    backward(sum_to(x, shape=()))
    assert y.grad.dtype == np.float64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: add_(tensor([1]), 1.5), TypeError, "add_: .*float32.*int64"),
        (lambda: mul_(tensor([1]), tensor([1.5])), TypeError, "mul_: .*float32.*int64"),
        (lambda: div_(tensor([1]), 2), TypeError, "div_: .*float32.*int64"),
        (lambda: add_(tensor([True]), 1), TypeError, "add_: .*int64.*bool"),
        (lambda: add_(tensor([1.0]), "a"), TypeError, "add_: other: .*got 'a'"),
        (lambda: clamp_(tensor([1]), 0.5), TypeError, "clamp_: .*0.5.*int64"),
        (lambda: setitem(tensor([1, 2]), [0], tensor([1.5])), TypeError, "setitem: float32 .*int64"),
        (
            lambda: index_add_(tensor([1]), 0, tensor([0]), tensor([1.5])),
            TypeError,
            "index_add_: source .*int64",
        ),
        (lambda: scatter_add_(tensor([1]), 0, tensor([0]), tensor([1.5])), TypeError, "scatter_add_: src .*int64"),
        (lambda: add_(tensor([1.0]), tensor([1.0, 2.0])), ValueError, r"add_: other of shape \(2,\) .*\(1,\)"),
        (lambda: masked_fill_(tensor(1.0), tensor([True, True]), 0.0), ValueError, r"masked_fill_: .*\(2,\).*\(\)"),
        (lambda: fill_(tensor([1.0]), tensor([1.0])), ValueError, "fill_: value .*0-d"),
        (lambda: copy_(tensor([1.0]), tensor([1.0, 2.0])), ValueError, r"copy_: values of shape \(2,\) .*\(1,\)"),
        (
            lambda: setitem(tensor([1.0, 2.0]), [True, True], tensor([1.0] * 3)),
            ValueError,
            r"setitem: .*\(3,\).*\(2,\)",
        ),
        (lambda: setitem(tensor([1.0, 2.0]), 2, 0.0), IndexError, "setitem: index 2 .*size 2"),
    ],
)
def test_write_errors_name_the_op_and_both_sides(call, error, message):
    with pytest.raises(error, match=message):
        call()


@given(array_shapes(min_dims=1, max_dims=3, max_side=4), st.data())
def test_setitem_equals_numpy_and_its_recorded_form(sizes, data):
    items = []
    for size in sizes:
        kind = data.draw(st.integers(0, 3))
        if kind == 0:
            items.append(slice(data.draw(st.none() | st.integers(-4, 4)), None, data.draw(st.integers(1, 2))))
        elif kind == 1:
            items.append(np.asarray(data.draw(st.lists(st.integers(-size, size - 1), min_size=2, max_size=2))))
        elif kind == 2:
            items.append(None)
            items.append(slice(None))
        else:
            break
    expected = np.random.default_rng(0).standard_normal(sizes)
    x, recorded = Tensor(expected.copy()), clone(Tensor(expected.copy(), requires_grad=True))
    key = tuple(items)
    target = expected[key].shape
    assume(0 not in target)
    values = np.random.default_rng(1).standard_normal(target[data.draw(st.integers(0, len(target))) :])
    expected[key] = values
    setitem(x, key, Tensor(values))
    setitem(recorded, key, Tensor(values))
    np.testing.assert_array_equal(x.array, expected)
    np.testing.assert_array_equal(recorded.array, expected)


def test_numpy_numbers_and_arrays_are_added():
    x = tensor([1.0, 2.0])
    add_(x, np.float64(1.0))
    add_(x, np.array([1.0, 0.0]))
    setitem(x, 1, [5.0])
    assert x.tolist() == [3.0, 5.0]
    assert x.dtype == np.float32
