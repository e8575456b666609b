"""checkpoint: the same bits with less memory, and one clear error where the function is not the same twice."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.capture import capture
from tinygrad_attn.record import record


def layer(dropout: float = 0.3) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=dropout, batch_first=True)


def gradients(run: Callable[[Any, Any], Any], layers: Any, x: np.ndarray, **options: Any) -> list[np.ndarray]:
    """The gradients of the input and of all parameters, with the same random numbers each time."""
    for each in layers:
        each.zero_grad()
    ta.manual_seed(5)
    leaf = ta.tensor(x, requires_grad=True)
    h = leaf * 1.0
    for each in layers:
        h = run(each, h)
    h.square().sum().backward(**options)
    return [leaf.grad.array, *[p.grad.array for each in layers for p in each.parameters()]]


@given(depth=st.integers(1, 3), length=st.integers(1, 5), dropout=st.sampled_from([0.0, 0.3]), unfused=st.booleans())
def test_the_bits_are_those_without(depth: int, length: int, dropout: float, unfused: bool) -> None:
    ta.manual_seed(0)
    layers, x = [layer(dropout) for _ in range(depth)], np.random.default_rng(0).standard_normal((2, length, 8))
    x = x.astype(np.float32)
    expected = gradients(lambda f, h: f(h), layers, x)
    if unfused:
        with ta.unfused():
            expected = gradients(lambda f, h: f(h), layers, x)
            found = gradients(ta.checkpoint, layers, x)
    else:
        found = gradients(ta.checkpoint, layers, x)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_mode_of_the_forward_pass_is_that_of_the_second() -> None:
    f, x = layer(0.0), ta.randn(1, 3, 8, requires_grad=True)
    with ta.unfused():
        y = ta.checkpoint(f, x)
    y.sum().backward()
    assert x.grad is not None


def test_grad_second_derivatives_hooks_and_nesting() -> None:
    x = ta.tensor([0.3, 0.7], dtype=ta.float64, requires_grad=True)
    seen = []

    def inside(x: Any) -> Any:
        y = x.exp() * x
        y.register_hook(lambda g: seen.append(g.tolist()))
        return y.sin()

    def outside(x: Any) -> Any:
        return ta.checkpoint(inside, x * 2.0, use_reentrant=False) + ta.checkpoint(inside, x)

    results = {}
    for name, run in (("with", lambda: ta.checkpoint(outside, x).sum()), ("without", lambda: outside(x).sum())):
        (first,) = ta.grad(run(), x, create_graph=True)
        (second,) = ta.grad(first.square().sum(), x)
        results[name] = [first.tolist(), second.tolist()]
    np.testing.assert_allclose(results["with"], results["without"], rtol=1e-14)
    np.testing.assert_allclose(seen[: len(seen) // 2], seen[len(seen) // 2 :], rtol=1e-14)
    y = ta.checkpoint(inside, x).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="freed by an earlier backward"):
        y.backward()


def test_structures_pass_through() -> None:
    x = ta.ones(2, requires_grad=True)
    found = ta.checkpoint(lambda a, *, k: {"y": (a * k, [a.exp()])}, x, k=3.0)
    (found["y"][0] + found["y"][1][0]).sum().backward()
    np.testing.assert_allclose(x.grad.array, 3.0 + np.e, rtol=1e-6)
    with ta.no_grad():
        assert not ta.checkpoint(ta.exp, x).requires_grad
    assert ta.checkpoint(lambda: 7) == 7


def test_it_is_run_twice_and_not_while_it_is_looked_at() -> None:
    runs = []

    def f(x: Any) -> Any:
        runs.append(1)
        return x.exp().sin()

    x = ta.ones(3, requires_grad=True)
    y = ta.checkpoint(f, x)
    assert len(runs) == 1
    y.sum().backward()
    assert len(runs) == 2
    with record() as tape:
        ta.checkpoint(f, x).sum().backward()
    assert len(runs) == 3 and [call.op.name for call in tape.calls][:2] == ["exp", "sin"]


def test_a_captured_step_stays_eager_and_keeps_nothing() -> None:
    f = layer(0.0)
    step = capture(lambda x: ta.checkpoint(f, x).square().sum())
    x = ta.randn(1, 3, 8)
    found = []
    for _ in range(4):
        f.zero_grad()
        step(x)
        found.append(f.linear1.weight.grad.array.copy())
    assert all((each == found[0]).all() for each in found)
    assert [str(each) for each in step.programs.values()] == [
        "the function is computed again in the backward pass: checkpoint"
    ]


def test_memory_is_that_of_the_inputs_and_one_layer() -> None:
    layers = [layer(0.0) for _ in range(8)]
    x = np.random.default_rng(0).standard_normal((16, 32, 8)).astype(np.float32)
    peaks = {}
    for name, run in (("without", lambda f, h: f(h)), ("with", ta.checkpoint)):
        gradients(run, layers, x)
        tracemalloc.start()
        gradients(run, layers, x)
        peaks[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks["with"] < 0.5 * peaks["without"]


def test_what_is_not_the_same_twice_is_an_error() -> None:
    x, kinds = ta.ones(2, requires_grad=True), [ta.exp, ta.sin, ta.exp]
    y = ta.checkpoint(lambda x: kinds.pop()(x) * 2.0, x)
    with pytest.raises(RuntimeError, match=r"^checkpoint: the function made exp \(2,\), and .* sin \(2,\); it must"):
        y.sum().backward()
    sizes = [2, 1]
    y = ta.checkpoint(lambda x: sum([x.exp() for _ in range(sizes.pop())]), x)
    with pytest.raises(RuntimeError, match=r"^checkpoint: the function made \d nodes, and when .* \d; it must"):
        y.sum().backward()
    w = ta.ones(2, requires_grad=True)
    y = ta.checkpoint(lambda x: x * w, x)
    with ta.no_grad():
        w.add_(1.0)
    with pytest.raises(RuntimeError, match=r"^checkpoint: y of mul was changed in place after .*; clone\(\) it"):
        y.sum().backward()
    with pytest.raises(TypeError, match=r"^checkpoint: expected a function"):
        ta.checkpoint(3)
