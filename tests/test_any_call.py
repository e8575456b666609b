"""Any public function or method, called with anything at all, works or fails in our own words."""

import random
import re
from typing import Any

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn.op import Op
from tinygrad_attn.public import NAMESPACES

JUNK: list[Any] = [
    None, "a", 1j, (), [], {}, -1, 0, 2, 1.5, np.nan, np.inf, 2**70, True, np.int64(1), np.float64(0.5), np.uint8(200),
    np.ones(2, ">f4"), np.ones((2, 3)), np.ones((2, 3), "e"), np.array(["a"]), np.array([None]), [1, 2], [[1], [1, 2]],
    ta.ones(2, 3), ta.tensor([1, 2]), ta.tensor([True, False]), ta.zeros(0, 3), ta.ones(2, 3, requires_grad=True),
    slice(None), range(2), object(), np.dtype("f"), len, np.datetime64("2020"),
]  # fmt: skip
OURS = (TypeError, ValueError, IndexError, RuntimeError, OverflowError, MemoryError, NotImplementedError)
FOREIGN = (
    r"ufunc|numpy\.|No implementation|not subscriptable|not iterable|has no len|has no attribute|truth value of an"
)
FUNCTIONS = {
    f"{space}.{name}": function
    for space in ("ta", "F", "linalg")
    for name, function in NAMESPACES[space].items()
    if isinstance(function, Op)
    or (not isinstance(function, type) and function.__module__.startswith(("tinygrad_attn.ops", "tinygrad_attn.creat")))
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_call_works_or_fails_in_our_words(name: str) -> None:
    rng = random.Random(name)
    for _ in range(8):
        dtype = rng.choice([np.float32, np.float64, np.int64, np.uint8, np.bool_])
        first = ta.tensor(np.arange(6).reshape(2, 3) % 2, dtype=dtype) if rng.random() < 0.7 else rng.choice(JUNK)
        arguments = [first, *rng.choices(JUNK, k=rng.randrange(4))]
        try:
            FUNCTIONS[name](*arguments)
        except Exception as error:
            assert isinstance(error, OURS), (arguments, error)
            assert not re.search(FOREIGN, str(error)), (arguments, error)


METHODS = [
    name
    for name, found in vars(ta.Tensor).items()
    if callable(found) and not (name.startswith("__") and name.strip("_") not in ("setitem", "getitem", "iadd", "ipow"))
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", METHODS)
def test_any_method_works_or_fails_in_our_words(name: str) -> None:
    rng = random.Random(name)
    for _ in range(12):
        dtype = rng.choice([np.float32, np.float64, np.int64, np.uint8, np.bool_])
        x = ta.tensor(np.arange(6).reshape(2, 3) % 2, dtype=dtype)
        arguments = rng.choices(JUNK, k=rng.randrange(4))
        try:
            getattr(x, name)(*arguments)
        except Exception as error:
            assert isinstance(error, OURS), (arguments, error)
            assert not re.search(FOREIGN, str(error)), (arguments, error)
