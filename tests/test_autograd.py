"""Backward: order, accumulation, freeing, versions, and errors that say what to do."""

import gc
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threads import in_threads

import tinygrad_attn as ta
from tinygrad_attn.autograd import backward, grad
from tinygrad_attn.check import gradcheck, gradgradcheck
from tinygrad_attn.nn import functional as F


def leaf(*values: float) -> ta.Tensor:
    return ta.tensor(np.array(values), requires_grad=True)


def test_chain_rule_by_hand() -> None:
    x, y = leaf(2.0, 3.0), leaf(5.0, 7.0)
    (x * y + ta.exp(x)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [5.0 + np.exp(2.0), 7.0 + np.exp(3.0)])
    np.testing.assert_allclose(y.grad.numpy(), [2.0, 3.0])


def test_backward_accumulates_and_grad_does_not() -> None:
    x = leaf(1.0, 2.0)
    (x * 3.0).sum().backward()
    (x * 3.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [6.0, 6.0])
    (found,) = grad((x * 3.0).sum(), x)
    np.testing.assert_array_equal(found.numpy(), [3.0, 3.0])
    np.testing.assert_array_equal(x.grad.numpy(), [6.0, 6.0])


def test_a_tensor_used_many_times_sums_its_gradients() -> None:
    x = leaf(1.5)
    y = x
    for _ in range(5):
        y = y + x * y
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [2.5**5 + 1.5 * 5 * 2.5**4])


def test_gradients_do_not_alias_each_other() -> None:
    x, y = leaf(1.0), leaf(2.0)
    (x + y).sum().backward()
    x.grad.array[...] = 100.0
    assert y.grad.item() == 1.0


def test_incoming_gradient_is_not_written_to() -> None:
    x = leaf(1.0, 2.0)
    seed = ta.tensor(np.array([1.0, 1.0]))
    y = x + x
    (y + y).backward(seed)
    np.testing.assert_array_equal(seed.numpy(), [1.0, 1.0])
    np.testing.assert_array_equal(x.grad.numpy(), [4.0, 4.0])


def test_intermediate_keeps_its_gradient_only_if_asked() -> None:
    x = leaf(3.0)
    y, z = x * 2.0, x * 4.0
    y.retain_grad()
    assert y.retains_grad and not z.retains_grad
    (y * z).sum().backward()
    assert y.grad.item() == 12.0
    assert z.grad is None


def test_grad_for_an_intermediate() -> None:
    x = leaf(3.0)
    y = x * 2.0
    g_x, g_y = grad((y * y).sum(), [x, y])
    assert (g_x.item(), g_y.item()) == (24.0, 12.0)


def test_higher_orders() -> None:
    x = leaf(2.0)
    value = (x**5).sum()
    for expected in (80.0, 160.0, 240.0, 240.0, 120.0):
        (value,) = grad(value, x, create_graph=True)
        assert value.item() == pytest.approx(expected)


def test_backward_with_create_graph_gives_a_differentiable_grad() -> None:
    x = leaf(3.0)
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    (second,) = grad(x.grad, x)
    assert second.item() == pytest.approx(18.0)


def test_unused_input() -> None:
    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(RuntimeError, match=r"input 1 of shape .* allow_unused=True"):
        grad((x * 2.0).sum(), [x, y])
    found = grad((x * 2.0).sum(), [x, y], allow_unused=True)
    assert found[0].item() == 2.0 and found[1] is None


def test_only_what_leads_to_the_inputs_is_computed() -> None:
    x, y = leaf(1.0), leaf(2.0)
    calls = []
    side = y * 2.0
    side.register_hook(lambda g: calls.append(g))
    grad((x * 3.0 + side).sum(), x)
    assert calls == []


def test_freed_graph_says_how_to_keep_it() -> None:
    x = leaf(1.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"saved values of sum .* retain_graph=True"):
        y.backward()
    z = (x * x).sum()
    z.backward(retain_graph=True)
    z.backward()
    assert x.grad.item() == 6.0


def test_errors_at_the_start() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match=r"shape \(2,\).*scalar"):
        (x * 2.0).backward()
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        ta.tensor([1.0]).sum().backward()
    with pytest.raises(ValueError, match=r"must have shape \(2,\), it has \(3,\)"):
        (x * 2.0).backward(ta.tensor(np.ones(3)))
    with pytest.raises(TypeError, match="dtype float64"):
        (x * 2.0).backward(ta.tensor([1.0, 1.0]))
    with pytest.raises(ValueError, match="2 outputs but 1 gradients"):
        backward([x * 2.0, x * 3.0], [ta.tensor(np.ones(2))])
    with pytest.raises(RuntimeError, match="input 0 of shape"):
        grad((x * 2.0).sum(), ta.tensor([1.0]))


def test_no_grad_and_enable_grad() -> None:
    x = leaf(1.0)
    with ta.no_grad():
        assert not (x * 2.0).requires_grad
        with ta.enable_grad():
            assert (x * 2.0).requires_grad
        assert not ta.is_grad_enabled()
    assert ta.is_grad_enabled()

    @ta.no_grad()
    def decorated() -> ta.Tensor:
        return x * 2.0

    assert not decorated().requires_grad
    assert (x * 2.0).requires_grad
    assert not (x * 2.0).detach().requires_grad


def test_modes_belong_to_their_thread() -> None:
    seen = []
    with ta.no_grad():
        thread = threading.Thread(target=lambda: seen.append(ta.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_threads_may_differentiate_at_once() -> None:
    results: list[float] = []

    def work(value: float) -> None:
        x = leaf(value)
        y = x
        for _ in range(200):
            y = ta.tanh(y * 1.01)
        y.sum().backward()
        results.append(x.grad.item())

    threads = [threading.Thread(target=work, args=(0.5,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1 and len(results) == 8


def test_a_long_chain_needs_no_recursion() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.sum().backward()
    assert x.grad.item() == 1.0


def test_graph_is_freed_without_the_garbage_collector() -> None:
    x = leaf(1.0)
    gc.disable()
    try:
        y = ta.exp(ta.tanh(x * 2.0))
        reference = weakref.ref(y)
        del y
        assert reference() is None
    finally:
        gc.enable()


def test_a_node_keeps_only_what_a_rule_names() -> None:
    x, y = leaf(1.0), leaf(2.0)
    constant = y.detach()
    assert not (x + y).node.operands and not (x + y).node.saved
    assert all(a is b for a, b in zip((x * y).node.operands, (x, y), strict=True)) and not (x * y).node.saved
    assert (x * constant).node.operands[0] is None and (x * constant).node.operands[1] is constant
    assert not ta.tanh(x).node.operands and set(ta.tanh(x).node.saved) == {"z"}


def test_write_in_place_after_saving_names_both_ops() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    h = x * 2.0
    y = (h * w).sum()
    h.add_(1.0)
    with pytest.raises(RuntimeError, match=r"mul saved x of shape \(2,\) at version 0, and add_.* clone\(\)"):
        y.backward()


def test_wrong_rules_of_a_users_op_are_named() -> None:
    from tinygrad_attn.op import Op

    bad_shape = Op(lambda x: x * 1.0, "z = x", None, (), 1, (), False)
    bad_shape.__wrapped__.__name__ = "bad_shape"
    bad_shape.name = "bad_shape"
    bad_shape.vjp("x", "g", lambda g: ta.ones(7, dtype=g.dtype))
    with pytest.raises(ValueError, match=r"bad_shape gave a gradient of shape \(7,\) to an operand of shape \(2,\)"):
        bad_shape(leaf(1.0, 2.0)).sum().backward()
    bad_dtype = Op(lambda x: x * 1.0, "z = x", None, (), 1, (), False)
    bad_dtype.name = "bad_dtype"
    bad_dtype.vjp("x", "g", lambda g: ta.ones(2))
    with pytest.raises(TypeError, match="bad_dtype gave operand 0 a gradient of dtype float32"):
        bad_dtype(leaf(1.0, 2.0)).sum().backward()


def test_same_function_of_reused_operands_through_a_reference() -> None:
    """A composite whose second operand is made from its first: paths must not be counted twice."""
    from tinygrad_attn.op import Op

    product = Op(lambda a, b: a * b, "z = ab", None, (), 1, (), False)
    product.name = "product"
    product.vjp("a", r"\bar z b")
    product.vjp("b", r"\bar z a")
    product.composed_of(lambda a, b: a * b)
    x = leaf(1.5)
    assert gradcheck(lambda x: product(x, x * x), [x]) < 1e-6
    assert gradgradcheck(lambda x: product(x, x * x), [x]) < 1e-6


@given(st.integers(0, 10_000))
def test_random_graphs_against_finite_differences(seed: int) -> None:
    generator = np.random.default_rng(seed)
    operations = [
        lambda a, b: a * b,
        lambda a, b: a + b,
        lambda a, b: a - b * 0.5,
        lambda a, b: ta.tanh(a) * ta.sigmoid(b),
        lambda a, b: ta.where(a > b, a, b * 2.0),
        lambda a, b: a / (b * b + 1.0),
    ]

    def function(*inputs: ta.Tensor) -> ta.Tensor:
        chooser = np.random.default_rng(seed)
        values = list(inputs)
        for _ in range(8):
            a, b = chooser.integers(0, len(values), 2)
            values.append(operations[chooser.integers(0, len(operations))](values[a], values[b]))
        return values[-1] + values[-2]

    shapes = [(2, 3), (3,), (2, 1)]
    inputs = [ta.tensor(generator.uniform(-1, 1, shape), requires_grad=True) for shape in shapes]
    gradcheck(function, inputs)
    gradgradcheck(function, inputs)


def test_gradients_of_create_graph_are_their_own() -> None:
    a, b, seed = leaf(3.0), leaf(4.0), ta.tensor(np.array([1.0]))
    (a + b).backward(seed, create_graph=True)
    (a * 5.0).sum().backward()
    assert (a.grad.item(), b.grad.item(), seed.item()) == (6.0, 1.0, 1.0)


def test_threads_may_share_a_leaf() -> None:
    w = ta.tensor(np.ones(50_000), requires_grad=True)

    def work() -> None:
        for _ in range(50):
            (w * 1.0).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(np.unique(w.grad.numpy())) == {200.0}


def test_a_decorated_function_may_run_in_two_threads() -> None:
    inside, go_on = threading.Barrier(2), threading.Event()
    seen = []

    @ta.no_grad()
    def work(first: bool) -> None:
        inside.wait()
        if not first:
            go_on.wait()

    def in_thread(first: bool) -> None:
        with ta.set_grad_enabled(first):
            work(first)
            if first:
                seen.append(ta.is_grad_enabled())
                go_on.set()

    in_threads(in_thread, (True, False))
    assert seen == [True]


def test_set_grad_enabled_takes_effect_at_once() -> None:
    ta.set_grad_enabled(False)
    try:
        assert not ta.is_grad_enabled()
    finally:
        ta.set_grad_enabled(True)
    with ta.set_grad_enabled(False):
        assert not ta.is_grad_enabled()
    assert ta.is_grad_enabled()


def test_retain_grad_follows_a_write_in_place() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1.0
    y.retain_grad()
    y.mul_(2.0)
    (y * 3.0).sum().backward()
    assert y.grad.tolist() == [3.0, 3.0]


# -- where a second derivative is 0 ------------------------------------------------------------------------------------

FLAT = {
    "relu": ta.relu,
    "leaky_relu": F.leaky_relu,
    "abs": ta.abs,
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "maximum": lambda x: ta.maximum(x, x * 2.0),
    "amax": lambda x: x.amax(0),
    "vector_norm": lambda x: ta.linalg.vector_norm(x, 1),
    "infinite norm": lambda x: ta.linalg.vector_norm(x, float("inf")),
}


@pytest.mark.parametrize("name", FLAT)
def test_a_derivative_that_is_zero_everywhere_is_not_missing(name):
    x = ta.tensor([1.0, -2.0, 0.25], requires_grad=True)
    (g,) = ta.grad(FLAT[name](x).sum(), x, create_graph=True)
    g.sum().backward()
    assert x.grad.tolist() == [0.0] * 3


def test_zeros_beside_another_gradient():
    x, w = ta.tensor([1.0, -2.0], requires_grad=True), ta.tensor([3.0, 4.0], requires_grad=True)
    (g,) = ta.grad((ta.relu(x) * w).sum(), x, create_graph=True)
    for_x, for_w = ta.grad(g.sum(), [x, w])
    assert for_x.tolist() == [0.0, 0.0] and for_w.tolist() == [1.0, 0.0]


def test_a_gradient_that_does_not_depend_on_its_input_is_not_joined_to_it():
    x = ta.tensor([1.0], requires_grad=True)
    (g,) = ta.grad((x * 3.0).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        g.backward()
