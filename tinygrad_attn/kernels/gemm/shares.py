"""The matrix product of arrays of up to four dimensions, spread over the threads.

Every worker takes a rectangle of C of its own, and packs for itself what it needs, so workers never wait for each
other. The bits of the result do not depend on their number: both products, `kernels.gemm.blocks` and
`kernels.gemm.bfloat16`, sum an element of C in an order that follows from the depth alone.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from tinygrad_attn.kernels.gemm.bfloat16 import multiply_by_parts
from tinygrad_attn.kernels.gemm.blocks import block_product_for, workspaces
from tinygrad_attn.kernels.gemm.operands import Epilogue, Extent, Matrix
from tinygrad_attn.kernels.gemm.parts import SIDE
from tinygrad_attn.kernels.gemm.plan import DOUBLE, SINGLE
from tinygrad_attn.kernels.gemm.small import is_small, small_product_for
from tinygrad_attn.kernels.gemm.tiles import tiles_are_there
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.calls import address_of, call
from tinygrad_attn.kernels.runtime.jit import called_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Job, Prepared
from tinygrad_attn.kernels.runtime.structs import Address, read_struct, row_at

__all__ = ["Place", "multiply", "product_for", "product_job"]


class _Product(NamedTuple):
    """What the workers work on: where A, B and C lie, their sizes and strides, and how they are multiplied."""

    a: Address
    b: Address
    c: Address
    bias: Address
    scratch: Address  # memory of `kernels.gemm.blocks.workspaces`, with ``scratch_size`` bytes for each worker
    scratch_size: int
    a_group: int  # bytes from group to group, from member to member, and so on
    a_member: int
    a_row: int
    a_column: int
    b_group: int
    b_member: int
    b_row: int
    b_column: int
    c_group: int
    c_member: int
    c_row: int
    c_column: int
    groups: int  # the leading dimensions of C
    members: int
    rows: int
    columns: int
    depth: int
    product: int  # the kernel that multiplies
    ordinary: int  # `kernels.gemm.blocks.block_product_for`, which that may need
    itemsize: int
    accumulate: int
    activation: int
    workers: int


@called_kernel
def _workers_across(workers: int, rows: int, columns: int, panels: int) -> int:
    """Among how many of the workers to divide the columns; the rows are divided among the others.

    A worker packs the rows and the columns of its rectangle: the nearer to a square, the less.
    """
    across = 1
    for count in range(2, min(workers, panels) + 1):
        if workers % count == 0 and (
            rows * count / workers + columns / count < rows * across / workers + columns / across
        ):
            across = count
    return across


@serial_kernel
def _multiply_shares(arguments: int, first: int, last: int) -> None:
    """The shares of some workers: of each a rectangle of the rows of all matrices, one below the other, and columns."""
    s = read_struct(_Product, arguments)
    tile_columns = SINGLE.tile_columns if s.itemsize == 4 else DOUBLE.tile_columns
    all_rows, panels = s.groups * s.members * s.rows, -(-s.columns // tile_columns)
    across = _workers_across(s.workers, all_rows, s.columns, panels)
    down = s.workers // across
    for worker in range(first, last):
        row, last_row = all_rows * (worker // across) // down, all_rows * (worker // across + 1) // down
        j = panels * (worker % across) // across * tile_columns
        width = min(s.columns, panels * (worker % across + 1) // across * tile_columns) - j
        epilogue = Epilogue(s.bias + j * s.itemsize if s.bias != 0 else 0, s.accumulate, s.activation)
        while row < last_row:
            matrix, i = row // s.rows, row % s.rows
            height = min(s.rows - i, last_row - row)
            group, member = matrix // s.members, matrix % s.members
            own = s.scratch + worker * s.scratch_size
            row_at(np.int64, own, 0, 1)[0] = s.ordinary
            call(
                s.product,
                own,
                Extent(height, width, s.depth),
                Matrix(s.a + group * s.a_group + member * s.a_member + i * s.a_row, s.a_row, s.a_column),
                Matrix(s.b + group * s.b_group + member * s.b_member + j * s.b_column, s.b_row, s.b_column),
                Matrix(
                    s.c + group * s.c_group + member * s.c_member + i * s.c_row + j * s.c_column, s.c_row, s.c_column
                ),
                epilogue,
            )
            row += height


class Place(NamedTuple):
    """How an array of two to four dimensions lies in memory."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _steps(name: str, place: Place) -> dict[str, int]:
    """How many bytes lie between the groups, members, rows and columns of an operand: 0 for a leading axis that is
    missing or of length 1, which is broadcast."""
    (*leading, _, _), strides = place
    missing = 2 - len(leading)
    steps = [0] * missing + [stride if n > 1 else 0 for n, stride in zip(leading, strides, strict=False)]
    names = ("group", "member", "row", "column")
    return {f"{name}_{axis}": step for axis, step in zip(names, (*steps, *strides[-2:]), strict=True)}


# From so many multiplications, and so long a depth, on products by parts pay.
_PARTS_WORK, _PARTS_DEPTH = 1 << 23, 64
_MOST_IN_VAIN = 1.25  # elements of squares for each of C, whose edges need not fall on those of squares


def product_for(a: Place, b: Place, c: Place, itemsize: int) -> int:
    """The address of the kernel that multiplies; the choice does not depend on the number of workers."""
    rows, columns, depth = *c.shape[-2:], a.shape[-1]
    if (
        rows * columns * depth >= _PARTS_WORK
        and depth >= _PARTS_DEPTH
        and itemsize == 4
        and -(-rows // SIDE) * -(-columns // SIDE) * SIDE * SIDE <= _MOST_IN_VAIN * rows * columns
        and 4 in a.strides[-2:]
        and 4 in b.strides[-2:]
        and tiles_are_there()
    ):
        return address_of(multiply_by_parts)
    if is_small(rows, columns, depth, itemsize):
        return small_product_for(itemsize)
    return block_product_for(itemsize)


def product_job(
    a: Place, b: Place, c: Place, itemsize: int, workers: int, epilogue: tuple[bool, int] = (False, -1)
) -> Job:
    """C, or C +, = activation(A B + bias), divided among so many workers.

    Its addresses are A, B, C, the bias (or 0), and scratch memory of `kernels.gemm.blocks.workspaces`, a row for each
    worker.

    Args:
        a: (..., rows, depth), float32 or float64, of two to four dimensions, any strides.
        b: (..., depth, columns), of a's dtype. Leading dimensions of a and b of length 1, or missing, are broadcast.
        c: (..., rows, columns); the elements of a row adjoin.
        itemsize: of all three.
        workers: at most the threads of the pool.
        epilogue: whether to add to what C holds, and the position of the activation in
            `kernels.gemm.tile.ACTIVATIONS`, or -1.
    """
    *leading, rows, columns = (1, 1, *c.shape)
    accumulate, activation = epilogue
    last = {"scratch_size": workspaces.row_size, **_steps("a", a), **_steps("b", b), **_steps("c", c)}
    last |= {"groups": leading[-2], "members": leading[-1], "rows": rows, "columns": columns, "depth": a.shape[-1]}
    last |= {"product": product_for(a, b, c, itemsize), "ordinary": block_product_for(itemsize)}
    last |= {"itemsize": itemsize, "workers": workers}
    last |= {"accumulate": accumulate, "activation": activation}
    return Job(address_of(_multiply_shares), _Product, last, workers, workers)


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared(
    shapes: tuple[tuple[int, ...], ...], strides: tuple[tuple[int, ...], ...], itemsize: int, workers: int,
    accumulate: bool, activation: int,
) -> Prepared:  # fmt: skip
    a, b, c = (Place(*each) for each in zip(shapes, strides, strict=True))
    return Prepared(product_job(a, b, c, itemsize, workers, (accumulate, activation)))


def multiply(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    bias: np.ndarray | None,
    activation: int,
    accumulate: bool,
    workers: int,
) -> None:
    """The product of `product_job` on arrays; the bias is contiguous, (columns,), or None."""
    shapes, strides = (a.shape, b.shape, c.shape), (a.strides, b.strides, c.strides)
    prepared = _prepared(shapes, strides, c.itemsize, workers, accumulate, activation)
    bias_at = 0 if bias is None else data_address(bias)
    prepared.launch((data_address(a), data_address(b), data_address(c), bias_at, workspaces.address()))
