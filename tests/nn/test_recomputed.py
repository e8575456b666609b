"""Layers computed again in backward: the same bits with less memory, for every stack."""

import tracemalloc

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn import nn


def gradients(model, x):
    model.zero_grad()
    ta.manual_seed(3)
    output = model(*x)
    output.square().mean().backward()
    return [output.array, *(parameter.grad.array for parameter in model.parameters())]


def transformer(layers):
    return nn.Transformer(8, 2, layers, layers, 16, dropout=0.2, batch_first=True)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_bits_are_those_without(layers):
    model = transformer(layers)
    x = ta.randn(2, 3, 8), ta.randn(2, 4, 8)
    expected = gradients(model, x)
    assert nn.recompute_layers(model) == 2 * layers
    again = gradients(model, x)
    nn.recompute_layers(model, False)
    for found in (again, gradients(model, x)):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_memory_is_that_of_the_inputs_and_one_layer():
    layer = nn.TransformerEncoderLayer(16, 2, 64, dropout=0.0, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 8), (ta.randn(8, 32, 16),)
    peaks = []
    for recompute in (False, True):
        nn.recompute_layers(model, recompute)
        gradients(model, x)
        model.zero_grad()
        tracemalloc.start()
        try:
            gradients(model, x)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 0.5 * peaks[0]


@pytest.mark.parametrize(("layers", "again"), [(1, 0), (2, 1), (3, 2), (8, 6), (12, 8)])
def test_the_last_third_is_kept_since_backward_comes_to_it_first(layers, again):
    calls = []

    class Counted(nn.Module):
        def forward(self, x):
            calls.append(1)
            return x * 2.0

    x = ta.ones(2, requires_grad=True)
    for layer in nn.layers_of(nn.ModuleList(Counted() for _ in range(layers)), True):
        x = layer(x)
    (x * x).sum().backward()
    assert len(calls) == layers + again


def test_a_module_without_stacks_has_no_layers():
    assert nn.recompute_layers(nn.Linear(2, 2)) == 0
