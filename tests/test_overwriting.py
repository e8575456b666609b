"""A program writes a result over what nothing reads any more, and over nothing else; the bits are those of the ops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_attn as ta
import tinygrad_attn.nn.functional as F
from tinygrad_attn import nn
from tinygrad_attn.ops.fused.cross_entropy import _cross_entropy, _logits_gradient
from tinygrad_attn.ops.fused.lstm import _lstm_gradients, lstm
from tinygrad_attn.overwriting import variant_of
from tinygrad_attn.program import Program
from tinygrad_attn.program_lines import Lines

TARGETS = ta.tensor(np.array([0, 2, 1, 2]))


def source_of(function, *inputs, leaves=()):
    """The code of a function's program, whose results and gradients are the function's own, call after call."""
    captured = ta.capture(function)
    for _ in range(4):
        found = []
        for call in (function, captured):
            for leaf in leaves:
                leaf.grad = None
            outputs = call(*inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            if outputs[0].requires_grad:
                outputs[0].backward()
            arrays = [*outputs, *[leaf.grad for leaf in leaves], *leaves]
            found.append([array.array.tobytes() for array in arrays])
        assert found[0] == found[1]
    (program,) = captured.programs.values()
    assert isinstance(program, Program) and not captured.differs
    return program.source


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def leaf(*shape, seed=0):
    return ta.tensor(numbers(*shape, seed=seed), requires_grad=True)


# --- What is written over, and what is not ----------------------------------------------------------------------------


def test_gates_and_gradients_take_the_memory_of_what_came_before():
    layer, output = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 3)
    leaves = [*layer.parameters(), *output.parameters()]
    x = ta.tensor(numbers(2, 2, 3))
    source = source_of(lambda x: F.cross_entropy(output(layer(x)[0]).flatten(0, 1), TARGETS), x, leaves=leaves)
    for name in ("lstm_over_", "lstm_backward_over_", "cross_entropy_backward_over_"):
        assert source.count(name) == 1, name


def test_logits_that_are_read_later_stay():
    w = leaf(3, 4)
    x = ta.tensor(numbers(4, 4))
    assert "_over_" in source_of(lambda x: F.cross_entropy(F.linear(x, w), TARGETS), x, leaves=[w])

    def returned(x):
        logits = F.linear(x, w)
        return F.cross_entropy(logits, TARGETS), logits

    def returned_as_a_view(x):
        logits = F.linear(x, w)
        return F.cross_entropy(logits, TARGETS), logits.reshape(2, 6)

    def read_by_another_rule(x):
        logits = ta.tanh(F.linear(x, w))  # tanh's derivative is of its result
        return F.cross_entropy(logits, TARGETS)

    def read_by_another_rule_through_a_view(x):
        logits = ta.tanh(F.linear(x, w)).reshape(4, 3)
        return F.cross_entropy(logits, TARGETS)

    for function in (returned, returned_as_a_view, read_by_another_rule, read_by_another_rule_through_a_view):
        assert "cross_entropy_backward_over_" not in source_of(function, x, leaves=[w]), function.__name__


def test_parameters_and_arguments_stay():
    logits, x = leaf(4, 3), ta.tensor(numbers(2, 2, 3))
    assert "_over_" not in source_of(lambda x: F.cross_entropy(logits, TARGETS) + x.sum() * 0.0, x, leaves=[logits])
    view = leaf(2, 6)
    function = lambda x: F.cross_entropy(view.reshape(4, 3), TARGETS) + x.sum() * 0.0  # noqa: E731
    assert "_over_" not in source_of(function, x, leaves=[view])
    w_hh, gates, h = leaf(4, 1), ta.tensor(numbers(2, 3, 4)), ta.tensor(numbers(3, 1))
    before = gates.array.copy()
    source = source_of(lambda gates: lstm(gates.reshape(2, 3, 4), h, h, w_hh)[0].sum(), gates, leaves=[w_hh])
    assert "lstm_over_" not in source and "lstm_backward_over_" in source
    np.testing.assert_array_equal(gates.array, before)


def test_what_a_line_reads_twice_stays():
    """The initial state is a view of the input's part of the gates."""
    w, w_hh = leaf(4, 3), leaf(4, 1)
    x = ta.tensor(numbers(2, 3, 3))

    def function(x):
        gates = F.linear(x, w)
        h = gates[0, :, :1]
        return lstm(gates, h, h.detach(), w_hh)[0].sum()

    assert "lstm_over_" not in source_of(function, x, leaves=[w, w_hh])


# --- The variants -----------------------------------------------------------------------------------------------------


def bits(arrays):
    return [None if array is None else array.tobytes() for array in arrays]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(1, 17),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from([1.0, 1e-30, 1e30]),
    st.booleans(),
)
def test_the_lstm_over_its_operands(seed, steps, batch, size, dtype, scale, by_sequence):
    rng = np.random.default_rng(seed)
    gx = (rng.standard_normal((batch, steps, 4 * size)) * scale).astype(dtype).swapaxes(0, 1)
    gx = gx if by_sequence else np.ascontiguousarray(gx)
    h0, c0, w_hh = (rng.standard_normal(n).astype(dtype) for n in ((batch, size), (batch, size), (4 * size, size)))
    mask, reverse = (rng.random((steps, batch)) < 0.7, bool(seed % 2)) if seed % 3 else (None, False)
    given, over = gx.copy("K"), variant_of(lstm.forward)
    with np.errstate(all="ignore"):
        expected = lstm.forward(gx, h0, c0, w_hh, None, mask, reverse=reverse)
        found = over.function(given, h0, c0, w_hh, None, mask, reverse=reverse)
        assert np.shares_memory(found[-1], given) == bool(batch)
        taken = np.ones((steps, batch), np.bool_) if mask is None else mask
        assert bits(found[:-1]) == bits(expected[:-1])
        assert found[-1][taken].tobytes() == expected[-1][taken].tobytes()
        g = (rng.standard_normal((steps, batch, size)).astype(dtype), None, h0)
        of_gates = variant_of(_lstm_gradients).function
        arguments = (h0, c0, w_hh, mask, expected[3])
        gradients = _lstm_gradients(g, expected[:3], *arguments, expected[4].copy("K"), reverse)
        over_gates = of_gates(g, expected[:3], *arguments, found[-1], reverse)
    assert bits(over_gates) == bits(gradients)
    assert np.shares_memory(over_gates[0], given) == bool(batch)


def test_memory_that_elements_share_or_that_is_read_only_stays():
    h, w_hh = numbers(3, 2), numbers(8, 2)
    over = variant_of(lstm.forward).function
    frozen = numbers(2, 3, 8)
    frozen.flags.writeable = False
    for gx in (np.broadcast_to(numbers(8), (2, 3, 8)), frozen, numbers(2, 3, 16)[..., ::2]):
        before = gx.copy()
        assert bits(over(gx, h, h, w_hh, reverse=False)) == bits(lstm.forward(gx, h, h, w_hh))
        np.testing.assert_array_equal(gx, before)


@pytest.mark.parametrize("layout", ["rows", "columns", "read-only", "classes second"])
def test_the_gradient_of_logits_over_them(layout):
    logits, targets = numbers(4, 3), TARGETS.array
    if layout == "columns":
        logits = np.asfortranarray(logits)
    if layout == "classes second":
        logits, targets = numbers(2, 3, 2), targets.reshape(2, 2)
    options = {"ignore_index": 1, "reduction": "mean", "label_smoothing": 0.1}
    _, lses, divisor = _cross_entropy.forward(logits, targets, None, **options)
    arguments = (targets, None, lses, divisor, 1, 0.1)
    g = np.ones((), np.float32)
    expected, before = _logits_gradient(g, logits, *arguments), logits.copy()
    logits.flags.writeable = layout != "read-only"
    found = variant_of(_logits_gradient).function(g, logits, *arguments)
    assert found.tobytes() == expected.tobytes()
    assert np.shares_memory(found, logits) == (layout == "rows")
    assert layout == "rows" or np.array_equal(logits, before)


# --- Lines ------------------------------------------------------------------------------------------------------------


def lines_of(read_after):
    lines, array = Lines(), np.zeros(4)
    lines.add(["v1"], "make()", [])
    lines.name("v1", array)
    lines.add(["v2"], "view(v1)", ["v1"])
    lines.name("v2", array.reshape(2, 2))
    lines.add(["v3"], "f(v2)", ["v2"], over=("f_over(v2)", "v2"))
    lines.name("v3", np.zeros(4))
    lines.add(["v4"], f"h({read_after})", [read_after])
    return lines, array


def test_lines_know_views_of_the_same_memory():
    assert lines_of("v3")[0].code(["v4"], []) == [
        "v1 = make()", "v2 = view(v1)", "del v1", "v3 = f_over(v2)", "del v2", "v4 = h(v3)", "del v3",
    ]  # fmt: skip
    for read_after in ("v1", "v2"):
        assert "v3 = f(v2)" in lines_of(read_after)[0].code(["v4"], [])
    for result in ("v1", "v2"):
        assert "v3 = f(v2)" in lines_of("v3")[0].code(["v4", result], [])
    for taken in ("v1", "v2"):  # a gradient that a leaf has now
        code = lines_of("v3")[0].code(["v4"], [(taken, "reach()")])
        assert (
            "v3 = f(v2)" in code
            and code.index("reach()") == code.index("v2 = view(v1)" if taken == "v1" else "v3 = f(v2)") + 1
        )
    lines, array = lines_of("v3")
    lines.lend(array[1:])
    assert "v3 = f(v2)" in lines.code(["v4"], [])
