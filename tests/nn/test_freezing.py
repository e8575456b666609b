"""Frozen weights: results and gradients are the same, and afterwards new weights are used."""

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn import nn


@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(5, 7), lambda: nn.GRU(5, 7, batch_first=True)], ids=["linear", "gru"]
)
def test_a_model_gives_the_same(make):
    ta.manual_seed(0)
    model, x = make(), ta.Tensor(np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32))

    def run():
        found = model(x)
        output = found[0] if isinstance(found, tuple) else found
        model.zero_grad()
        output.square().sum().backward()
        return [output.array, *(parameter.grad.array for parameter in model.parameters())]

    expected = run()
    with nn.frozen_weights(model):
        for _ in range(2):
            for found, before in zip(run(), expected, strict=True):
                np.testing.assert_allclose(found, before, rtol=1e-5, atol=1e-6)
    with ta.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    changed = run()
    assert not np.allclose(changed[0], expected[0])
    with nn.frozen_weights(model):
        np.testing.assert_allclose(run()[0], changed[0], rtol=1e-5, atol=1e-6)


def test_a_write_to_a_frozen_weight_is_found_out():
    model = nn.Linear(2, 3)
    with pytest.raises(RuntimeError, match=r"^frozen_weights: bias was written to inside by mul_"):  # noqa: SIM117
        with nn.frozen_weights(model), ta.no_grad():
            model.bias.mul_(2.0)
    with nn.frozen_weights(model):
        model(ta.zeros(1, 2))


def test_a_frozen_weight_that_is_exchanged_is_found_out():
    model = nn.Linear(2, 3)
    with pytest.raises(RuntimeError, match=r"^frozen_weights: bias was put in its place inside"):  # noqa: SIM117
        with nn.frozen_weights(model):
            model.bias = nn.Parameter(ta.zeros(3))
