"""Rows of a decoder's state: in any container, in their order, and without unnecessary copies."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
from tinygrad_attn_models.decoding.states import Rows, map_tensors

from tinygrad_attn import Tensor


class Named(NamedTuple):
    hidden: Tensor
    place: int


@dataclass(frozen=True)
class Fields:
    keys: Tensor
    past: Tensor | None


def tensor(*values):
    return Tensor(np.array(values))


def test_every_container_keeps_its_kind():
    one = tensor(1.0, 2.0)
    state = (Named(one, 3), [one, None], {"keys": one}, Fields(one, None), (), "name", True, 0.5)
    doubled = map_tensors(lambda t: t * 2.0, state)
    assert [type(part) for part in doubled] == [type(part) for part in state]
    for found in (doubled[0].hidden, doubled[1][0], doubled[2]["keys"], doubled[3].keys):
        np.testing.assert_array_equal(found.array, [2.0, 4.0])
    assert (doubled[0].place, doubled[1][1], doubled[3].past, doubled[4:]) == (3, None, None, ((), "name", True, 0.5))


def test_what_has_no_rows_is_refused():
    with pytest.raises(TypeError, match="holds a ndarray, whose rows cannot be chosen"):
        map_tensors(lambda t: t, (tensor(1.0), np.zeros(3)))


def test_rows_of_one_sentence_share_what_steps_leave_untouched():
    keys = tensor(0, 10)
    rows = Rows((keys, tensor(0, 1)))
    keys, written = rows.choose((keys, tensor(5, 6)), np.array([0, 0, 1]))
    np.testing.assert_array_equal(keys.array, [0, 0, 10])
    np.testing.assert_array_equal(written.array, [5, 5, 6])
    same, written = rows.choose((keys, tensor(1, 2, 3)), np.array([1, 0, 2]))  # the sentences 0, 0, 1 stay so
    assert same is keys
    np.testing.assert_array_equal(written.array, [2, 1, 3])
    keys, written = rows.choose((same, tensor(1, 2, 3)), np.array([2]))
    np.testing.assert_array_equal(keys.array, [10])
    np.testing.assert_array_equal(written.array, [3])


def test_what_a_step_has_touched_once_is_always_chosen():
    touched = tensor(1, 2)
    rows = Rows((tensor(0, 0),))
    (touched,) = rows.choose((touched,), np.array([0, 0]))
    (chosen,) = rows.choose((touched,), np.array([1, 0]))  # handed on as it was, but about what was written
    assert chosen is not touched


def test_all_rows_in_their_order_are_the_state_itself():
    state = (tensor(1, 2), 7)
    chosen = Rows(state).choose((after := tensor(3, 4), 8), np.array([0, 1]))
    assert chosen[0] is after
