"""A captured function has the bits of the function itself, values and gradients, for as long as it can have them."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_attn as ta
import tinygrad_attn.nn.functional as F
from tinygrad_attn import nn
from tinygrad_attn.program import Program
from tinygrad_attn.record import record
from tinygrad_attn.samples import Draw


def results(call, leaves, inputs):
    for leaf in leaves:
        leaf.grad = None
    found = call(*inputs)
    outputs = found if isinstance(found, tuple) else (found,)
    if outputs[0].requires_grad:
        outputs[0].backward()
    gradients = [None if leaf.grad is None else leaf.grad.array.tobytes() for leaf in leaves]
    return [output.array.tobytes() for output in outputs], gradients


def check(function, leaves, batches, program=True):
    """Several calls on new inputs, the leaves changed in between, have the bits of the function."""
    captured = ta.capture(function)
    for number, inputs in enumerate(batches):
        state = ta.random.get_state()
        expected = results(function, leaves, inputs)
        after = ta.random.get_state()
        ta.random.set_state(state)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert results(captured, leaves, inputs) == expected, number
        assert ta.random.get_state() == after
        for leaf in leaves:
            leaf.array *= leaf.array.dtype.type(0.96875)
    assert all(isinstance(each, Program) for each in captured.programs.values()) == program
    return captured


def batches_of(*shapes, count=4, seed=0):
    rng = np.random.default_rng(seed)
    return [[ta.tensor(rng.standard_normal(shape).astype(np.float32)) for shape in shapes] for _ in range(count)]


OPS = sorted(name for name, op in ta.registered_ops().items() if op.samples)


@pytest.mark.parametrize("name", OPS)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_every_op(name, data):
    op = ta.registered_ops()[name]
    sample = op.samples(Draw(lambda low, high: data.draw(st.integers(low, high))))
    leaves, operands = [], []
    for position, operand in enumerate(sample.operands):
        array = isinstance(operand, np.ndarray)
        needs = array and operand.dtype.kind == "f" and op.operand_name(position) in op.differentiable
        operands.append(ta.tensor(operand, requires_grad=needs) if array else operand)
        leaves += [operands[-1]] if needs else []
    own = ta.tensor(np.array([0.5]), requires_grad=True)

    def function(x):
        found = op(*operands, **sample.options)
        floats = [o for o in (found if isinstance(found, tuple) else (found,)) if o.is_floating_point()]
        return ta.sum(ta.cat([own.to(x.dtype) * x, *[(o.to(x.dtype) * x).flatten() for o in floats]]))

    inputs = [[ta.tensor(np.array([value]))] for value in (0.25, -1.5, 3.0)]
    captured = ta.capture(function)
    for each in inputs:
        assert results(captured, [own, *leaves], each) == results(function, [own, *leaves], each)
    (program,) = captured.programs.values()
    assert isinstance(program, Program) or "has no rule for" in program


def test_layers_with_shared_weights_masks_and_dropout():
    ta.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.25, batch_first=True)
    table = nn.Embedding(5, 8)
    leaves = [*layer.parameters(), *table.parameters()]

    def loss(ids, padding):
        states = layer(table(ids), src_key_padding_mask=padding)
        return F.cross_entropy((states @ table.weight.T).flatten(0, 1), ids.flatten()), states

    rng = np.random.default_rng(1)
    masks = [np.arange(6) >= np.array([[6], [2 + i % 3], [4]]) for i in range(5)]
    check(loss, leaves, [[ta.tensor(rng.integers(0, 5, (3, 6))), ta.tensor(mask)] for mask in masks])


def test_dropout_of_what_needs_no_gradient():
    w = ta.ones(3, requires_grad=True)
    check(lambda x: (w * F.dropout(x, 0.5) + F.dropout(w, 0.5)).sum(), [w], batches_of((3,)))


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_layers(kind):
    ta.manual_seed(0)
    layer = kind(3, 4, batch_first=True)

    def loss(x, y):
        states, last = layer(x)
        last = last[0] if isinstance(last, tuple) else last
        return F.mse_loss(states, y) + last.sum()

    check(loss, list(layer.parameters()), batches_of((2, 5, 3), (2, 5, 4)))


def test_a_leaf_used_often_and_views_of_it():
    w = ta.tensor(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), requires_grad=True)

    def loss(x):
        a, b, _ = w.unbind(0)
        return (w.T @ w).sum() + (a * b * x).sum() + w[1:].sum() + (w + w).mean()

    check(loss, [w], batches_of((4,)))


def test_each_set_of_shapes_has_a_program_from_its_second_call_on():
    w = ta.ones(3, requires_grad=True)
    captured = ta.capture(lambda x: (w * x).sum())
    x, y = ta.ones(2, 3), ta.ones(5, 3)
    for number, each in enumerate([x, y, x, x]):
        captured(each)
        kinds = [isinstance(program, Program) for program in captured.programs.values()]
        assert kinds == [[False], [False, False], [True, False], [True, False]][number]
    assert w.grad.tolist() == [11.0] * 3  # accumulated


def test_the_program_can_be_read():
    w = ta.ones(3, requires_grad=True)
    captured = ta.capture(lambda x: (w * x).sum())
    captured(ta.ones(3))
    captured(ta.ones(3))
    (program,) = captured.programs.values()
    lines = program.source.splitlines()
    assert lines[0] == "def run(reach, x0):" and "mul_" in lines[1] and lines[-1].startswith("    return (")


TAKEN_OUT = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "int": lambda x: int(x.sum()),
    "bool": lambda x: 2.0 if x.sum() > 4 else 1.0,
    "tolist": lambda x: x.tolist()[0],
    "numpy": lambda x: ta.tensor(x.numpy() * 2),
    "asarray": lambda x: ta.tensor(np.asarray(x) * 2),
    "view of an argument": lambda x: ta.Tensor(x.array[::-1]),
    "view of an op's output": lambda x: ta.Tensor((x * 2).array[::-1]),
    "view of a view": lambda x: ta.Tensor((x * 2).reshape(2, 1).array[0]),
}


@pytest.mark.parametrize("take", TAKEN_OUT.values(), ids=TAKEN_OUT)
def test_values_taken_out_of_tensors_keep_the_function_eager(take):
    w = ta.ones(2, requires_grad=True)
    same = [ta.tensor([3.0, 1.0])] * 4  # the same at first, so that no comparison would find it
    check(lambda x: (w * x * take(x)).sum(), [w], [[x] for x in (*same, ta.tensor([1.0, 2.0]))], program=False)


def depends_on_an_argument(w, x, mask):
    return (w * x * ta.tensor(np.where(mask.array, 2.0, 1.0).astype(np.float32))).sum()


def test_an_argument_that_is_new_late_is_compared():
    w = ta.ones(3, requires_grad=True)
    captured = ta.capture(lambda x, mask: depends_on_an_argument(w, x, mask))
    full, partial = ta.ones(3, dtype=bool), ta.tensor([True, False, True])
    xs = batches_of((3,), count=6)
    for number in range(5):  # three runs of the program, of which the first is compared
        captured(*xs[number], full)
    with pytest.warns(RuntimeWarning, match="from now on the function runs eagerly"):
        found = captured(*xs[5], partial)
    assert found.item() == depends_on_an_argument(w, *xs[5], partial).item()
    assert captured.differs and captured(*xs[0], partial).item() == depends_on_an_argument(w, *xs[0], partial).item()


def test_what_is_read_from_a_parameter_is_found_after_ten_times_as_many_runs_at_the_latest():
    w = ta.ones(3, requires_grad=True)

    @ta.capture
    def loss(x):
        return (w * x * float(np.sign(w.array[0]))).sum()

    for _ in range(5):
        loss(ta.ones(3))
    w.array *= -1.0
    with pytest.warns(RuntimeWarning, match="from now on the function runs eagerly"):
        found = [loss(ta.ones(3)).item() for _ in range(9)]
    assert found[-1] == 3.0


def test_what_does_not_change_may_be_made_from_arrays():
    w, table = ta.ones(3, requires_grad=True), np.arange(12.0, dtype=np.float32).reshape(4, 3)
    weights = [w]
    check(lambda x: (ta.Tensor(table)[1:] * ta.Tensor(table[:3]) * w * x).sum(), weights, batches_of((3,)))
    check(lambda x: (ta.Tensor(w.T.array[:2]) * w[:2] * x).sum(), weights, batches_of((2,)))


@pytest.mark.parametrize("cell", [nn.RNN, nn.GRU, nn.LSTM])
def test_lengths_that_change(cell):
    ta.manual_seed(0)
    layer = cell(3, 4, batch_first=True)
    xs = batches_of((2, 5, 3), count=4)
    batches = [[*x, ta.tensor(lengths)] for x, lengths in zip(xs, [[5, 5], [5, 5], [5, 3], [1, 2]], strict=True)]
    check(lambda x, lengths: layer(x, lengths=lengths)[0].sum(), list(layer.parameters()), batches)


def test_training_and_needing_a_gradient_may_change():
    ta.manual_seed(3)
    layer, drop = nn.Linear(4, 4), nn.Dropout(0.5)
    model = nn.Sequential(layer, drop)
    leaves = list(model.parameters())

    def loss(x):
        return model(x).sum()

    captured = ta.capture(loss)
    for train, needs in [(True, True)] * 3 + [(False, True)] * 3 + [(False, False)] * 3 + [(True, True)] * 3:
        model.train(train)
        layer.bias.requires_grad_(needs)
        (x,) = batches_of((2, 4), count=1)[0]
        state = ta.random.get_state()
        expected = results(loss, leaves, [x])
        ta.random.set_state(state)
        assert results(captured, leaves, [x]) == expected


def test_observed_calls_run_the_function():
    w = ta.ones(3, requires_grad=True)
    captured = ta.capture(lambda x: (w * x).sum())
    for _ in range(3):
        captured(ta.ones(3))
    with record() as tape:
        captured(ta.ones(3))
    assert [call.op.name for call in tape.calls] == ["mul", "sum"]
    with ta.unfused():
        captured(ta.ones(3))
    assert w.grad.tolist() == [5.0] * 3


def test_a_hook_of_a_leaf_that_changes_its_gradient():
    w = ta.ones(3, requires_grad=True)
    w.register_hook(lambda gradient: gradient * 2)
    check(lambda x: (w * x).sum(), [w], batches_of((3,)))


def test_an_argument_that_comes_twice_or_is_known_to_the_function():
    w, a, b = ta.ones(3, requires_grad=True), ta.tensor([1.0, 2.0, 3.0]), ta.tensor([4.0, 5.0, 6.0])
    check(lambda x, y: (w * x * x + w * y).sum(), [w], [(a, a)] * 3 + [(a, b), (b, a)])
    check(lambda x: (w * x * a).sum(), [w], [(a,)] * 3 + [(b,)])


def test_values_put_at_index_arrays():
    w, positions = ta.ones(4, requires_grad=True), np.array([2])
    check(lambda x: (ta.index_put(w * x, [positions], w[0]) * x).sum(), [w], batches_of((4,)))


def test_detached_tensors_are_computed_anew():
    w = ta.ones(3, requires_grad=True)
    check(lambda x: (w * (w * x).detach() * x.detach()).sum(), [w], batches_of((3,)))


def in_place(w, x):
    hidden = w * x
    hidden.add_(1.0)
    hidden.masked_fill_(x > 0.5, 0.0)
    return (hidden * hidden).sum()


def in_place_unrecorded(w, x):
    double = x * 2
    double.reshape(-1, 1).clamp_(min=0)
    return (w * double).sum()


def penalty(w, x):
    (gradient,) = ta.grad((w * w * x).sum(), [w], create_graph=True)
    return (gradient * gradient).sum()


@pytest.mark.parametrize(
    ("function", "reason"), [(in_place, "in place"), (in_place_unrecorded, "in place"), (penalty, "computes gradients")]
)
def test_what_is_no_op_keeps_the_function_eager(function, reason):
    w = ta.ones(3, requires_grad=True)
    captured = check(lambda x: function(w, x), [w], batches_of((3,)), program=False)
    assert [reason in each for each in captured.programs.values()] == [True]


WRITES = {
    "zero_grad": lambda layer, buffer: layer.zero_grad(),
    "zero_grad in place": lambda layer, buffer: layer.zero_grad(set_to_none=False),
    "grad": lambda layer, buffer: setattr(layer.weight, "grad", ta.zeros_like(layer.weight)),
    "init": lambda layer, buffer: nn.init.constant_(buffer, float(buffer.array[0] + 1)),
    "data": lambda layer, buffer: setattr(buffer, "data", buffer.array + 1),
    "load_state_dict": lambda layer, buffer: layer.load_state_dict(layer.state_dict()),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_writes_that_are_no_ops_keep_the_function_eager(write):
    ta.manual_seed(0)
    layer, buffer = nn.Linear(3, 2), ta.zeros(2)
    layer.weight.grad, layer.bias.grad = ta.ones(2, 3), ta.ones(2)

    def loss(x):
        write(layer, buffer)
        return (layer(x) ** 2).sum()

    captured = ta.capture(loss)
    for x in batches_of((4, 3), count=6):
        before = [p.grad.array.copy() for p in layer.parameters()]
        values = buffer.array.copy()
        state = layer.weight.array.copy()
        expected = results(loss, [], x), [p.grad.array.copy() for p in layer.parameters()], buffer.array.copy()
        for parameter, gradient in zip(layer.parameters(), before, strict=True):
            parameter.grad = ta.tensor(gradient)
        buffer.array[...], layer.weight.array[...] = values, state
        found = results(captured, [], x), [p.grad.array.copy() for p in layer.parameters()], buffer.array.copy()
        np.testing.assert_equal(found[1:], expected[1:])
    assert not any(isinstance(program, Program) for program in captured.programs.values())


def test_functions_that_read_values_keep_the_function_eager():
    w = ta.ones(3, requires_grad=True)
    zeros = [ta.zeros(3)]
    batches = [*batches_of((3,)), zeros]
    check(lambda x: w.sum() * 100 if ta.allclose(x, 0.0) else (w * x).sum(), [w], batches, program=False)
    check(lambda x: w.sum() * 100 if ta.equal(x, ta.zeros(3)) else (w * x).sum(), [w], batches, program=False)
    ids = [[ta.tensor(np.array(row))] for row in ([0, 2], [0, 2], [0, 2], [1, 2], [2, 2])]
    check(lambda y: (F.one_hot(y, 3) * w).sum(), [w], ids, program=False)


def test_a_program_is_made_anew_for_another_dtype():
    ta.manual_seed(0)
    layer = nn.Linear(3, 2)
    check_of = ta.capture(lambda x: layer(x).sum())
    x = ta.ones(4, 3)
    single = [check_of(x).item() for _ in range(3)]
    layer.double()
    double = [check_of(x).dtype for _ in range(4)]
    assert single[0] == single[1] == single[2] and set(double) == {np.dtype(np.float64)}


def test_threads_take_turns():
    w = ta.ones(3, requires_grad=True)
    captured = ta.capture(lambda x: F.dropout(w * x, 0.5).sum())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: captured(ta.ones(1 + n % 3, 3)), range(200)))
    assert captured.runs > 100 and not captured.differs


def test_each_call_writes_once():
    w, count = ta.ones(3, requires_grad=True), ta.zeros(1)

    @ta.capture
    def loss(x):
        count.add_(1)
        return (w * x).sum()

    for number in range(1, 5):
        loss(ta.ones(3))
        assert count.item() == number


def test_a_captured_function_inside_another():
    w = ta.ones(3, requires_grad=True)
    inner = ta.capture(lambda x: (w * x).sum())
    outer = ta.capture(lambda x: inner(x) + (w * x).sum())
    for _ in range(4):
        w.grad = None
        assert outer(ta.ones(3)).item() == 6.0
        assert w.grad.tolist() == [2.0] * 3


def test_without_the_graph_only_the_values_are_computed():
    w = ta.ones(3, requires_grad=True)
    captured = ta.capture(lambda x: (w * x).sum())
    with ta.no_grad():
        for _ in range(3):
            assert captured(ta.ones(3)).item() == 3.0
    assert w.grad is None and not captured.programs


def test_an_op_without_outputs():
    """unbind along an axis of size 0."""
    w, empty = ta.ones(3, requires_grad=True), ta.zeros(2, 0, requires_grad=True)
    captured = ta.capture(lambda x: sum((part.sum() for part in ta.unbind(empty, dim=1)), (w * x).sum()))
    for _ in range(4):
        w.grad = None
        assert captured(ta.ones(3)).item() == 3.0
        assert w.grad.tolist() == [1.0] * 3
    assert captured.programs


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (lambda x: x.sum(), [ta.ones(2)], "must return a scalar tensor that depends on leaves"),
        (lambda x: (), [ta.ones(2)], "must return a scalar tensor that depends on leaves"),
        (lambda x: 3.0, [ta.ones(2)], "must return a scalar tensor that depends on leaves"),
        (lambda x: x.sum(), [ta.ones(2, requires_grad=True)], "argument 0 must be a tensor that requires no gradient"),
        (lambda x: x.sum(), [np.ones(2)], "argument 0 must be a tensor that requires no gradient"),
    ],
)
def test_errors(function, arguments, message):
    with pytest.raises(TypeError, match=f"capture: .*{message}"):
        ta.capture(function)(*arguments)
