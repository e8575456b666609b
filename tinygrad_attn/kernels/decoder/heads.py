"""Queries and keys of a decoder's step before they meet: each head normalised, and turned by its position.

A row of a projection has the heads of queries, then those of keys, then those of values, which stay as they are.
`heads_in_numpy` says what the kernel computes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.rmsnorm import normalise_row, rms_norm_in_numpy
from tinygrad_attn.kernels.rotary import rotate_in_numpy, turn_row
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, read_struct, row_at

__all__ = ["Heads", "heads_call", "heads_in_numpy"]

Array = np.ndarray[Any, Any]


def heads_in_numpy(
    heads: Array, weights: tuple[Array, Array] | None, eps: float, angles: tuple[Array, Array] | None, queries: int
) -> Array:
    """The heads (R, queries and keys, width) at one position, normalised and turned.

    Args:
        heads: those of queries, and from ``queries`` on those of keys.
        weights: of the two norms, (width,) each; None leaves the heads as they are.
        eps: of the norms.
        angles: the position's cosines and sines, (width / 2,) each; None turns nothing.
        queries: how many heads of queries there are.
    """
    if weights is not None:
        parts = zip(np.split(heads, [queries], 1), weights, strict=True)
        heads = np.concatenate([rms_norm_in_numpy(part, weight, eps)[0] for part, weight in parts], 1)
    if angles is not None:
        cos, sin = angles
        heads = rotate_in_numpy(heads[:, None], cos[None], sin[None])[:, 0]
    return heads


class Heads(NamedTuple):
    """The arguments of `heads_call`."""

    x: Address  # the heads of a row lie next to each other, and rows ``row`` elements apart; changed in place
    row: int
    queries: int  # heads of queries; those of keys follow
    keys: int
    width: int
    q_weight: Address  # (width,), or None like the next: nothing is normalised
    k_weight: Address
    eps: float
    cos: Address  # (positions, width / 2), or None like the next: nothing is turned
    sin: Address
    position: Address  # (1,) int64
    reading: int = 0  # 1 if the rows are positions of one text, one after the other, and not texts


def _make_heads(dtype: Any) -> Any:
    itemsize = np.dtype(dtype).itemsize

    @serial_kernel
    def prepare(arguments: int, first: int, last: int) -> None:
        s = read_struct(Heads, arguments)
        half = s.width // 2
        for row in range(first, last):
            position = row_at(np.int64, s.position, 0, 1)[0] + row * s.reading
            for head in range(s.queries + s.keys):
                x = row_at(dtype, s.x + (row * s.row + head * s.width) * itemsize, 0, s.width)
                if s.q_weight:
                    weight = row_at(dtype, s.q_weight if head < s.queries else s.k_weight, 0, s.width)
                    normalise_row(x, weight, s.eps, x)
                if s.cos:
                    turn_row(x, row_at(dtype, s.cos, position, half), row_at(dtype, s.sin, position, half), 1.0, x)

    return prepare


def heads_call(dtype: Any, arguments: Heads) -> tuple[int, Struct]:
    """`heads_in_numpy` as part of a program; arrays of ``dtype``, the position aside."""
    return kernel_for(_make_heads, np.dtype(dtype).type), Struct(arguments)
