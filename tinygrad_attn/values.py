"""Users' values (lists, foreign arrays, NumPy scalars) as arrays of a supported dtype and Python numbers."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.dtypes import check_dtype, check_fits, converted, default_dtype
from tinygrad_attn.tensor import Tensor

__all__ = [
    "MOST_AXES",
    "allocated",
    "as_array",
    "as_number",
    "check_device",
    "flag",
    "number",
    "real_number",
    "whole_number",
]

Array = np.ndarray[Any, Any]

MOST_AXES = 64
"""NumPy's limit."""


def as_array(data: Any, dtype: Any = None, name: str = "tensor", floats: np.dtype[Any] = default_dtype) -> Array:
    """``data`` as an array of a supported dtype, in the machine's byte order; without a copy where possible.

    Args:
        data: numbers, nested lists of them, arrays or tensors.
        dtype: the dtype to convert to. If None, arrays keep theirs, and Python's floats become ``floats``, ints int64.
        name: who asks, for messages.
        floats: the dtype of Python's floats.

    Raises:
        TypeError: not numbers, or a dtype that is not bool, integer, float32 or float64.
        ValueError: nested lists of unequal length.
        OverflowError: a number that the dtype cannot hold.
    """
    wanted = None if dtype is None else check_dtype(dtype, f"{name}: ")
    if isinstance(data, Tensor):
        data = data.numpy()
    given = isinstance(data, (np.ndarray, np.generic))
    if isinstance(data, np.ma.MaskedArray):
        raise TypeError(f"{name}: a masked array would lose its mask; use filled()")
    try:
        array = np.asarray(data)
    except ValueError as error:
        if "maximum number of dimension" in str(error):
            raise ValueError(f"{name}: a tensor has at most {MOST_AXES} axes, the lists are nested deeper") from None
        raise ValueError(f"{name}: nested lists must have equal lengths") from None
    if not given:
        array = _of_numbers(name, data, array, wanted, floats)
    native = check_dtype(array.dtype, f"{name}: ")
    array = converted(name, array, native if wanted is None else wanted)
    return array if array.flags.aligned else array.copy()


def _of_numbers(name: str, data: Any, array: Array, wanted: np.dtype[Any] | None, floats: np.dtype[Any]) -> Array:
    """``array``, which NumPy has made of Python's numbers, in the dtype that they imply."""
    if array.dtype == object or array.dtype.kind in "US":
        for value in _leaves(data):
            if not isinstance(value, (int, float, complex, np.number, np.bool_)):
                raise TypeError(f"{name}: expected numbers, nested lists of them, or an array, got {shown(value)}")
    # NumPy makes objects, uint64 or float64 of integers beyond int64.
    if array.dtype == object or array.dtype == np.uint64 or (array.dtype == np.float64 and _large(array)):
        whole = all(isinstance(value, (int, np.integer)) for value in _leaves(data))
        if whole and (wanted is None or wanted.kind in "iu"):
            integers = np.asarray(list(_leaves(data)), object)
            check_fits(name, integers, np.dtype(np.int64) if wanted is None else wanted)
        elif array.dtype == object:
            try:
                array = array.astype(np.float64)
            except OverflowError:
                raise OverflowError(f"{name}: an integer is too large for {wanted or floats}") from None
    if wanted is None and array.dtype == np.float64:
        return array.astype(floats)
    return array


def _large(array: Array) -> bool:
    return bool((np.abs(array) >= 2.0**63).any())


def _leaves(data: Any) -> Iterator[Any]:
    if isinstance(data, (list, tuple)):
        for item in data:
            yield from _leaves(item)
    else:
        yield data


def as_number(name: str, value: Any) -> Any:
    """A NumPy scalar, or an array or tensor without axes, as a Python number; anything else as it is.

    Raises:
        TypeError: a tensor that requires a gradient, which would be lost.
    """
    if not isinstance(value, (Tensor, np.generic, np.ndarray)) or value.ndim or value.dtype.kind not in "biuf":
        return value
    if isinstance(value, Tensor) and value.requires_grad:
        raise TypeError(
            f"{name} takes a number, through which no gradient flows, but this tensor requires one; detach() it"
        )
    found = value.item()
    return float(found) if isinstance(found, np.longdouble) else found


def number(op: str, name: str, value: Any) -> Any:
    """`as_number` for the argument ``name`` of ``op``, which must be a number.

    Raises:
        TypeError: it is none.
    """
    found = as_number(f"{op}: {name}", value)
    if not isinstance(found, (int, float)):
        raise TypeError(f"{op}: {name} must be a number, got {shown(value)}")
    return found


def real_number(op: str, name: str, value: Any) -> float:
    """`number` as a float.

    Raises:
        TypeError: it is none.
        OverflowError: an integer that is too large for a float.
    """
    found = number(op, name, value)
    try:
        return float(found)
    except OverflowError:
        raise OverflowError(f"{op}: {name} is too large for a float") from None


def flag(op: str, name: str, value: Any) -> bool:
    """``value`` as True or False; 1 and 0 stand for them.

    Raises:
        TypeError: it is something else.
    """
    found = as_number(f"{op}: {name}", value)
    if not isinstance(found, int) or found not in (0, 1):
        raise TypeError(f"{op}: {name} must be True or False, got {shown(value)}")
    return bool(found)


def whole_number(op: str, name: str, value: Any) -> int:
    """``value``, an integer of Python's or NumPy's or a tensor of one, as an int.

    Raises:
        TypeError: it is none.
    """
    found = as_number(f"{op}: {name}", value)
    if type(found) is not int:
        if isinstance(found, (bool, np.ndarray, Tensor)) or not hasattr(found, "__index__"):
            raise TypeError(f"{op}: {name} must be an integer, got {shown(value)}")
        found = operator.index(found)
    return found


def allocated(name: str, shape: tuple[int, ...], make: Callable[[], Any]) -> Array:
    """What ``make()`` gives, an array of this shape.

    Raises:
        ValueError: more than `MOST_AXES` axes.
        MemoryError: there is not enough memory for it.
    """
    if len(shape) > MOST_AXES:
        raise ValueError(f"{name}: a tensor has at most {MOST_AXES} axes, the shape has {len(shape)}")
    if (elements := math.prod(shape)) < 2**60:  # with more, NumPy's own sums of sizes may overflow
        try:
            return np.asarray(make())
        except (MemoryError, ValueError):
            if elements < 2**20:
                raise
    raise MemoryError(f"{name}: there is not enough memory for a tensor of shape {shape}") from None


def check_device(name: str, device: Any) -> None:
    """Raise a TypeError unless ``device`` is "cpu" or None: that is where all tensors are."""
    if device is not None and not (isinstance(device, str) and device == "cpu"):
        raise TypeError(f"{name}: there is no device {shown(device)}; all tensors are in the CPU's memory")
