"""Stores arrays as JSON: bit for bit, equal ones once, within a limit of bytes."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .schema import LIMIT, PRIORITIES, StoredArray

__all__ = ["Store", "as_json", "decoded", "without"]

Array = np.ndarray[Any, Any]


def decoded(stored: StoredArray) -> Array:
    """The decoded array; floats as float64."""
    dtype = np.dtype(stored["dtype"])
    flat = np.frombuffer(base64.b64decode(stored["base64"]), dtype.newbyteorder("<"))
    return flat.reshape(stored["shape"]).astype(np.float64 if dtype.kind == "f" else dtype)


def _encoded(array: Array) -> StoredArray:
    if array.dtype.kind == "f":
        array = array.astype("<f4" if _is_float32(array) else "<f8")
    elif array.dtype.kind in "iu":
        array = array.astype("<i8")
    return {
        "dtype": array.dtype.name,  # type: ignore[typeddict-item]
        "shape": list(array.shape),
        "base64": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode(),
    }


@np.errstate(over="ignore")
def _is_float32(array: Array) -> bool:
    """Whether float32 keeps every bit; of a nan only that it is one matters."""
    return bool(np.array_equal(array.astype(np.float32), array, equal_nan=True))


def as_json(value: Any) -> str:
    """JSON text, with the strings "NaN", "Infinity" and "-Infinity" for numbers that JSON does not have.

    Python's ``float`` and JavaScript's ``Number`` read these strings.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(_spelled(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _spelled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _spelled(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelled(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


class Store:
    """Arrays by id; equal arrays have one id.

    Args:
        limit: the most bytes of all arrays that `kept` returns.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._arrays: dict[str, Array] = {}
        self._ids: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._importance: dict[str, int] = {}
        self._names: dict[str, str] = {}

    def put(self, name: str, array: Array, priority: str) -> str:
        """Store an array and return its id.

        Args:
            name: its name in ``kept["dropped"]``, should it be dropped.
            array: float, bool or integer.
            priority: one of `PRIORITIES`.
        """
        array = np.ascontiguousarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        number = self._ids.setdefault(key, f"a{len(self._ids)}")
        self._arrays[number] = array
        rank = PRIORITIES.index(priority)
        self._importance[number] = min(rank, self._importance.get(number, rank))
        self._names.setdefault(number, name)
        return number

    def kept(self) -> tuple[dict[str, StoredArray], dict[str, Any], set[str]]:
        """The arrays that fit, the report (see `models.microscope.record.schema.Data`), and the ids of the others."""
        order = sorted(self._arrays, key=self._rank)
        arrays: dict[str, StoredArray] = {}
        dropped: set[str] = set()
        total = 0
        for number in order:
            size = self._arrays[number].nbytes
            if total + size > self.limit:
                dropped.add(number)
            else:
                total += size
                arrays[number] = _encoded(self._arrays[number])
        names = [self._names[number] for number in order if number in dropped]
        return arrays, {"limit": self.limit, "bytes": total, "dropped": names}, dropped

    def _rank(self, number: str) -> tuple[int, bool, int]:
        """The sort key of an array; those with the smallest are kept first.

        Masks come first: they are small, and scores would be misread without them. Of equal priority, the array that
        was put last (nearest to the loss) comes first.
        """
        return self._importance[number], self._arrays[number].dtype.kind != "b", -int(number[1:])


def without(dropped: set[str], tree: Any) -> Any:
    """A JSON tree with each dropped id replaced by None."""
    if isinstance(tree, Mapping):
        return {key: without(dropped, value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [without(dropped, value) for value in tree]
    return None if isinstance(tree, str) and tree in dropped else tree
