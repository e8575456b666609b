from __future__ import annotations

import json

import numpy as np
import pytest

from tinygrad_attn import random


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
