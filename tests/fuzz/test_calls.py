"""A share of the random calls of `calls`, drawn anew for each example."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the parity extra is not installed")

from calls import NAMES, run


@given(st.integers(0, 10_000 // len(NAMES)))
def test_calls_agree_with_pytorch_or_say_what_is_wrong(part: int) -> None:
    counts, failures = run(0, range(part * len(NAMES), (part + 1) * len(NAMES), 3))
    assert failures == [] and counts["equal"] > 10
