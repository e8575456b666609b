"""Sums whose rounding error stays small however many numbers there are.

Adding n float32 numbers one after another can lose n/2 units in the last place: the mean of 20 million ones along a
leading axis came to 0.84. NumPy adds in pairs (Higham, "The Accuracy of Floating Point Summation", 1993) where the
summed axis is the innermost in memory, and one after another everywhere else. Here every other sum of more than
`LONGEST_CHAIN` numbers is cut into blocks of 16, their sums again, and so on, so that the error grows with the
logarithm of n. Shorter sums are NumPy's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["BLOCK", "LONGEST_CHAIN", "add_repeated", "beside", "running_sum", "sum_over"]

Array = np.ndarray[Any, Any]

LONGEST_CHAIN = 512  # numbers that may be added one after another
BLOCK = 16
_WIDTH = 1024  # numbers that NumPy adds at a time, at least, so that narrow rows are as fast as wide ones

_add: Any = np.add.reduce


def sum_over(x: Array, axes: tuple[int, ...], keepdims: bool = False, dtype: Any = None) -> Any:
    """``x.sum(axes)`` as ``np.add.reduce`` gives it, with ``axes`` from 0 on, and a small error."""
    short = x.size <= LONGEST_CHAIN or math.prod([x.shape[axis] for axis in axes]) <= LONGEST_CHAIN
    if short or x.dtype.kind != "f" or (dtype is not None and dtype != x.dtype):
        return _add(x, axis=axes, dtype=dtype, keepdims=keepdims)
    if len(axes) == x.ndim and x.flags.c_contiguous:
        return _add(x, axis=axes, keepdims=keepdims)  # in pairs
    order = sorted((d for d in range(x.ndim) if x.shape[d] > 1), key=lambda d: abs(x.strides[d]), reverse=True)
    if _longest_chain(x, axes, order) <= LONGEST_CHAIN:
        return _add(x, axis=axes, keepdims=keepdims)
    return _sum_in_blocks(x, axes, order, keepdims)


def _longest_chain(x: Array, axes: tuple[int, ...], order: list[int]) -> int:
    """How many numbers NumPy adds one after another; ``order`` has the axes, the innermost in memory last."""
    pairwise = order[-1] in axes
    chain, inside = 1, order[-1]
    for d in reversed(order):
        adjoins = d == inside or x.strides[d] == x.strides[inside] * x.shape[inside]
        pairwise = pairwise and adjoins and d in axes
        if d in axes and not pairwise:
            chain *= x.shape[d]
        inside = d
    return chain


def _sum_in_blocks(x: Array, axes: tuple[int, ...], order: list[int], keepdims: bool) -> Array:
    # Neighbouring axes that are all summed, or all kept, become one; then the sums go from the innermost outward.
    groups: list[tuple[bool, list[int]]] = []
    for d in order:
        if not groups or groups[-1][0] != (d in axes):
            groups.append((d in axes, []))
        groups[-1][1].append(d)
    y = x.transpose([*order, *(d for d in range(x.ndim) if d not in order)])
    y = y.reshape([math.prod(x.shape[d] for d in dims) for _, dims in groups])
    for axis, (summed, _) in reversed(list(enumerate(groups))):
        if summed:
            outside, inside = y.shape[:axis], y.shape[axis + 1 :]
            y = _sum_middle(y.reshape(math.prod(outside), y.shape[axis], math.prod(inside))).reshape(outside + inside)
    kept = [d for d in order if d not in axes]
    y = y.reshape([x.shape[d] for d in kept]).transpose(np.argsort(kept))
    shape = [1 if d in axes else size for d, size in enumerate(x.shape) if keepdims or d not in axes]
    result = np.empty(shape, x.dtype)
    result.reshape(y.shape)[...] = y
    return result


def beside(n: int, inside: int) -> int:
    """How many of n rows of ``inside`` numbers lie side by side in a row that is added: several, if one is narrow."""
    return max(1, min(_WIDTH // inside, n // BLOCK))


def _sum_middle(x: Array) -> Array:
    """The sum of ``(outside, n, inside)`` over n."""
    outside, n, inside = x.shape
    if inside == 1:
        return _add(x, axis=1)  # in pairs
    while n > BLOCK:
        # Blocks of 16 rows.
        wide = beside(n, inside)
        blocks = n // (BLOCK * wide)
        whole = blocks * BLOCK * wide
        sums = _add(x[:, :whole].reshape(outside, blocks, BLOCK, wide * inside), axis=2)
        sums = sums.reshape(outside, blocks * wide, inside)
        x = sums if whole == n else np.concatenate([sums, x[:, whole:]], axis=1)
        n = x.shape[1]
    return _add(x, axis=1)


def running_sum(x: Array, axis: int, dtype: Any = None) -> Array:
    """``np.add.accumulate`` along an axis; a long one of float32 in float64."""
    if x.dtype == np.float32 and x.shape[axis] > LONGEST_CHAIN:
        return np.add.accumulate(x, axis=axis, dtype=np.float64).astype(np.float32)
    return np.add.accumulate(x, axis=axis, dtype=dtype)


def add_repeated(table: Array, index: Array, values: Array) -> None:
    """``table[index[i]] += values[i]`` for every ``i``, arrays of one axis; in float64 if an index is very frequent."""
    if table.dtype == np.float32 and index.size > LONGEST_CHAIN and np.bincount(index).max() > LONGEST_CHAIN:
        table += np.bincount(index, values, len(table)).astype(np.float32)
    else:
        np.add.at(table, index, values)
