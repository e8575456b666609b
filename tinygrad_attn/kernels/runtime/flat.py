"""Arrays as most kernels take them: one-dimensional, contiguous and writable, so that each is compiled for one type."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["flat"]


def flat(array: np.ndarray | None, dtype: Any = None) -> np.ndarray:
    """The elements of an array in order, a view if they lie that way; none, of ``dtype``, if there is no array."""
    if array is None:
        return np.empty(0, dtype)
    elements = np.ascontiguousarray(array).reshape(-1)
    return elements if elements.flags.writeable else elements.copy()
