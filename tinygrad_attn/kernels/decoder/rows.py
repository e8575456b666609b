"""The first and the last computation of a decoder's step that are no matrix product: embedding, and the new keys.

    y = scale * table[token] + position,       keys[position, row] = projected

`embed_in_numpy` and `append_in_numpy` say what the kernels compute.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, read_struct, row_at

__all__ = ["Append", "Embed", "append_call", "append_in_numpy", "embed_call", "embed_in_numpy"]


def embed_in_numpy(tokens: np.ndarray, table: np.ndarray, vector: np.ndarray, scale: float) -> np.ndarray:
    """The embeddings of the tokens (R,), scaled, plus one vector (size,)."""
    return table[tokens] * table.dtype.type(scale) + vector


def append_in_numpy(source: np.ndarray, target: np.ndarray, position: int) -> None:
    """Write the rows (R, size) of ``source`` to ``target[position]``, of (positions, R, size)."""
    target[position, : len(source)] = source


class Embed(NamedTuple):
    """The arguments of `embed_call`."""

    tokens: Address  # (rows,) int64
    table: Address  # (symbols, size)
    vector: Address  # (size,), or (rows, size)
    y: Address  # (rows, size)
    size: int
    scale: float
    symbols: int
    wrong: Address  # (1,) int64, becomes 1 where a token is not from 0 to symbols - 1; its row is left as it is
    reading: int = 0  # 1 if ``vector`` has a row for each


def _make_embed(dtype: Any) -> Any:
    @serial_kernel
    def embed(arguments: int, first: int, last: int) -> None:
        s = read_struct(Embed, arguments)
        tokens, scale = row_at(np.int64, s.tokens, 0, last), dtype(s.scale)
        for row in range(first, last):
            if not 0 <= tokens[row] < s.symbols:
                row_at(np.int64, s.wrong, 0, 1)[0] = 1
                continue
            x, y = row_at(dtype, s.table, tokens[row], s.size), row_at(dtype, s.y, row, s.size)
            vector = row_at(dtype, s.vector, row * s.reading, s.size)
            for i in range(s.size):
                y[i] = scale * x[i] + vector[i]

    return embed


def embed_call(dtype: Any, arguments: Embed) -> tuple[int, Struct]:
    """`embed_in_numpy` as part of a program; arrays of ``dtype``, tokens aside."""
    return kernel_for(_make_embed, np.dtype(dtype).type), Struct(arguments)


class Append(NamedTuple):
    """The arguments of `append_call`."""

    source: Address  # (rows, source_row): the first ``size`` of each row from the address on
    source_row: int
    target: Address  # (positions, rows_of_target, size)
    rows_of_target: int
    position: Address  # (1,) int64
    size: int
    reading: int = 0  # 1 if the rows are positions of one text, one after the other, which is row 0 of the target


def _make_append(dtype: Any) -> Any:
    itemsize = np.dtype(dtype).itemsize

    @serial_kernel
    def append(arguments: int, first: int, last: int) -> None:
        s = read_struct(Append, arguments)
        position = row_at(np.int64, s.position, 0, 1)[0]
        for row in range(first, last):
            x = row_at(dtype, s.source + row * s.source_row * itemsize, 0, s.size)
            place = (position + row) * s.rows_of_target if s.reading else position * s.rows_of_target + row
            y = row_at(dtype, s.target, place, s.size)
            for i in range(s.size):
                y[i] = x[i]

    return append


def append_call(dtype: Any, arguments: Append) -> tuple[int, Struct]:
    """`append_in_numpy` as part of a program; arrays of ``dtype``, the position aside."""
    return kernel_for(_make_append, np.dtype(dtype).type), Struct(arguments)
