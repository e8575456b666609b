"""The dtypes of tensors, conversion between them, and type promotion by PyTorch's rules.

A Python number never changes a tensor's dtype within its category, and an integer never makes a float64. A conversion
to integers never wraps around: what does not fit is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["category", "check_array", "check_dtype", "check_fits", "converted", "default_dtype", "promote"]

Array = np.ndarray[Any, Any]

default_dtype = np.dtype(np.float32)
_SUPPORTED = frozenset("?bhilqBHILQfd")
_CATEGORIES = {"b": 0, "i": 1, "u": 1, "f": 2}


def check_dtype(dtype: Any, name: str = "") -> np.dtype[Any]:
    """``dtype`` as a NumPy dtype in the machine's byte order; ``name`` begins the message.

    Raises:
        TypeError: it is not bool, an integer type, float32 or float64.
    """
    found = None
    if dtype is not None:  # which NumPy takes for float64
        try:
            found = np.dtype(dtype)
        except (TypeError, ValueError, SyntaxError):
            found = None
    if found is None:
        text = repr(dtype) if isinstance(dtype, (str, int, float, type(None), tuple)) else f"a {type(dtype).__name__}"
        raise TypeError(f"{name}{text} is not a dtype; use bool, an integer type, float32 or float64")
    if found.char not in _SUPPORTED:
        raise TypeError(f"{name}dtype {found} is not supported; use bool, an integer type, float32 or float64")
    return found if found.isnative else found.newbyteorder("=")


def check_array(name: str, array: Any, hint: str) -> Array:
    """``array`` itself, if a tensor can share its memory; ``hint`` ends the message about something else.

    Raises:
        TypeError: not a NumPy array, or one of an unsupported dtype, a foreign byte order or unaligned elements.
    """
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array, got {type(array).__name__}; {hint}")
    check_dtype(array.dtype, f"{name}: ")
    if not array.dtype.isnative or not array.flags.aligned:
        reason = "elements that are not aligned" if array.dtype.isnative else "a foreign byte order"
        raise TypeError(
            f"{name}: an array of dtype {array.dtype.str} with {reason} cannot be shared; tensor() copies it"
        )
    return array if type(array) is np.ndarray else np.asarray(array)


def check_fits(name: str, values: Any, dtype: np.dtype[Any]) -> None:
    """Raise unless ``dtype`` can hold every element of ``values``, a number or an array; floats may be rounded off.

    Raises:
        OverflowError: an element is beyond the range of an integer ``dtype``, or is nan.
    """
    if dtype.kind not in "iu":
        return
    array = np.asarray(values)
    if array.size == 0 or array.dtype.kind == "b" or (array.dtype.kind in "iu" and np.can_cast(array.dtype, dtype)):
        return
    limits = np.iinfo(dtype)
    for extreme in (array.min(), array.max()):
        value = extreme.item() if isinstance(extreme, np.generic) else extreme
        whole = isinstance(value, int) or math.isfinite(value)
        if not (whole and limits.min <= int(value) <= limits.max):
            raise OverflowError(f"{name}: {value} does not fit {dtype}, which holds {limits.min} to {limits.max}")


def converted(name: str, array: Array, dtype: np.dtype[Any]) -> Array:
    """``array`` in ``dtype``, itself if it has it already.

    Raises:
        OverflowError: as `check_fits`.
    """
    if array.dtype == dtype:
        return array
    check_fits(name, array, dtype)
    return array.astype(dtype)


def category(dtype: np.dtype[Any] | None) -> int:
    """The category in the order of promotion: bool 0, integers 1, floats 2; -1 for no dtype at all."""
    return -1 if dtype is None else _CATEGORIES[dtype.kind]


def _wider(a: np.dtype[Any] | None, b: np.dtype[Any]) -> np.dtype[Any]:
    if a is None or category(b) > category(a):
        return b
    if category(a) > category(b):
        return a
    wider = np.promote_types(a, b)
    return np.dtype(np.int64) if category(wider) > category(a) else wider  # NumPy: uint64 and int64 make float64


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
