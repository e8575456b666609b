"""Adding rows to the rows of a table at given indices: the gradient of an embedding, and ``index_add``.

In NumPy: ``np.add.at(table, index, rows)``.

Each thread owns a range of the table's columns and adds all rows in their order, so that two rows with one index never
meet, and a sum has the same order however many threads there are. What is added to a row more than `LONGEST_CHAIN`
times is summed apart, with a small error.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.indices import highest_index
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Job, Prepared
from tinygrad_attn.kernels.runtime.structs import Address, kernel_for, read_struct, row_at
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.sums import LONGEST_CHAIN, sum_over

__all__ = ["scatter_add_rows", "scattered_rows"]

_SERIAL_SIZE = 32768  # elements up to which waking the threads costs more than they save
_LINE = 16  # columns: a whole cache line of either dtype, so that threads don't write to the same one


class _Scatter(NamedTuple):
    table: Address  # (V, width)
    index: Address  # (entries,) int64
    rows: Address  # (entries, width)
    entries: int  # of the index
    cleared: int  # rows of the table that are set to 0 before
    width: int
    columns: int  # the columns that belong together


def _make_kernel(dtype: Any) -> Any:
    @serial_kernel
    def add_columns(arguments: int, first: int, last: int) -> None:
        """Add the columns ``first * columns`` to ``last * columns`` of every row."""
        s = read_struct(_Scatter, arguments)
        index = row_at(np.int64, s.index, 0, s.entries)
        start, stop = first * s.columns, min(s.width, last * s.columns)
        for i in range(s.cleared):
            row_at(dtype, s.table, i, s.width)[start:stop] = 0.0
        for i in range(s.entries):
            to, added = row_at(dtype, s.table, index[i], s.width), row_at(dtype, s.rows, i, s.width)
            rest = (stop - start) % simd.lanes(to)
            whole = stop - rest
            for j in range(start, whole, simd.lanes(to)):
                simd.store(to, j, simd.load(to, j) + simd.load(added, j))
            if rest:
                total = simd.load_part(to, whole, rest, 0.0) + simd.load_part(added, whole, rest, 0.0)
                simd.store_part(to, whole, rest, total)

    return add_columns


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared(dtype: Any, cleared: int, width: int, threads: int) -> Prepared:
    columns = -(-width // (_LINE * threads)) * _LINE
    groups = -(-width // columns)
    last = {"cleared": cleared, "width": width, "columns": columns}
    return Prepared(Job(kernel_for(_make_kernel, dtype.type), _Scatter, last, groups, groups))


def _without_frequent(index: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
    """The indices that do not occur very often with their rows, and by each of the others the sum of its rows."""
    if index.size <= LONGEST_CHAIN:
        return index, rows, {}
    counts = np.bincount(index)
    if counts.max() <= LONGEST_CHAIN:
        return index, rows, {}
    frequent = np.flatnonzero(counts > LONGEST_CHAIN)
    rest = counts[index] <= LONGEST_CHAIN
    return index[rest], rows[rest], {int(each): sum_over(rows[index == each], (0,)) for each in frequent}


def scattered_rows(shape: tuple[int, ...], index: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`scatter_add_rows` to zeros of ``shape``, which all threads write."""
    if not rows.size or 0 in shape:
        return scatter_add_rows(np.zeros(shape, rows.dtype), index, rows)
    out = np.empty(shape, rows.dtype)
    _check(out, index, rows)
    _scatter(out, index, rows, len(out))
    return out


def scatter_add_rows(out: np.ndarray, index: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``out[index[i]] += rows[i]`` for every ``i`` in order, repeated indices included.

    Args:
        out: ``(V, ...)``, float32 or float64, C-contiguous; changed in place.
        index: integers from 0 to ``V - 1``, of any shape.
        rows: ``index.shape + out.shape[1:]``, of ``out``'s dtype.

    Returns:
        ``out``.

    Raises:
        IndexError: an index is out of range.
    """
    _check(out, index, rows)
    if rows.size:
        _scatter(out, index, rows, 0)
    return out


def _scatter(out: np.ndarray, index: np.ndarray, rows: np.ndarray, cleared: int) -> None:
    """Add all rows; ``cleared`` rows of ``out`` are set to 0 before."""
    width = math.prod(out.shape[1:])
    flat_index = np.ascontiguousarray(index, np.int64).reshape(-1)
    flat_index, flat_rows, sums = _without_frequent(flat_index, np.ascontiguousarray(rows).reshape(-1, width))
    threads = 1 if rows.size + cleared * width <= _SERIAL_SIZE else get_num_threads()
    prepared = _prepared(out.dtype, cleared, width, threads)
    prepared.launch((data_address(out), data_address(flat_index), data_address(flat_rows), flat_index.size))
    for each, total in sums.items():
        out[each] += total.reshape(out.shape[1:])


def _check(out: np.ndarray, index: np.ndarray, rows: np.ndarray) -> None:
    if out.dtype.char not in "fd" or not out.dtype.isnative:
        raise TypeError(f"scatter_add_rows: dtype must be float32 or float64, got {out.dtype}; convert with astype")
    if rows.dtype != out.dtype:
        raise TypeError(f"scatter_add_rows: rows are {rows.dtype} but out is {out.dtype}; convert with astype")
    if index.dtype.kind not in "iu":
        raise TypeError(f"scatter_add_rows: index must hold integers, got {index.dtype}")
    if out.ndim == 0 or rows.shape != index.shape + out.shape[1:]:
        raise ValueError(
            f"scatter_add_rows: for out {out.shape} and index {index.shape}, rows must be "
            f"{index.shape + out.shape[1:]}, got {rows.shape}"
        )
    if not out.flags.carray:
        raise ValueError(
            f"scatter_add_rows: out {out.shape} must be writeable and C-contiguous, since it changes in place"
        )
    if index.size and highest_index(index) >= len(out):
        raise IndexError(
            f"scatter_add_rows: index must be from 0 to {len(out) - 1} for out {out.shape}, "
            f"got values from {index.min()} to {index.max()}"
        )
