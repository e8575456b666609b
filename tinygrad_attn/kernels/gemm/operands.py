"""What a matrix product works on, as structs of integers: how large it is, where its matrices lie, what follows it.

Kernels take them as one argument each. As they hold addresses and strides in place of arrays, one compiled version of a
kernel serves every layout, and a kernel that takes nothing else can be called by address (`kernels.runtime.calls`).
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Epilogue", "Extent", "Matrix"]


class Extent(NamedTuple):
    """The sizes of a product C = A B: C is (rows, columns), A (rows, depth) and B (depth, columns)."""

    rows: int
    columns: int
    depth: int


class Matrix(NamedTuple):
    """A matrix in memory: element (i, j) lies at ``address + i * row + j * column``, all in bytes."""

    address: int
    row: int
    column: int


class Epilogue(NamedTuple):
    """What is done to a product beside summing it: C, or C +, = activation(A B + bias)."""

    bias: int  # address of a row of C's length, or 0
    accumulate: int  # 1 to add to what C holds, 0 to write
    activation: int  # position in `kernels.gemm.tile.ACTIVATIONS`, or -1
