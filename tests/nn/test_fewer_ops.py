"""What layers compute in one op has the bits of what they compute in several while someone looks."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.autograd import grad
from tinygrad_attn.modes import Observer, observe
from tinygrad_attn.nn.feed_forward import feed_forward_of
from tinygrad_attn.nn.norm import add_and_norm


class Looking(Observer):
    """Hears marks, and notes ops."""

    def __init__(self):
        self.ops, self.marks = [], []

    def called(self, op, operands, options):
        self.ops.append(op.name)

    def marked(self, name, tensor, details):
        self.marks.append(name)
        return tensor


def _tensor(rng, *shape):
    return ta.tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)


def _both_ways(function, leaves):
    """The outputs and gradients as they are computed, and those while someone looks, who is returned too."""
    found = []
    looking = Looking()
    for observer in (Observer(), looking):
        with observe(observer):
            outputs = function()
        weighted = [(o * np.linspace(1, 2, o.numel(), dtype=np.float32).reshape(o.shape)).sum() for o in outputs]
        gradients = grad(sum(weighted[1:], weighted[0]), leaves)
        found.append([each.array for each in (*outputs, *gradients)])
    return *found, looking


@pytest.mark.parametrize("bias", [False, True])
def test_a_residual_sum_and_its_norm(bias):
    rng = np.random.default_rng(0)
    norm = nn.LayerNorm(40, bias=bias)
    skip, output = _tensor(rng, 3, 70, 40), _tensor(rng, 3, 70, 40)
    leaves = [skip, output, *norm.parameters()]
    one, other, looking = _both_ways(lambda: add_and_norm(skip, output, norm, "feed_forward"), leaves)
    for ours, expected in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert looking.marks == ["residual", "skip", "branch", "norm"] and "residual_layer_norm" not in looking.ops


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_feed_forward_network(activation, bias):
    rng = np.random.default_rng(0)
    linear1, linear2 = nn.Linear(40, 160, bias), nn.Linear(160, 40, bias)
    x = _tensor(rng, 3, 70, 40)
    leaves = [x, *linear1.parameters(), *linear2.parameters()]
    dropout = nn.Dropout(0.0)
    one, other, looking = _both_ways(lambda: [feed_forward_of(x, linear1, activation, dropout, linear2)], leaves)
    for ours, expected in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert "activated_linear" in looking.ops and "linear" in looking.ops


def test_dropout_within_a_network_and_maps_of_the_users_own_are_called():
    class Doubled(nn.Linear):
        def forward(self, input):
            return super().forward(input) * 2.0

    x = ta.tensor(np.ones((2, 4), np.float32))
    plain, own = nn.Linear(4, 4), Doubled(4, 4)
    looking = Looking()
    with observe(looking):
        feed_forward_of(x, own, "relu", None, plain)
        feed_forward_of(x, plain, "relu", None, own)
        feed_forward_of(x, plain, "relu", nn.Dropout(0.5), plain)
    assert looking.ops.count("mul") == 2 and "dropout" in " ".join(looking.ops)
