"""Whether indices lie within an axis, found in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["highest_index"]


def highest_index(index: np.ndarray[Any, Any]) -> int:
    """The largest of some integers, at least one, where a negative one counts as 2**31 or more."""
    if index.itemsize < 4 and index.dtype.kind == "i":
        index = index.astype(np.int64)
    return int(np.maximum.reduce(index.view(f"u{index.itemsize}"), axis=None))
