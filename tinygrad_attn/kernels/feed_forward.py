"""Two linear maps with an activation between them, and their gradients: a Transformer's feed-forward network.

Row by row nothing depends on other rows::

    u = phi(x W1ᵀ + b1),   z = u W2ᵀ + b2

and backward, from ḡ, the gradient of z::

    ū = (ḡ W2) ⊙ phi'(x W1ᵀ + b1),   x̄ = ū W1

so each thread takes rows through both products, and finds what the first one gave it in its own cache. The gradients of
the weights, ḡᵀ u and ūᵀ x, and the sums of the rows of ḡ and of ū share a second launch. All bits are those of
`kernels.linear` and `kernels.activation`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.activation import GELU, RELU, pointwise_kernel
from tinygrad_attn.kernels.column_sums import MOST_ROWS
from tinygrad_attn.kernels.gemm.blocks import block_product_for, workspaces
from tinygrad_attn.kernels.gemm.cache import keeping
from tinygrad_attn.kernels.gemm.operands import Epilogue, Extent, Matrix
from tinygrad_attn.kernels.gemm.product import ACTIVATION_CODES, is_serial, is_tiny
from tinygrad_attn.kernels.gemm.shares import Place, product_for
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.calls import address_of, call
from tinygrad_attn.kernels.runtime.jit import called_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Job, Prepared
from tinygrad_attn.kernels.runtime.structs import Address, read_struct, row_at
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.kernels.together import prepared_together

__all__ = ["feed_forward", "feed_forward_backward"]

Array = np.ndarray[Any, Any]


# --- Two products, one after the other --------------------------------------------------------------------------------


class _Chain(NamedTuple):
    """C = A B + bias, with an activation or its derivative; then E = C D + bias. A, C and E are C-contiguous."""

    a: Address  # (rows, depth)
    b: Address  # (depth, inner)
    bias: Address  # (inner,), or None
    c: Address  # (rows, inner)
    beside: Address  # as C: the slopes of gelu, or what relu gave; or None
    d: Address  # (inner, columns)
    last_bias: Address  # (columns,), or None
    e: Address  # (rows, columns), or None if it is not asked for
    scratch: Address  # memory of `kernels.gemm.blocks.workspaces`
    rows: int
    depth: int
    inner: int
    columns: int
    itemsize: int
    b_row: int
    b_column: int
    d_row: int
    d_column: int
    product: int  # the kernels that multiply
    last_product: int
    ordinary: int  # `kernels.gemm.blocks.block_product_for`, which they may need
    pointwise: int  # a kernel of `kernels.activation` for the elements of C, or 0
    kind: int  # what that does, in `kernels.activation.ACTIVATIONS`
    backward: int  # 1 if it takes C for a gradient
    activation: int  # of the first product, as in `Epilogue`
    scratch_size: int
    workers: int


@called_kernel
def _multiply_block(s: Any, own: int, row: int, count: int) -> None:
    """Some rows of C and E, with the scratch memory of a worker."""
    size = s.itemsize
    a = Matrix(s.a + row * s.depth * size, s.depth * size, size)
    c = Matrix(s.c + row * s.inner * size, s.inner * size, size)
    b, d = Matrix(s.b, s.b_row, s.b_column), Matrix(s.d, s.d_row, s.d_column)
    row_at(np.int64, own, 0, 1)[0] = s.ordinary
    call(s.product, own, Extent(count, s.inner, s.depth), a, b, c, Epilogue(s.bias, 0, s.activation))
    if s.pointwise != 0:
        beside = s.beside + row * s.inner * size
        elements = row_at(np.int64, own + 64, 0, 8)  # the struct that the kernel takes
        elements[0], elements[1] = (beside, c.address) if s.backward else (c.address, c.address)
        elements[2], elements[3] = (c.address, 0) if s.backward else (0, beside)
        elements[4], elements[5], elements[6], elements[7] = s.kind, count * s.inner, 0, 0
        call(s.pointwise, own + 64, 0, count * s.inner)
    if s.e != 0:
        e = Matrix(s.e + row * s.columns * size, s.columns * size, size)
        row_at(np.int64, own, 0, 1)[0] = s.ordinary
        call(s.last_product, own, Extent(count, s.columns, s.inner), c, d, e, Epilogue(s.last_bias, 0, -1))


@serial_kernel
def _multiply_twice(arguments: int, first: int, last: int) -> None:
    """The rows of some workers."""
    s = read_struct(_Chain, arguments)
    for worker in range(first, last):
        row = s.rows * worker // s.workers
        count = s.rows * (worker + 1) // s.workers - row
        _multiply_block(s, s.scratch + worker * s.scratch_size, row, count)


def _contiguous(rows: int, columns: int, itemsize: int) -> Place:
    return Place((rows, columns), (columns * itemsize, itemsize))


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared(
    sizes: tuple[int, int, int, int], dtype: Any, activation: str, backward: bool, threads: int
) -> Prepared | None:
    """The launch of rows through a network of these sizes: rows, in, inner, out; None if NumPy should have a part, or
    there are so few rows that threads had better share the columns, since each packs all of the weights here.

    Backward the rows go through it the other way round.
    """
    rows, depth, inner, columns = sizes
    work = rows * depth * inner, rows * inner * columns
    if is_tiny(min(work)) or 2 * rows < inner:
        return None
    itemsize = dtype.itemsize
    b, d = _contiguous(depth, inner, itemsize), _contiguous(inner, columns, itemsize)
    if not backward:  # B and D are the weights transposed
        b, d = (
            Place((depth, inner), (itemsize, depth * itemsize)),
            Place((inner, columns), (itemsize, inner * itemsize)),
        )
    a, c, e = (_contiguous(rows, size, itemsize) for size in (depth, inner, columns))
    last: dict[str, Any] = dict(zip(("rows", "depth", "inner", "columns"), sizes, strict=True))
    last |= {"itemsize": itemsize, "b_row": b.strides[0], "b_column": b.strides[1]}
    last |= {"d_row": d.strides[0], "d_column": d.strides[1]}
    last |= {"product": product_for(a, b, c, itemsize), "last_product": product_for(c, d, e, itemsize)}
    last |= {"ordinary": block_product_for(itemsize), "kind": GELU if activation == "gelu" else RELU}
    in_product = activation == "relu" and not backward
    last |= {"pointwise": 0 if in_product else pointwise_kernel(activation, backward, dtype)}
    last |= {"backward": backward, "activation": ACTIVATION_CODES["relu" if in_product else None]}
    workers = 1 if is_serial(max(work)) else min(threads, rows)
    last |= {"scratch_size": workspaces.row_size, "workers": workers}
    return Prepared(Job(address_of(_multiply_twice), _Chain, last, workers, workers))


# --- Forward and backward ---------------------------------------------------------------------------------------------


def _sizes(x: Array, weight1: Array, weight2: Array) -> tuple[int, int, int, int] | None:
    """Rows, in, inner and out; None if the operands are not of one dtype, float32 or float64, and C-contiguous."""
    dtype = x.dtype
    if dtype.char not in "fd" or weight1.dtype is not dtype or weight2.dtype is not dtype or keeping.kept is not None:
        return None
    if not (x.flags.c_contiguous and weight1.flags.c_contiguous and weight2.flags.c_contiguous and x.ndim):
        return None
    if weight1.ndim != 2 or weight2.ndim != 2 or not x.size:
        return None
    inputs, (inner, depth), (outputs, width) = x.shape[-1], weight1.shape, weight2.shape
    if inputs != depth or inner != width or x.size // inputs > MOST_ROWS:
        return None
    return x.size // inputs, inputs, inner, outputs


def _is_bias(bias: Array | None, size: int, dtype: Any) -> bool:
    return bias is None or (bias.dtype is dtype and bias.shape == (size,) and bias.flags.c_contiguous)


def feed_forward(
    x: Array, weight1: Array, bias1: Array | None, weight2: Array, bias2: Array | None, activation: str
) -> tuple[Array, Array, Array | None] | None:
    """phi(x W1ᵀ + b1) W2ᵀ + b2, what comes before W2, and for gelu the derivative of phi there.

    None where that is not for one launch: of tiny products, of operands that lie otherwise, and of those to be refused.

    Args:
        x: ``(..., in)``.
        weight1: ``(inner, in)``.
        bias1: ``(inner,)``, or None.
        weight2: ``(out, inner)``.
        bias2: ``(out,)``, or None.
        activation: "relu" or "gelu".
    """
    sizes, dtype = _sizes(x, weight1, weight2), x.dtype
    if sizes is None or not (_is_bias(bias1, sizes[2], dtype) and _is_bias(bias2, sizes[3], dtype)):
        return None
    prepared = _prepared(sizes, dtype, activation, False, get_num_threads())
    if prepared is None:
        return None
    leading = x.shape[:-1]
    inner, z = np.empty((*leading, sizes[2]), dtype), np.empty((*leading, sizes[3]), dtype)
    slopes = np.empty(inner.shape, dtype) if activation == "gelu" else None
    arrays = (x, weight1, bias1, inner, slopes, weight2, bias2, z)
    prepared.launch((*[0 if array is None else data_address(array) for array in arrays], workspaces.address()))
    return z, inner, slopes


def feed_forward_backward(
    g: Array, x: Array, weights: tuple[Array, Array], inner: Array, slopes: Array | None, needs: tuple[bool, ...]
) -> tuple[Array | None, ...] | None:
    """The gradients of x, W1, W2, b1 and b2, those that are needed; or None as `feed_forward`.

    Args:
        g: the gradient of z, C-contiguous.
        x: as forward.
        weights: W1 and W2.
        inner, slopes: what forward returned.
        needs: which of the five are needed.
    """
    weight1, weight2 = weights
    sizes, dtype = _sizes(x, weight1, weight2), x.dtype
    if sizes is None or g.dtype is not dtype or not g.flags.c_contiguous:
        return None
    activation = "relu" if slopes is None else "gelu"
    prepared = _prepared((sizes[0], *sizes[:0:-1]), dtype, activation, True, get_num_threads())
    if prepared is None:
        return None
    for_inner, for_x = np.empty(inner.shape, dtype), np.empty(x.shape, dtype) if needs[0] else None
    beside = inner if slopes is None else slopes
    arrays = (g, weight2, None, for_inner, beside, weight1, None, for_x)
    prepared.launch((*[0 if array is None else data_address(array) for array in arrays], workspaces.address()))
    w1, w2, b1, b2 = _gradients_of_weights((g, x, inner, for_inner), sizes, needs[1:])
    return for_x, w1, w2, b1, b2


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared_weights(sizes: tuple[int, int, int, int], dtype: Any, needs: tuple[bool, ...], threads: int) -> Prepared:
    """The launch of ūᵀ x, ḡᵀ u and the sums of the rows of ū and of ḡ, as far as they are needed."""
    rows, inputs, inner, outputs = sizes
    x, u, g = (_contiguous(rows, columns, dtype.itemsize) for columns in (inputs, inner, outputs))
    pairs = ((u, x), (g, u))
    products = [
        (Place(a.shape[::-1], a.strides[::-1]), b, _contiguous(a.shape[1], b.shape[1], dtype.itemsize))
        for a, b in pairs
    ]
    sums = (u.shape, g.shape)
    return prepared_together(
        tuple([each for each, need in zip(products, needs[:2], strict=True) if need]),
        tuple([each for each, need in zip(sums, needs[2:], strict=True) if need]),
        False, dtype, threads,
    )  # fmt: skip


def _gradients_of_weights(
    arrays: tuple[Array, Array, Array, Array], sizes: tuple[int, int, int, int], needs: tuple[bool, ...]
) -> tuple[Array | None, ...]:
    """The gradients of W1, W2, b1 and b2 from ḡ, x, u and ū."""
    dtype, (_, inputs, inner, outputs) = arrays[0].dtype, sizes
    shapes = ((inner, inputs), (outputs, inner), (inner,), (outputs,))
    found = tuple([np.empty(shape, dtype) if need else None for shape, need in zip(shapes, needs, strict=True)])
    if any(needs):
        g_at, x_at, u_at, of_u_at = map(data_address, arrays)
        operands = ((of_u_at, x_at), (g_at, u_at), (of_u_at,), (g_at,))
        firsts = list[tuple[int, ...]]()
        for terms, result in zip(operands, found, strict=True):
            if result is not None:
                place = (data_address(result), 0, workspaces.address(len(firsts)))
                firsts.append((*terms, *(place if len(terms) == 2 else place[:1])))
        _prepared_weights(sizes, dtype, needs, get_num_threads()).launch(*firsts)
    return found
