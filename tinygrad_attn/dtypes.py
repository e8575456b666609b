"""The dtypes that a tensor may have, and type promotion by PyTorch's rules.

A Python number never changes a tensor's dtype within its category, and an integer never makes a float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["category", "check_dtype", "default_dtype", "promote"]

default_dtype = np.dtype(np.float32)
_SUPPORTED = frozenset("?bhilqBHILQfd")
_CATEGORIES = {"b": 0, "i": 1, "u": 1, "f": 2}


def check_dtype(dtype: Any) -> np.dtype[Any]:
    """``dtype`` as a NumPy dtype.

    Raises:
        TypeError: it is not bool, an integer type, float32 or float64.
    """
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"{dtype!r} is not a dtype; use bool, an integer type, float32 or float64") from None
    if found.char not in _SUPPORTED:
        raise TypeError(f"dtype {found} is not supported; use bool, an integer type, float32 or float64")
    return found


def category(dtype: np.dtype[Any] | None) -> int:
    """The category in the order of promotion: bool 0, integers 1, floats 2; -1 for no dtype at all."""
    return -1 if dtype is None else _CATEGORIES[dtype.kind]


def _wider(a: np.dtype[Any] | None, b: np.dtype[Any]) -> np.dtype[Any]:
    if a is None or category(b) > category(a):
        return b
    return a if category(a) > category(b) else np.promote_types(a, b)


def promote(values: Iterable[Any], floating: bool = False) -> np.dtype[Any] | None:
    """The common dtype of tensors or arrays and Python numbers; None if there are none.

    Values with axes decide. A 0-d tensor counts only where its category (bool, integer, float) is higher than theirs,
    and a Python number only where its category is higher than that of all tensors. ``floating`` makes the default
    float of bool and integers.
    """
    axes: np.dtype[Any] | None = None
    scalars: np.dtype[Any] | None = None
    numbers: np.dtype[Any] | None = None
    for value in values:
        if hasattr(value, "dtype"):
            if value.ndim:
                axes = _wider(axes, value.dtype)
            else:
                scalars = _wider(scalars, value.dtype)
        else:
            numbers = _wider(numbers, default_dtype if isinstance(value, float) else np.dtype(type(value)))
    common = axes
    for weaker in (scalars, numbers):
        if category(weaker) > category(common):
            common = weaker
    return default_dtype if floating and common is not None and category(common) < 2 else common
