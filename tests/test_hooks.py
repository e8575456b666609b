"""Hooks: what they see of a gradient, when, and what they may change; in captured functions, too."""

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn.autograd import grad


def leaf(*values: float) -> ta.Tensor:
    return ta.tensor(np.array(values), requires_grad=True)


def test_hooks_see_and_replace_the_complete_gradient() -> None:
    x = leaf(2.0)
    y = x * 3.0
    seen = []
    handle = y.register_hook(lambda g: seen.append(g.item()))
    y.register_hook(lambda g: g * 10.0)
    x.register_hook(lambda g: g + 1.0)
    (y + y).sum().backward()
    assert seen == [2.0]
    assert x.grad.item() == 61.0
    handle.remove()
    handle.remove()
    z = x * 3.0
    (z + z).sum().backward()
    assert seen == [2.0]


def test_hooks_after_a_leafs_gradient_is_accumulated_see_the_sum_and_may_take_it() -> None:
    x, seen = leaf(2.0), []
    x.register_hook(lambda g: g + 1.0)
    handle = x.register_post_accumulate_grad_hook(lambda p: seen.append((p is x, p.grad.item())))
    for _ in range(2):
        (x * 3.0 + x).sum().backward()
    assert seen == [(True, 5.0), (True, 10.0)]
    assert grad((x * 3.0).sum(), [x])[0].item() == 4.0  # changes no .grad
    (x * 3.0).sum().backward(inputs=[x])
    assert seen[2:] == [(True, 14.0)]
    handle.remove()
    x.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    (x * 3.0).sum().backward()
    assert (len(seen), x.grad) == (3, None)
    for wrong in (x * 1.0, ta.tensor([1.0])):
        with pytest.raises(RuntimeError, match="leaf"):
            wrong.register_post_accumulate_grad_hook(lambda p: None)


def test_a_hook_that_returns_nonsense_is_named() -> None:
    x = leaf(2.0)
    x.register_hook(lambda g: ta.tensor(np.ones(7)))
    with pytest.raises(ValueError, match=r"hook returned must have shape \(1,\), it has \(7,\)"):
        (x * 1.0).sum().backward()
    with pytest.raises(RuntimeError, match="requires a gradient"):
        ta.tensor([1.0]).register_hook(lambda g: g)


def test_what_a_hook_returns_or_keeps_stays_as_it_is() -> None:
    a, constant, kept = leaf(3.0), ta.tensor(np.array([7.0])), []
    a.register_hook(lambda g: kept.append(g) or constant)
    for _ in range(3):
        (a * 2.0).sum().backward()
    assert a.grad.item() == 21.0 and constant.item() == 7.0
    assert [g.item() for g in kept] == [2.0, 2.0, 2.0]


def test_a_handle_removes_its_own_hook_alone() -> None:
    calls: list[str] = []

    def note(gradient: ta.Tensor) -> None:
        calls.append("note")

    for x in (ta.tensor([2.0], requires_grad=True), ta.tensor([2.0], requires_grad=True) * 1.0):
        first, second = x.register_hook(note), x.register_hook(lambda g: g * 3.0)
        third = x.register_hook(note)
        third.remove()
        third.remove()
        first.remove()
        first.remove()
        calls.clear()
        z = (x * 1.0).sum()
        (gradient,) = grad(z, [x], retain_graph=True)
        assert gradient.item() == 3.0 and calls == []
        x.register_hook(note)
        second.remove()
        assert grad(z, [x])[0].item() == 1.0 and calls == ["note"]


def test_hooks_of_leaves_are_called_and_others_keep_the_function_eager():
    w = ta.ones(3, requires_grad=True)
    seen = []
    w.register_hook(lambda gradient: seen.append(gradient.tolist()))
    captured = ta.capture(lambda x: (w * x).sum())
    for _ in range(3):
        captured(ta.ones(3))
    assert seen == [[1.0] * 3] * 3

    def hooked(x):
        product = w * x
        product.register_hook(lambda gradient: gradient * 2)
        return product.sum()

    captured = ta.capture(hooked)
    for _ in range(3):
        w.grad = None
        captured(ta.ones(3))
        assert w.grad.tolist() == [2.0] * 3
    (reason,) = captured.programs.values()
    assert "hook" in reason


def test_leaves_have_their_gradients_while_others_are_still_to_come():
    """What a program does for the first layer, the last to have its gradient, comes after the last layer's hook."""
    first, last, seen = ta.ones(2, requires_grad=True), ta.ones(2, requires_grad=True), []
    last.register_post_accumulate_grad_hook(lambda leaf: seen.append((leaf.grad.tolist(), first.grad)))
    captured = ta.capture(lambda x: (last * (first * x).exp()).sum())
    for _ in range(4):
        first.grad = last.grad = None
        captured(ta.zeros(2))
    assert captured.runs == 2
    assert seen[-1] == ([1.0, 1.0], None)
    source = next(iter(captured.programs.values())).source
    assert source.index("reach(") < source.index("exp_backward") < source.rindex("reach(")


def test_a_leafs_hook_is_called_as_soon_as_its_gradient_is_complete() -> None:
    first, second, shared = leaf(2.0), leaf(3.0), leaf(0.5)
    order = []
    for name, each in (("first", first), ("second", second), ("shared", shared)):
        each.register_post_accumulate_grad_hook(lambda p, name=name: order.append((name, p.grad.item())))
    h = first * shared
    h.register_hook(lambda g: order.append(("h", g.item())))
    (h * second * shared).sum().backward()
    # h = 1, so d second = h * shared, d h = second * shared, d shared = h * second + d h * first
    assert order == [("second", 0.5), ("h", 1.5), ("first", 0.75), ("shared", 6.0)]
    order.clear()
    unused = ta.stack([shared * 2.0, shared * 5.0]).unbind(0)  # one of two outputs is not used
    (unused[0] * second).sum().backward()
    assert [name for name, _ in order] == ["second", "shared"]
    order.clear()
    leaf_alone = leaf(1.0)
    leaf_alone.register_post_accumulate_grad_hook(lambda p: order.append(("alone", p.grad.item())))
    leaf_alone.backward()
    assert order == [("alone", 1.0)]
