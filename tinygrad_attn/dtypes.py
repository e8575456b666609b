"""Which dtype a mixture gets: PyTorch's rules, where a Python number never changes a dtype and no int makes a
float64."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_attn.tensor import Tensor, default_dtype

__all__ = ["promote"]

_RANK = {"b": 0, "i": 1, "u": 1, "f": 2}


def _rank(dtype: np.dtype[Any] | None) -> int:
    """Bool below integers below floats; -1 for nothing at all."""
    if dtype is None:
        return -1
    return 0 if dtype == np.bool_ else _RANK[dtype.kind]


def _wider(a: np.dtype[Any] | None, b: np.dtype[Any]) -> np.dtype[Any]:
    if a is None or _rank(b) > _rank(a):
        return b
    return a if _rank(a) > _rank(b) else np.promote_types(a, b)


def promote(values: Iterable[Any], floating: bool = False) -> np.dtype[Any] | None:
    """The common dtype of tensors and Python numbers.

    Tensors with axes decide; a 0-d tensor, and after it a number, counts only where its kind (bool, integer, float) is
    higher. ``floating`` turns bool and integers to the default float. None if there is no value.
    """
    axes: np.dtype[Any] | None = None
    scalars: np.dtype[Any] | None = None
    numbers: np.dtype[Any] | None = None
    for value in values:
        if isinstance(value, Tensor):
            if value.ndim:
                axes = _wider(axes, value.dtype)
            else:
                scalars = _wider(scalars, value.dtype)
        else:
            numbers = _wider(numbers, default_dtype if isinstance(value, float) else np.dtype(type(value)))
    common = axes
    for weaker in (scalars, numbers):
        if _rank(weaker) > _rank(common):
            common = weaker
    return default_dtype if floating and common is not None and _rank(common) < 2 else common
