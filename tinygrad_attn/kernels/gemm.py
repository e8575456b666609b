"""Matrix product on strided, batched arrays: the one matmul of the engine, forward and backward.

The loops are those of Goto and van de Geijn (ACM TOMS 34(3), 2008). A block of B, ``depth x columns``, is packed into
panels; a block of A, ``rows x depth``, likewise; then every panel of B, which fits the first-level cache, meets every panel of A,
which stream from the second, in the micro-kernel of `gemm_codegen`::

    for columns of C, a block at a time
        for depth, a block at a time                 pack B
            for rows of C, a block at a time         pack A
                for panels of B
                    for panels of A                  multiply_tile

Every worker does this for a rectangle of C of its own and packs for itself what it needs, so workers never wait for each
other. Each element of C is summed in the order of the depth alone, wherever its tile lies: the bits of the result do not
depend on the number of threads.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

from .gemm_codegen import ACTIVATIONS, activate_tile, multiply_tile, pack_a, pack_b, tile_shape
from .jit import get_num_threads, parallel_kernel, serial_kernel

__all__ = ["gemm"]


class _Plan(NamedTuple):
    """Sizes by which a product is cut up for the registers and caches: in elements, if not said otherwise."""

    itemsize: int  # bytes
    lanes: int
    tile_rows: int
    tile_columns: int
    a_width: int  # of a packed panel of A
    block_rows: int
    block_depth: int
    block_columns: int
    a_panel: int  # bytes of a packed panel of A
    b_panel: int  # bytes of a packed panel of B
    a_block: int  # bytes of a packed block of A
    b_block: int  # bytes of a packed block of B


def _plan(itemsize: int) -> _Plan:
    tile = tile_shape(itemsize)
    block_strips, block_depth, block_panels = 128, 1536 // itemsize, 16
    a_panel, b_panel = (width * block_depth * itemsize for width in (tile.a_width, tile.columns))
    return _Plan(
        itemsize,
        *tile,
        block_strips * tile.rows,
        block_depth,
        block_panels * tile.columns,
        a_panel,
        b_panel,
        block_strips * a_panel,
        block_panels * b_panel,
    )


_SINGLE, _DOUBLE = _plan(4), _plan(8)

# Up to so many multiplications NumPy's call is the cheaper one. OpenBLAS stays on the calling thread for them.
_NUMPY_WORK = 64**3
# Up to so many, a second thread costs more to launch than it gains.
_SERIAL_WORK = 80**3

# Rows of the table in which a kernel finds its operands, each an address and four strides in bytes.
_A, _B, _C, _BIAS = range(4)


@serial_kernel
def _describe_array(operand: np.ndarray, array: np.ndarray) -> None:
    operand[0] = array.ctypes.data
    for axis in range(4):
        operand[1 + axis] = array.strides[axis] if axis > 1 or array.shape[axis] > 1 else 0


@serial_kernel
def _describe(a: np.ndarray, b: np.ndarray, c: np.ndarray, bias: np.ndarray, operands: np.ndarray) -> None:
    """Fill the table of operands from arrays of four dimensions; a leading dimension of length 1 is broadcast."""
    _describe_array(operands[_A], a)
    _describe_array(operands[_B], b)
    _describe_array(operands[_C], c)
    operands[_BIAS, 0] = bias.ctypes.data if bias.size > 0 else 0


@serial_kernel
def _multiply_block(
    dtype: Any,
    plan: _Plan,
    scratch: int,
    rows: int,
    columns: int,
    depth: int,
    a: int,
    a_row: int,
    a_depth: int,
    b: int,
    b_depth: int,
    b_column: int,
    c: int,
    c_row: int,
    bias: int,
    accumulate: bool,
    activation: int,
) -> None:
    """C, or C +, = activation(A B + bias) for one rectangle of C, from addresses and strides in bytes."""
    b_scratch, a_scratch = scratch, scratch + plan.b_block
    # Equal blocks, so that none is left with a short last one.
    block_depth = -(-depth // -(-depth // plan.block_depth))
    block_rows = -(-rows // -(-rows // plan.block_rows))
    # What is used only a few times costs less to read where it lies than to copy.
    read_a = columns <= (8 if a_depth == plan.itemsize else 2) * plan.tile_columns
    read_b = b_column == plan.itemsize and rows <= 4 * plan.tile_rows
    for k0 in range(0, depth, block_depth):
        ks = min(block_depth, depth - k0)
        first, last = k0 == 0, k0 + ks == depth
        for i0 in range(0, rows, block_rows):
            height = min(block_rows, rows - i0)
            strips = -(-height // plan.tile_rows)
            strip_rows, longer = height // strips, height % strips  # the first `longer` strips have a row more
            a_block = a + i0 * a_row + k0 * a_depth
            if not read_a:
                i = 0
                for strip in range(strips):
                    tile_rows = strip_rows + (strip < longer)
                    pack_a(dtype, a_scratch + strip * plan.a_panel, a_block + i * a_row, a_row, a_depth, tile_rows, ks)
                    i += tile_rows
            for j0 in range(0, columns, plan.block_columns):
                width = min(plan.block_columns, columns - j0)
                b_block = b + k0 * b_depth + j0 * b_column
                for j in range(0, width, plan.tile_columns):
                    tile_columns = min(plan.tile_columns, width - j)
                    if not read_b or tile_columns % plan.lanes != 0:
                        panel = b_scratch + j // plan.tile_columns * plan.b_panel
                        pack_b(dtype, panel, b_block + j * b_column, b_column, b_depth, tile_columns, ks)
                i = 0
                for strip in range(strips):
                    tile_rows = strip_rows + (strip < longer)
                    if read_a:
                        a_panel, a_item, a_step = a_block + i * a_row, a_row, a_depth
                    else:
                        a_panel = a_scratch + strip * plan.a_panel
                        a_item, a_step = plan.itemsize, plan.a_width * plan.itemsize
                    for j in range(0, width, plan.tile_columns):
                        tile_columns = min(plan.tile_columns, width - j)
                        if read_b and tile_columns % plan.lanes == 0:
                            b_panel, b_step = b_block + j * b_column, b_depth
                        else:
                            b_panel = b_scratch + j // plan.tile_columns * plan.b_panel
                            b_step = plan.tile_columns * plan.itemsize
                        tile = c + (i0 + i) * c_row + (j0 + j) * plan.itemsize
                        tile_bias = bias + (j0 + j) * plan.itemsize if bias != 0 and first else 0
                        multiply_tile(
                            dtype,
                            tile_rows,
                            tile_columns,
                            ks,
                            a_panel,
                            a_item,
                            a_step,
                            b_panel,
                            b_step,
                            tile,
                            c_row,
                            tile_bias,
                            int(accumulate or not first),
                        )
                        if last and activation >= 0:
                            activate_tile(dtype, activation, tile, c_row, tile_rows, tile_columns)
                    i += tile_rows


@serial_kernel
def _multiply_share(
    worker: int,
    workers: int,
    operands: np.ndarray,
    matrices: int,
    inner: int,
    rows: int,
    columns: int,
    depth: int,
    accumulate: bool,
    activation: int,
    workspace: np.ndarray,
) -> None:
    """One worker's share: a rectangle of the rows of all matrices, one matrix below the other, and of the columns."""
    plan = _SINGLE if workspace.itemsize == 4 else _DOUBLE
    all_rows, panels = matrices * rows, -(-columns // plan.tile_columns)
    # A worker packs the rows and the columns of its rectangle: the nearer to a square, the less.
    across = 1
    for count in range(2, min(workers, panels) + 1):
        if workers % count == 0 and (
            all_rows * count / workers + columns / count < all_rows * across / workers + columns / across
        ):
            across = count
    down = workers // across
    row, last_row = all_rows * (worker // across) // down, all_rows * (worker // across + 1) // down
    j = panels * (worker % across) // across * plan.tile_columns
    width = min(columns, panels * (worker % across + 1) // across * plan.tile_columns) - j
    while row < last_row:
        matrix, i = row // rows, row % rows
        height = min(rows - i, last_row - row)
        group, member = matrix // inner, matrix % inner
        a, b, c = operands[_A], operands[_B], operands[_C]
        bias = operands[_BIAS, 0]
        _multiply_block(
            workspace.dtype,
            plan,
            workspace.ctypes.data + worker * workspace.strides[0],
            height,
            width,
            depth,
            a[0] + group * a[1] + member * a[2] + i * a[3],
            a[3],
            a[4],
            b[0] + group * b[1] + member * b[2] + j * b[4],
            b[3],
            b[4],
            c[0] + group * c[1] + member * c[2] + i * c[3] + j * c[4],
            c[3],
            bias + j * plan.itemsize if bias != 0 else 0,
            accumulate,
            activation,
        )
        row += height


@parallel_kernel
def _multiply_in_parallel(
    workers: int,
    operands: np.ndarray,
    matrices: int,
    inner: int,
    rows: int,
    columns: int,
    depth: int,
    accumulate: bool,
    activation: int,
    workspace: np.ndarray,
) -> None:
    for worker in numba.prange(workers):
        _multiply_share(
            worker, workers, operands, matrices, inner, rows, columns, depth, accumulate, activation, workspace
        )


# By the character of the element type, "f" or "d": NumPy's dtypes are slow to hash.
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_NO_BIAS = {dtype.char: np.empty(0, dtype) for dtype in (_FLOAT32, _FLOAT64)}
_ACTIVATION_CODES = {None: -1} | {name: code for code, name in enumerate(ACTIVATIONS)}


class _Workspaces(threading.local):
    """Scratch memory of each calling thread by element type, kept: fresh memory costs a page fault every few KB."""

    def __init__(self) -> None:
        self._kept: dict[str, np.ndarray] = {}

    def get(self, dtype: np.dtype) -> np.ndarray:
        workspace = self._kept.get(dtype.char)
        if workspace is None:
            plan = _SINGLE if dtype.itemsize == 4 else _DOUBLE
            elements = (plan.a_block + plan.b_block) // plan.itemsize
            workspace = self._kept[dtype.char] = np.empty((numba.config.NUMBA_NUM_THREADS, elements), dtype)
        return workspace


_workspaces = _Workspaces()


@functools.cache
def _describe_any_layout(char: str) -> Any:
    """`_describe`, compiled for arrays of any strides: left to itself, it would be compiled for each layout again."""
    if not numba.config.DISABLE_JIT:
        element = numba.from_dtype(np.dtype(char))
        read = types.Array(element, 4, "A", readonly=True, aligned=False)
        write = types.Array(element, 4, "A", aligned=False)
        vector = types.Array(element, 1, "C", readonly=True, aligned=False)
        _describe.disable_compile(False)
        _describe.compile((read, read, write, vector, types.Array(types.int64, 2, "C")))
        _describe.disable_compile()
    return _describe


def gemm(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray | None = None,
    *,
    bias: np.ndarray | None = None,
    activation: str | None = None,
    accumulate: bool = False,
) -> np.ndarray:
    """activation(a @ b + bias); with ``accumulate``, activation(out + a @ b + bias).

    Args:
        a: (..., M, K), float32 or float64, any strides.
        b: (..., K, N), of a's dtype, any strides. The leading dimensions of a and b broadcast.
        out: (..., M, N), of a's dtype, written and returned; must not share memory with an input. Any strides, though
            a last axis that is not contiguous costs a copy.
        bias: (N,), of a's dtype.
        activation: None, or a name in `gemm_codegen.ACTIVATIONS`: "relu".
        accumulate: Add to what ``out`` holds.

    Raises:
        TypeError: An operand is not an array of float32 or float64, or their dtypes differ.
        ValueError: Shapes do not fit, ``out`` is read-only or overlaps an input, ``accumulate`` without ``out``,
            or an unknown activation.
    """
    if out is None and bias is None and activation is None and not accumulate and _numpy_is_best(a, b):
        return np.matmul(a, b)
    _check_operands(a, b)
    dtype = a.dtype
    rows, depth, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    shape = (*_broadcast_batch(a, b), rows, columns)
    if bias is not None:
        bias = _check_bias(bias, dtype, columns)
    if activation not in _ACTIVATION_CODES:
        raise ValueError(f"gemm: activation must be None or one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if out is not None:
        _check_out(out, shape, a, b, bias)
    elif accumulate:
        raise ValueError("gemm: accumulate=True adds to out, but out is None")
    else:
        out = np.empty(shape, dtype)

    work = out.size * depth
    if work == 0 or _numpy_is_best(a, b):
        return _with_numpy(a, b, out, bias, activation, accumulate)
    if columns > 1 and out.strides[-1] != dtype.itemsize:
        out[...] = gemm(
            a, b, out.copy() if accumulate else None, bias=bias, activation=activation, accumulate=accumulate
        )
        return out

    code, workspace, describe = _ACTIVATION_CODES[activation], _workspaces.get(dtype), _describe_any_layout(dtype.char)
    operands = np.empty((4, 5), np.int64)
    for a4, b4, c4 in _in_four_dimensions(a, b, out):
        describe(a4, b4, c4, _NO_BIAS[dtype.char] if bias is None else bias, operands)
        outer, inner, rows, _ = c4.shape
        arguments = (operands, outer * inner, inner, rows, columns, depth, accumulate, code, workspace)
        if work <= _SERIAL_WORK:
            _multiply_share(0, 1, *arguments)
        else:
            _multiply_in_parallel(get_num_threads(), *arguments)
    return out


def _numpy_is_best(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether this is a tiny product of two valid matrices, which NumPy hands to BLAS as they are."""
    try:
        (rows, depth), (inner, columns) = a.shape, b.shape
        dtype = a.dtype
        return (
            rows * depth * columns <= _NUMPY_WORK
            and depth == inner
            and (dtype is _FLOAT32 or dtype is _FLOAT64)
            and b.dtype is dtype
            and _blas_reads(a)
            and _blas_reads(b)
        )
    except (AttributeError, ValueError):  # not arrays, or not of two dimensions
        return False


def _check_operands(a: np.ndarray, b: np.ndarray) -> None:
    for name, array in (("a", a), ("b", b)):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"gemm: {name} must be a numpy.ndarray, got {type(array).__name__}")
        if array.ndim < 2:
            raise ValueError(f"gemm: {name} must have at least 2 dimensions, got shape {array.shape}; reshape a vector")
        if array.dtype != _FLOAT32 and array.dtype != _FLOAT64:
            raise TypeError(f"gemm: {name} must be float32 or float64, got {array.dtype}")
    if a.dtype != b.dtype:
        raise TypeError(f"gemm: a and b must have one dtype, got {a.dtype} and {b.dtype}; convert one with astype")
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(
            f"gemm: the last axis of a must be as long as the second last of b, got {a.shape[-1]} and {b.shape[-2]} "
            f"(a has shape {a.shape}, b {b.shape})"
        )


def _broadcast_batch(a: np.ndarray, b: np.ndarray) -> tuple[int, ...]:
    a_batch, b_batch = a.shape[:-2], b.shape[:-2]
    if a_batch == b_batch or not b_batch:
        return a_batch
    try:
        return np.broadcast_shapes(a_batch, b_batch)
    except ValueError:
        raise ValueError(
            f"gemm: the leading dimensions of a and b do not broadcast: {a_batch} and {b_batch} "
            f"(a has shape {a.shape}, b {b.shape})"
        ) from None


def _check_bias(bias: np.ndarray, dtype: np.dtype, columns: int) -> np.ndarray:
    if not isinstance(bias, np.ndarray) or bias.dtype != dtype:
        raise TypeError(f"gemm: bias must be an array of {dtype} as a and b, got {getattr(bias, 'dtype', type(bias))}")
    if bias.shape != (columns,):
        raise ValueError(f"gemm: bias must have shape {(columns,)} for {columns} columns of b, got {bias.shape}")
    return np.ascontiguousarray(bias)


def _check_out(out: np.ndarray, shape: tuple[int, ...], a: np.ndarray, b: np.ndarray, bias: np.ndarray | None) -> None:
    if not isinstance(out, np.ndarray) or out.dtype != a.dtype:
        raise TypeError(f"gemm: out must be an array of {a.dtype} as a and b, got {getattr(out, 'dtype', type(out))}")
    if out.shape != shape:
        raise ValueError(f"gemm: out must have shape {shape} for a {a.shape} @ b {b.shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("gemm: out is read-only")
    for name, array in (("a", a), ("b", b), ("bias", bias)):
        if array is not None and np.shares_memory(out, array):
            raise ValueError(f"gemm: out must not share memory with {name}; pass a copy of {name} or another out")


def _blas_reads(array: np.ndarray) -> bool:
    """Whether NumPy hands the array to BLAS as it is, instead of running a slow loop of its own."""
    row, column = array.strides
    itemsize = array.itemsize
    return row >= itemsize == column or column >= itemsize == row


def _with_numpy(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray,
    bias: np.ndarray | None,
    activation: str | None,
    accumulate: bool,
) -> np.ndarray:
    if accumulate:
        out += np.matmul(a, b)
    else:
        np.matmul(a, b, out=out)
    if bias is not None:
        out += bias
    if activation is not None:
        out[...] = ACTIVATIONS[activation][1](out)
    return out


def _in_four_dimensions(
    a: np.ndarray, b: np.ndarray, c: np.ndarray
) -> Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The product as products of arrays with two leading dimensions, which may be 1; all are views."""
    if b.ndim == 2 and a.ndim > 2 and a.flags.c_contiguous and c.flags.c_contiguous:
        a, c = a.reshape(-1, a.shape[-1]), c.reshape(-1, c.shape[-1])  # one tall product packs b only once
    if c.ndim == 2:
        return ((a[None, None], b[None, None], c[None, None]),)
    a, b, c = (array[(None,) * (max(c.ndim, 4) - array.ndim)] for array in (a, b, c))
    if c.ndim == 4:
        return ((a, b, c),)
    return (
        (_matrices_at(index, a), _matrices_at(index, b), _matrices_at(index, c)) for index in np.ndindex(c.shape[:-4])
    )


def _matrices_at(index: tuple[int, ...], array: np.ndarray) -> np.ndarray:
    """The array at an index of its first dimensions, of which those of length 1 are broadcast."""
    return array[tuple(min(i, length - 1) for i, length in zip(index, array.shape, strict=False))]
