"""The record of what ran: values, where they came from, and gradients along edges before they are summed."""

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.modes import at_step, mark
from tinygrad_attn.record import Leaf, Output, gradient_state, record


def test_every_op_with_its_values_and_sources():
    x = ta.tensor([1.0, 2.0], dtype=ta.float64, requires_grad=True)
    with record() as tape:
        y = x * 3.0
        loss = (y * y).sum()
    assert [call.op.name for call in tape.calls] == ["mul", "mul", "sum"]
    first, square, total = tape.calls
    assert isinstance(first.inputs[0], Leaf) and first.inputs[0].tensor is x and first.inputs[1] is None
    assert square.inputs == (Output(first, 0), Output(first, 0))
    np.testing.assert_array_equal(square.values[0], [9.0, 36.0])
    np.testing.assert_array_equal(total.values[0], loss.array)
    assert "test_record.py:" in first.line and first.module == "" and first.step is None


def test_contributions_of_edges_are_told_apart_and_sum_to_the_gradient():
    x = ta.tensor([1.0, 2.0], dtype=ta.float64, requires_grad=True)
    with record() as tape:
        y = x * 1.0
        loss = (ta.sin(y) + y * 5.0).sum()
        loss.backward()
    made = tape.calls[0]
    parts = [call.contributions[position] for call, position in tape.uses(Output(made, 0))]
    np.testing.assert_array_equal(parts[0], np.cos([1.0, 2.0]))
    np.testing.assert_array_equal(parts[1], [5.0, 5.0])
    np.testing.assert_array_equal(made.gradients[0], parts[0] + parts[1])
    (leaf,) = tape.leaves
    np.testing.assert_array_equal(leaf.gradient, x.grad.array)


def test_kinds_of_gradient():
    assert gradient_state(None) == "none"
    assert gradient_state(np.zeros(2)) == "zero"
    assert gradient_state(np.array([0.0, np.nan])) == "nan"
    assert gradient_state(np.array([0.0, -1.0])) == "value"
    x = ta.tensor([1.0], requires_grad=True)
    with record() as tape:
        unused = ta.exp(x)
        (x * 0.0 + ta.relu(x - 2.0)).sum().backward()
    by_name = {call.op.name: call for call in tape.calls}
    assert by_name["exp"].gradient_state() == "none" and unused.requires_grad
    assert by_name["sub"].gradient_state() == "zero"
    assert by_name["relu"].gradient_state() == "value"


def test_values_are_those_of_the_moment():
    x = ta.tensor([1.0, 2.0])
    with record() as tape:
        y = x + 1.0
        y.add_(10.0)
    np.testing.assert_array_equal(tape.calls[0].values[0], [2.0, 3.0])


def test_modules_and_time_steps():
    layer = nn.GRU(2, 3, batch_first=True, dtype=ta.float64)
    with record() as tape, ta.unfused():
        layer(ta.zeros(1, 4, 2, dtype=ta.float64))[0].sum().backward()
    forward = [call for call in tape.calls if not call.during_backward]
    assert {call.module for call in forward if call.step is not None} == {"GRU"}
    assert sorted({call.step for call in forward if call.step is not None}) == [0, 1, 2, 3]


def test_nothing_is_kept_outside():
    x = ta.tensor([1.0], requires_grad=True)
    with record() as tape:
        y = x * 2.0
    count = len(tape.calls)
    (y * 3.0).sum().backward()
    assert len(tape.calls) == count and tape.calls[0].gradients == [None]


@pytest.mark.parametrize("fused", [True, False])
def test_recording_changes_no_bit(fused):
    rng = np.random.default_rng(0)
    x = ta.tensor(rng.standard_normal((3, 4)), dtype=ta.float64, requires_grad=True)

    def gradient():
        x.grad = None
        if fused:
            ta.softmax(x, -1).square().sum().backward()
        else:
            with ta.unfused():
                ta.softmax(x, -1).square().sum().backward()
        return x.grad.array.copy()

    plain = gradient()
    with record():
        np.testing.assert_array_equal(gradient(), plain)


def test_what_layers_announce_is_kept_with_its_source_module_and_step():
    x = ta.tensor([[1.0, 2.0]], requires_grad=True)
    with record() as tape, at_step(3):
        weights = mark("weights", ta.softmax(x, -1))
    (made,) = tape.marks
    assert (made.name, made.tensor is weights, made.steps) == ("weights", True, (3,))
    assert made.source == Output(tape.calls[1], 0) and tape.calls[1].inputs == (Output(tape.calls[0], 0),)
    assert mark("weights", x) is x
    assert len(tape.marks) == 1
