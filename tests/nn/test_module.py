"""Modules: submodules and parameters, their state, and errors that list everything."""

import copy

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn import nn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.rest = nn.ModuleList([nn.Linear(3, 3, bias=False), nn.LayerNorm(3)])
        self.scale = nn.Parameter([1.0])
        self.register_buffer("table", ta.arange(3))

    def forward(self, x: ta.Tensor) -> ta.Tensor:
        x = self.first(x)
        for layer in self.rest:
            x = layer(x)
        return x * self.scale


NAMES = ["scale", "first.weight", "first.bias", "rest.0.weight", "rest.1.weight", "rest.1.bias"]


def test_names() -> None:
    block = Block()
    assert [name for name, _ in block.named_parameters()] == NAMES
    assert list(block.state_dict()) == [*NAMES, "table"]
    assert [name for name, _ in block.named_modules()] == ["", "first", "rest", "rest.0", "rest.1"]
    assert len(list(block.parameters())) == len(NAMES)


def test_a_shared_parameter_is_one_parameter_with_two_names() -> None:
    block = Block()
    block.rest[0].weight = nn.Parameter(np.zeros((3, 2), np.float32))
    block.first.weight = block.rest[0].weight
    assert [name for name, _ in block.named_parameters()].count("first.weight") == 1
    assert len(list(block.parameters())) == len(NAMES) - 1
    assert {"first.weight", "rest.0.weight"} <= set(block.state_dict())


def test_state_round_trip() -> None:
    ta.manual_seed(0)
    one, two = Block(), Block()
    x = ta.randn(4, 2)
    assert not np.array_equal(one(x).detach().numpy(), two(x).detach().numpy())
    two.load_state_dict({name: value.numpy() for name, value in one.state_dict().items()})
    np.testing.assert_array_equal(one(x).detach().numpy(), two(x).detach().numpy())


def test_a_bad_state_lists_all_complaints_and_loads_nothing() -> None:
    block = Block()
    before = block.first.bias.array.copy()
    state = {**block.state_dict(), "first.bias": np.ones(3), "scale": np.ones(2), "more": np.ones(1)}
    del state["rest.0.weight"]
    with pytest.raises(
        ValueError, match=r"(?s)missing: rest\.0\.weight \(3, 3\).*unexpected: more.*scale is \(2,\), expected \(1,\)"
    ):
        block.load_state_dict(state)
    np.testing.assert_array_equal(block.first.bias.array, before)
    del state["scale"]
    block.load_state_dict(state, strict=False)
    np.testing.assert_array_equal(block.first.bias.array, np.ones(3))


def test_train_and_eval_reach_everything() -> None:
    block = Block().eval()
    assert not any(module.training for module in block.modules())
    assert all(module.training for module in block.train().modules())


def test_freeze_zero_grad_apply_and_dtype() -> None:
    block = Block()
    block(ta.randn(4, 2)).sum().backward()
    assert all(p.grad is not None for p in block.parameters())
    block.zero_grad()
    assert all(p.grad is None for p in block.parameters())
    assert not any(p.requires_grad for p in block.requires_grad_(False).parameters())
    seen: list[str] = []
    block.apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["Linear", "Linear", "LayerNorm", "ModuleList", "Block"]
    assert block.to(np.float64).first.weight.dtype == np.float64
    assert block.table.dtype == np.int64


def test_deepcopy_is_independent() -> None:
    block = Block()
    twin = copy.deepcopy(block)
    twin.first.weight.array[...] = 0.0
    assert np.any(block.first.weight.array != 0.0)


def test_display() -> None:
    block = Block()
    assert "(first): Linear(in_features=2, out_features=3, bias=True)" in repr(block)
    lines = block.summary().splitlines()
    assert lines[-1].split() == ["total", str(sum(p.numel() for p in block.parameters()))]
    assert len(lines) == len(NAMES) + 1


def test_sequential_and_lists() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    assert model(ta.randn(5, 2)).shape == (5, 1)
    assert len(model) == 2 and isinstance(model[1], nn.Linear)
    layers = nn.ModuleList().append(nn.Linear(1, 1))
    assert len(layers) == 1 and layers[0] is next(iter(layers))


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        nn.Module()()


def test_layer_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="padding_idx 9"):
        nn.Embedding(3, 2, padding_idx=9)
    with pytest.raises(ValueError, match="probability"):
        nn.Dropout(1.5)


def test_initial_values_have_pytorchs_scale() -> None:
    ta.manual_seed(0)
    linear = nn.Linear(100, 200)
    for parameter in (linear.weight, linear.bias):
        assert abs(parameter.array).max() <= 0.1
        assert abs(parameter.array.std() - 0.1 / np.sqrt(3)) < 0.01
    table = nn.Embedding(500, 20, padding_idx=0)
    assert abs(table.weight.array[1:].std() - 1.0) < 0.03 and not table.weight.array[0].any()
    nn.init.xavier_uniform_(linear.weight)
    assert abs(linear.weight.array).max() <= np.sqrt(6 / 300)
    nn.init.kaiming_uniform_(linear.weight)
    assert abs(linear.weight.array).max() <= np.sqrt(6 / 100)
    with pytest.raises(ValueError, match="two axes"):
        nn.init.xavier_uniform_(linear.bias)


def test_dropout_in_training_and_in_use() -> None:
    ta.manual_seed(0)
    layer, x = nn.Dropout(0.25), ta.ones(10_000)
    dropped = layer(x).numpy()
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.75)}
    assert abs((dropped == 0).mean() - 0.25) < 0.02
    np.testing.assert_array_equal(layer.eval()(x).numpy(), x.numpy())


def test_what_would_be_lost_is_refused() -> None:
    layer = nn.Linear(1, 1)
    with pytest.raises(TypeError, match="'weight' is a parameter; assign a Parameter or None, not Tensor"):
        layer.weight = layer.weight * 1.0
    with pytest.raises(TypeError, match="Sequential: expected a module, got function"):
        nn.Sequential(lambda x: x, layer)
    with pytest.raises(TypeError, match="ModuleList: expected a module, got int"):
        nn.ModuleList([5])
    with pytest.raises(TypeError, match="float32 or float64, got int64"):
        layer.to(np.int64)
    layer.register_buffer("later", None)
    assert "later" not in layer.state_dict()

    class Forgetful(nn.Module):
        def __init__(self) -> None:
            self.layer = layer

    with pytest.raises(AttributeError, match=r"Forgetful: call super\(\).__init__\(\) before assigning 'layer'"):
        Forgetful()
