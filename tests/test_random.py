from __future__ import annotations

import json

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn import nn, random


def test_a_seed_gives_the_same_numbers():
    first = random.manual_seed(7).random(5)
    assert random.manual_seed(7) is random.generator()
    np.testing.assert_array_equal(random.generator().random(5), first)
    assert not np.array_equal(random.manual_seed(8).random(5), first)


def test_a_state_survives_json_and_continues():
    random.manual_seed(0)
    random.generator().random(3, dtype=np.float32)  # leaves half of a 64-bit draw behind
    state = json.loads(json.dumps(random.get_state()))
    first = random.generator().random(7, dtype=np.float32)
    random.set_state(state)
    np.testing.assert_array_equal(random.generator().random(7, dtype=np.float32), first)


def test_a_state_is_a_copy():
    state = random.get_state()
    before = json.dumps(state)
    random.generator().random(3)
    assert json.dumps(state) == before


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError), ("1", TypeError)])
def test_seeds_that_are_none(seed, error):
    with pytest.raises(error, match="manual_seed: seed"):
        random.manual_seed(seed)


@pytest.mark.parametrize("state", [{}, {"bit_generator": "MT19937"}, None, {"bit_generator": "PCG64", "state": 1}])
def test_states_that_are_none(state):
    before = random.get_state()
    with pytest.raises(ValueError, match="set_state: not a state of PCG64"):
        random.set_state(state)
    assert random.get_state() == before


INTEGERS, SINGLE, DOUBLE = ta.tensor([1, 2]), ta.ones(2), ta.ones(2).double()


@pytest.mark.parametrize(
    ("mean", "std", "dtype"),
    [
        (SINGLE, INTEGERS, np.float32), (INTEGERS, SINGLE, np.float32), (INTEGERS, 1.0, np.float32),
        (0, INTEGERS, np.float32), (SINGLE, np.float64(1.0), np.float32), (DOUBLE, SINGLE, np.float64),
        (SINGLE, ta.tensor(1.0).double(), np.float32), (INTEGERS, ta.tensor(1.0).double(), np.float64),
    ],
)  # fmt: skip
def test_normal_has_the_dtype_of_its_tensors(mean, std, dtype):
    assert ta.normal(mean, std).dtype == dtype and ta.normal(mean, std).shape == (2,)


def test_normal_of_tensors_without_axes():
    assert ta.normal(ta.tensor(3.0), ta.tensor(0.0)).tolist() == 3.0
    assert ta.normal(3.0, ta.tensor(0.0)).shape == ta.normal(ta.tensor(3.0)).shape == ()
    assert ta.normal(ta.tensor(3.0), ta.tensor(0.0), (2,)).tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0.0, float("nan"), (2,)), ValueError, "std must be at least 0, the least is nan"),
        ((SINGLE, ta.tensor([1.0, float("nan")])), ValueError, "std must be at least 0, the least is nan"),
        ((SINGLE, -SINGLE), ValueError, "std must be at least 0, the least is -1.0"),
        ((0.0, 1.0), TypeError, "expected a size"),
        ((SINGLE, 1.0, (2,)), TypeError, "expected a size, or a mean or std with axes"),
        ((SINGLE, ta.ones(3)), ValueError, r"mean \(2,\) and std \(3,\) do not broadcast"),
    ],
)
def test_what_normal_refuses(arguments, error, message):
    with pytest.raises(error, match=f"normal: {message}"):
        ta.normal(*arguments)


def test_initial_values_are_those_of_the_methods_in_place():
    for dtype in (ta.float32, ta.float64):
        drawn = []
        for normal, uniform in ((nn.init.normal_, nn.init.uniform_), (ta.Tensor.normal_, ta.Tensor.uniform_)):
            random.manual_seed(3)
            x, y = ta.empty(5, dtype=dtype), ta.empty(5, dtype=dtype)
            drawn.append((normal(x, 1.0, 2.0).tolist(), uniform(y, -1.0, 3.0).tolist()))
        assert drawn[0] == drawn[1]


def test_initial_values_are_checked_and_not_part_of_the_graph():
    with pytest.raises(ValueError, match=r"normal_: std must be at least 0, got -1.0"):
        nn.init.normal_(ta.ones(2), std=-1.0)
    with pytest.raises(ValueError, match=r"uniform_: a must not be above b, got 1.0 and 0.0"):
        nn.init.uniform_(ta.ones(2), 1.0, 0.0)
    weight = nn.Parameter(np.ones(2))
    version = weight.version
    for fill in (nn.init.normal_, nn.init.uniform_, nn.init.ones_, nn.init.zeros_):
        assert fill(weight) is weight and weight.is_leaf and weight.requires_grad
    assert weight.version == version + 4
