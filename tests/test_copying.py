"""Copies of tensors and modules: copy, deepcopy, and pickle for other processes."""

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn import nn, optim
from tinygrad_attn.kernels.runtime.structs import Struct
from tinygrad_attn.op import registered_ops
from tinygrad_attn.public import NAMESPACES

PICKLES = [lambda x, p=p: pickle.loads(pickle.dumps(x, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)]
COPIES = [*PICKLES, copy.deepcopy]


@pytest.mark.parametrize("duplicate", COPIES)
def test_a_leaf_keeps_all_but_its_hooks(duplicate: Callable[[Any], Any]) -> None:
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    x.register_hook(lambda g: g * 2)
    (x * x).sum().backward()
    x.detach()
    x[:1]  # both give x a storage that it shares
    twin = duplicate(x)
    assert twin.requires_grad and twin.is_leaf and twin.hooks is None and twin.version == 0
    assert twin.tolist() == [1.0, 2.0] and twin.grad.tolist() == [4.0, 8.0]
    assert twin.dtype is x.dtype  # by identity, which the engine compares
    with ta.no_grad():
        twin.add_(1.0)
    twin.grad.add_(1.0)
    assert x.tolist() == [1.0, 2.0] and x.grad.tolist() == [4.0, 8.0]
    twin.grad = None
    (twin * twin).sum().backward()
    assert twin.grad.tolist() == [4.0, 6.0]


def test_a_pickle_of_an_output_is_a_leaf() -> None:
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    twin = PICKLES[-1](x * 2.0)
    assert twin.is_leaf and twin.requires_grad and twin.tolist() == [2.0, 4.0]
    with pytest.raises(RuntimeError, match="clone"):
        copy.deepcopy(x * 2.0)


@pytest.mark.parametrize("layout", ["C", "F", "strided", "reversed", "empty", "scalar", "expanded"])
@pytest.mark.parametrize("duplicate", COPIES)
def test_layouts(duplicate: Callable[[Any], Any], layout: str) -> None:
    base = np.arange(24.0).reshape(4, 6)
    array = {
        "C": base,
        "F": np.asfortranarray(base),
        "strided": base[::2, 1::2],
        "reversed": base[::-1, ::-1],
        "empty": np.zeros((0, 3)),
        "scalar": np.asarray(3.0),
        "expanded": np.broadcast_to(base[:1], (4, 6)),
    }[layout]
    twin = duplicate(ta.from_numpy(array))
    np.testing.assert_array_equal(twin.array, array)
    assert twin.shape == array.shape and not np.may_share_memory(twin.array, array)


@pytest.mark.parametrize("duplicate", COPIES)
def test_shared_memory_stays_shared(duplicate: Callable[[Any], Any]) -> None:
    x = ta.ones(2, 3)
    twin, transposed = duplicate([x, x.T])
    twin[0, 1] = 9.0
    assert transposed.tolist()[1][0] == 9.0 and transposed.version == 1 and x.tolist() == [[1.0] * 3] * 2


def test_parts_stay_shared_in_a_deep_copy_and_are_small_in_a_pickle() -> None:
    x = ta.zeros(1000, 3)
    twin, part = copy.deepcopy([x, x[1:3]])
    twin[1, 0] = 9.0
    assert part.tolist()[0][0] == 9.0
    assert len(pickle.dumps(x[0])) < 1000


def test_a_write_into_a_shallow_copy_is_refused_where_the_other_has_a_gradient() -> None:
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2.0
    twin = copy.copy(y)
    with pytest.raises(RuntimeError, match="shares its memory"):
        twin.mul_(3.0)
    with pytest.raises(RuntimeError, match="shares its memory"):
        y.mul_(3.0)
    del twin
    y.mul_(3.0).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_a_write_beside_a_detached_tensor_is_allowed() -> None:
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2.0
    kept = y.detach()
    y.add_(1.0)
    y.sum().backward()
    assert kept.tolist() == y.tolist() == [3.0, 5.0] and x.grad.tolist() == [2.0, 2.0]


LAYERS = {
    "Linear": lambda: nn.Linear(4, 4),
    "Embedding": lambda: nn.Embedding(4, 4),
    "GRU": lambda: nn.GRU(4, 3, num_layers=2, bidirectional=True),
    "LSTM": lambda: nn.LSTM(4, 3),
    "RNN": lambda: nn.RNN(4, 3),
    "LayerNorm": lambda: nn.LayerNorm(4),
    "RMSNorm": lambda: nn.RMSNorm(4),
    "MultiheadAttention": lambda: nn.MultiheadAttention(4, 2),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(4, 2, 8),
    "TransformerDecoderLayer": lambda: nn.TransformerDecoderLayer(4, 2, 8, activation="gelu"),
    "Transformer": lambda: nn.Transformer(4, 2, 1, 1, 8),
    "its options": lambda: nn.Transformer(
        8,
        4,
        1,
        1,
        8,
        activation="swiglu",
        norm="rms",
        num_kv_heads=2,
        qk_norm=True,
        alibi=True,
        bias=False,
        rotary=nn.RotaryPositionalEncoding(2),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_modules(name: str) -> None:
    layer = LAYERS[name]()
    state = layer.state_dict()
    for duplicate in (PICKLES[2], PICKLES[-1], copy.deepcopy):
        twin = duplicate(layer)
        found = twin.state_dict()
        assert list(found) == list(state)
        for path, tensor in found.items():
            np.testing.assert_array_equal(tensor.array, state[path].array)
            assert not np.may_share_memory(tensor.array, state[path].array)
        assert [type(p) for p in twin.parameters()] == [nn.Parameter] * len(list(layer.parameters()))
    assert set(PICKLES[-1](state)) == set(state)


@pytest.mark.parametrize("duplicate", COPIES)
def test_tied_parameters_stay_tied(duplicate: Callable[[Any], Any]) -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    twin = duplicate(model)
    assert twin[1].weight is twin[0].weight and len(list(twin.parameters())) == 1


def test_ops_and_named_results() -> None:
    for op in registered_ops().values():
        if op.__module__.startswith("tinygrad_attn."):
            assert PICKLES[-1](op) is op
    values, indices = PICKLES[-1](ta.tensor([1.0, 3.0]).topk(1))
    assert values.tolist() == [3.0] and indices.tolist() == [1]


class Named(ta.Tensor):
    """A user's own subclass, with attributes of its own."""


@pytest.mark.parametrize("duplicate", [*COPIES, copy.copy])
def test_a_subclass_keeps_its_attributes(duplicate: Callable[[Any], Any]) -> None:
    x = Named(np.ones(2))
    x.label = ["a"]
    twin = duplicate(x)
    assert type(twin) is Named and twin.label == ["a"]


def _doubled(x: ta.Tensor) -> ta.Tensor:
    return x * 2.0


@pytest.mark.slow
def test_another_process() -> None:
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_doubled, (x,)).tolist() == [2.0, 4.0]


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW, optim.SGD])
@pytest.mark.parametrize("duplicate", COPIES)
def test_a_copied_optimizer_trains_the_copied_model(duplicate: Callable[[Any], Any], kind: Any) -> None:
    """After steps were taken, too: nothing of the copy leads to the memory of the original."""

    def step(model: nn.Module, optimizer: optim.Optimizer) -> list[Any]:
        optimizer.zero_grad()
        model(ta.ones(1, 3)).sum().backward()
        optimizer.step()
        return model.weight.tolist()

    model = nn.Linear(3, 2)
    optimizer = kind(model.parameters(), lr=0.5)
    before = step(model, optimizer)
    twins = duplicate((model, optimizer))
    after = step(*twins)
    assert model.weight.tolist() == before != after
    assert step(model, optimizer) == after and step(*twins) == step(model, optimizer)


class Numbers(NamedTuple):
    """What a kernel would take."""

    values: Any
    count: int


def test_what_holds_addresses_is_not_copied() -> None:
    for duplicate in COPIES:
        with pytest.raises(TypeError, match=r"holds the addresses of arrays .* cannot be copied"):
            duplicate(Struct(Numbers(np.ones(2), 2)))


def test_public_functions_are_pickled_by_name() -> None:
    """So that a module may keep one as its activation, and be sent to another process."""
    for name in ("ta", "F", "linalg"):
        for key, function in NAMESPACES[name].items():
            if getattr(function, "__module__", "").startswith("tinygrad_attn.ops"):
                for duplicate in COPIES[2:]:
                    assert duplicate(function) is function, key
