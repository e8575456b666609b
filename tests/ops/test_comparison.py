"""Whether tensors are nearly equal, or equal as a whole: in the dtype in which the operators compare them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_attn as ta

EXACTLY: dict[str, Any] = {"rtol": 0.0, "atol": 0.0}
DOUBLE = ta.tensor([0.1, 0.3], dtype=ta.float64)
NUMBERS = [0.1, 1, True, 1e300, -0.0, 16777217.0, np.float32(0.1), np.float64(0.1), np.int32(7)]
DTYPES = ["float32", "float64", "int64", "int8", "bool"]


@pytest.mark.parametrize("number", [0.1, np.float64(0.1)])
def test_a_number_beside_float64_keeps_its_precision(number: Any) -> None:
    assert ta.isclose(DOUBLE, number, **EXACTLY).tolist() == [True, False]
    assert ta.isclose(number, DOUBLE, **EXACTLY).tolist() == [True, False]
    one = ta.tensor(0.1, dtype=ta.float64)
    assert ta.allclose(one, number, **EXACTLY) and ta.equal(one, number) and ta.equal(number, one)
    assert not ta.allclose(one, number + 1e-9, **EXACTLY) and not ta.equal(one, number + 1e-9)


def test_a_list_beside_float64_keeps_its_precision() -> None:
    assert ta.equal(DOUBLE, [0.1, 0.3]) and ta.equal([0.1, 0.3], DOUBLE.numpy())
    assert ta.allclose([0.1, 0.3], DOUBLE, **EXACTLY)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_equal_where_the_operator_says_so(dtype: str, number: Any) -> None:
    with np.errstate(over="ignore"):
        for value in (number, 2):
            x = ta.tensor([value if dtype.startswith("float") else int(value) % 100], dtype=getattr(ta, dtype))
            expected = (x == number).tolist()
            assert ta.isclose(x, number, **EXACTLY).tolist() == ta.isclose(number, x, **EXACTLY).tolist() == expected
            assert ta.equal(x[0], number) == ta.equal(number, x[0]) == expected[0]


@given(st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.integers(0, 2), st.integers(0, 2))
def test_tensors_are_equal_where_the_operator_says_so(first: str, second: str, one: int, other: int) -> None:
    x, y = ta.tensor([0.1, 0.7, 1.0][one : one + 1]), ta.tensor([0.1, 0.7, 1.0][other])
    x, y = x.double().to(getattr(ta, first)), y.double().to(getattr(ta, second))
    assert ta.isclose(x, y, **EXACTLY).tolist() == ta.isclose(y, x, **EXACTLY).tolist() == (x == y).tolist()
    assert ta.equal(x, y.reshape(1)) == (x == y.reshape(1)).tolist()[0]


def test_no_gradient_is_needed_or_lost() -> None:
    x = ta.ones(2, requires_grad=True)
    assert ta.equal(x, x.detach()) and ta.allclose(x, 1.0) and not ta.isclose(x, x).requires_grad
    assert not ta.equal(x, ta.ones(3))
