"""Errors of what finds and counts elements, and of sizes that no tensor can have, in our words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn.nn import functional as F
from tinygrad_attn.record import record

ONE = ta.ones(1)
FULL = ta.ones([1] * 64)
LONG = [1] * 65
DEEP: list[Any] = [1.0]
for _ in range(65):
    DEEP = [DEEP]

TOO_MANY_AXES: dict[str, Callable[[], Any]] = {
    "zeros": lambda: ta.zeros(*LONG), "ones": lambda: ta.ones(LONG), "empty": lambda: ta.empty(LONG),
    "full": lambda: ta.full(LONG, 1.0), "rand": lambda: ta.rand(LONG), "randn": lambda: ta.randn(*LONG),
    "randint": lambda: ta.randint(3, LONG), "normal": lambda: ta.normal(0.0, 1.0, LONG),
    "new_zeros": lambda: ONE.new_zeros(LONG), "tensor": lambda: ta.tensor(DEEP),
    "reshape": lambda: ONE.reshape(LONG), "view": lambda: ONE.view(*LONG), "expand": lambda: ONE.expand(LONG),
    "repeat": lambda: ONE.repeat(LONG), "unsqueeze": lambda: FULL.unsqueeze(0), "stack": lambda: ta.stack([FULL]),
    "one_hot": lambda: F.one_hot(FULL.long()), "slice_view": lambda: FULL[None],
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_MANY_AXES)
def test_a_tensor_has_at_most_64_axes(name: str) -> None:
    with pytest.raises((ValueError, IndexError), match=f"^{name}: a tensor has at most 64 axes"):
        TOO_MANY_AXES[name]()


@pytest.mark.parametrize("large", [2**50, 2**63 - 1, np.array(2**63 + 1, np.uint64)])
def test_what_no_memory_holds(large: Any) -> None:
    classes = np.array([large], np.uint64)
    for call, name in (
        (lambda: ta.bincount(classes), "bincount"),
        (lambda: ta.bincount(classes, weights=[1.0]), "bincount"),
        (lambda: ta.bincount([1], minlength=int(large)), "bincount"),
        (lambda: F.one_hot(classes), "one_hot"),
        (lambda: F.one_hot([1], int(large)), "one_hot"),
        (lambda: ta.zeros(int(large)), "zeros"),
    ):
        with pytest.raises(MemoryError, match=f"^{name}: there is not enough memory for a tensor of shape"):
            call()


def test_counts() -> None:
    assert ta.bincount(ta.tensor([1, 3, 1]), minlength=2).tolist() == [0, 2, 0, 1]
    assert ta.bincount(ta.tensor([1]), [0.5], 3).tolist() == [0.0, 0.5, 0.0]
    assert ta.bincount(ta.zeros(0).long()).shape == (0,) and ta.bincount(ta.zeros(0).long(), minlength=2).shape == (2,)


def test_the_element_of_a_tensor_without_axes_is_unique() -> None:
    for dim in (None, 0, -1):
        values, places, counts = ta.unique(ta.tensor(3.0), return_inverse=True, return_counts=True, dim=dim)
        assert values.tolist() == [3.0] and places.tolist() == 0 and counts.tolist() == [1]
    with pytest.raises(IndexError, match="unique: dim 1 is out of range"):
        ta.unique(ta.tensor(3.0), dim=1)


def test_a_grid_needs_tensors_and_an_order() -> None:
    for call, message in (
        (lambda: ta.meshgrid(), "expected at least one tensor, got none"),
        (lambda: ta.meshgrid([]), "expected at least one tensor, got none"),
        (lambda: ta.meshgrid(ONE, indexing="ab"), "indexing must be 'ij' or 'xy', got 'ab'"),
    ):
        with pytest.raises(ValueError, match=f"^meshgrid: {message}$"):
            call()


def test_a_quotient_of_floats_is_divided_once() -> None:
    with record() as tape:
        found = ta.div(ta.tensor([-7.0, 7.0]), 2, rounding_mode="trunc")
    assert [call.op.name for call in tape.calls] == ["true_divide", "trunc"] and found.tolist() == [-3.0, 3.0]
    assert ta.div([-7.0], ta.tensor([2]), rounding_mode="trunc").tolist() == [-3.0]
    whole = ta.div(ta.tensor([-7, 7]), 2, rounding_mode="trunc")
    assert whole.tolist() == [-3, 3] and whole.dtype == np.int64
