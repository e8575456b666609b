"""A linear map of rows, ``z = activation(x Wᵀ + b)``, and its gradients ``ḡ W``, ``ḡᵀ x`` and the sum of ḡ's rows.

Computed as `kernels.gemm.product` and `kernels.column_sums` compute them, bit for bit, but prepared for operands of the
same sizes (`kernels.runtime.prepared`), and all gradients in one launch.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.column_sums import MOST_ROWS
from tinygrad_attn.kernels.gemm.blocks import workspaces
from tinygrad_attn.kernels.gemm.cache import keeping
from tinygrad_attn.kernels.gemm.product import ACTIVATION_CODES, is_serial, is_tiny
from tinygrad_attn.kernels.gemm.shares import Place, product_job
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Prepared
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.kernels.together import launch_together, prepared_together

__all__ = ["Gradients", "linear", "linear_backward", "paired_linear_backward"]

Array = np.ndarray[Any, Any]


def _rows_of(array: Array, dtype: Any) -> Array | None:
    """(..., n) as (rows, n) without copying, or None if it does not lie so or has another dtype."""
    if array.dtype is not dtype or not array.size:
        return None
    if array.ndim == 2:
        return array
    return array.reshape(-1, array.shape[-1]) if array.ndim and array.flags.c_contiguous else None


def _transposed(place: Place) -> Place:
    return Place(place.shape[::-1], place.strides[::-1])


def _contiguous(rows: int, columns: int, itemsize: int) -> Place:
    return Place((rows, columns), (columns * itemsize, itemsize))


# --- Forward ----------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared(
    x: Place, weight: Place, bias: tuple[int, ...] | None, itemsize: int, activation: str | None, threads: int
) -> Prepared | None:
    if len(weight.shape) != 2 or x.shape[1] != weight.shape[1] or bias not in (None, weight.shape[:1]):
        return None
    (rows, inputs), outputs = x.shape, weight.shape[0]
    work = rows * inputs * outputs
    if is_tiny(work):
        return None
    z, workers = _contiguous(rows, outputs, itemsize), 1 if is_serial(work) else threads
    epilogue = False, ACTIVATION_CODES[activation]
    return Prepared(product_job(x, _transposed(weight), z, itemsize, workers, epilogue))


def linear(x: Array, weight: Array, bias: Array | None, activation: str | None = None) -> Array | None:
    """activation(x Wᵀ + b), or None where that is for `kernels.gemm.product.gemm`: of tiny products, of weights that
    are kept packed, of operands that lie otherwise, and of those to be refused.

    Args:
        x: ``(..., in)``, C-contiguous or a matrix, float32 or float64 as the others.
        weight: ``(out, in)``, any strides.
        bias: ``(out,)``, or None.
        activation: None, or a name in `kernels.gemm.tile.ACTIVATIONS`.
    """
    dtype = weight.dtype
    rows = _rows_of(x, dtype)
    if rows is None or dtype.char not in "fd" or keeping.kept is not None:
        return None
    shape, bias_at = None, 0
    if bias is not None:
        if bias.dtype is not dtype or not bias.flags.c_contiguous:
            return None
        shape, bias_at = bias.shape, data_address(bias)
    places = Place(rows.shape, rows.strides), Place(weight.shape, weight.strides)
    prepared = _prepared(*places, shape, dtype.itemsize, activation, get_num_threads())
    if prepared is None:
        return None
    z = np.empty((*x.shape[:-1], len(weight)), dtype)
    prepared.launch((data_address(rows), data_address(weight), data_address(z), bias_at, workspaces.address()))
    return z


# --- Backward ---------------------------------------------------------------------------------------------------------


class Gradients(NamedTuple):
    """The gradients of x, W and b, None for those that are not needed."""

    x: Array | None
    weight: Array | None
    bias: Array | None


def _as_rows(g: Array, x: Array, dtype: Any) -> tuple[Array, Array] | None:
    """Both as `_rows_of`, or None if their products are not for `launch_together`."""
    g_rows, x_rows = _rows_of(g, dtype), _rows_of(x, dtype)
    if g_rows is None or x_rows is None or dtype.char not in "fd" or not g_rows.flags.c_contiguous:
        return None
    if is_tiny(g_rows.size * x_rows.shape[1]) or len(g_rows) > MOST_ROWS:
        return None
    return g_rows, x_rows


def _work(g: Array, x: Array, weight: Array, found: Gradients) -> tuple[list[Any], list[Any]]:
    """The products and the sums that `launch_together` is to write, of operands as rows."""
    products, sums = list[Any](), list[Any]()
    if found.x is not None:
        products.append((g, weight, found.x.reshape(x.shape)))
    if found.weight is not None:
        products.append((g.T, x, found.weight))
    if found.bias is not None:
        sums.append((g, found.bias))
    return products, sums


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared_backward(x: Place, weight: Place, dtype: Any, needs: tuple[bool, bool, bool], threads: int) -> Prepared:
    (rows, inputs), outputs = x.shape, weight.shape[0]
    g = _contiguous(rows, outputs, dtype.itemsize)
    products = []
    if needs[0]:
        products.append((g, weight, _contiguous(rows, inputs, dtype.itemsize)))
    if needs[1]:
        products.append((_transposed(g), x, _contiguous(outputs, inputs, dtype.itemsize)))
    return prepared_together(tuple(products), (g.shape,) if needs[2] else (), False, dtype, threads)


def linear_backward(g: Array, x: Array, weight: Array, needs: tuple[bool, bool, bool]) -> Gradients | None:
    """The gradients of x, W and b from that of z, in one launch; or None as `linear` does.

    Args:
        g: ``(..., out)``, C-contiguous.
        x: ``(..., in)``, C-contiguous or a matrix.
        weight: ``(out, in)``, any strides.
        needs: which of the three are needed.
    """
    dtype = weight.dtype
    rows = _as_rows(g, x, dtype)
    if rows is None or not any(needs):
        return None
    places = Place(rows[1].shape, rows[1].strides), Place(weight.shape, weight.strides)
    prepared = _prepared_backward(*places, dtype, needs, get_num_threads())
    g_at, firsts, for_x, for_weight, for_bias = data_address(g), list[Any](), None, None, None
    if needs[0]:
        for_x = np.empty(x.shape, dtype)
        firsts.append((g_at, data_address(weight), data_address(for_x), 0, workspaces.address()))
    if needs[1]:
        for_weight = np.empty(weight.shape, dtype)
        firsts.append((g_at, data_address(x), data_address(for_weight), 0, workspaces.address(len(firsts))))
    if needs[2]:
        for_bias = np.empty(len(weight), dtype)
        firsts.append((g_at, data_address(for_bias)))
    prepared.launch(*firsts)
    return Gradients(for_x, for_weight, for_bias)


def paired_linear_backward(
    g: tuple[Array, Array], operands: tuple[Array, Array], weight: Array, rows: int
) -> tuple[Array, Array, Array, Array] | None:
    """The gradients of x, y, W and b, of which the first rows are for x and the others for y; or None as `linear`.

    Args:
        g: the gradients of both outputs, ``(..., rows)`` and ``(..., out - rows)``, C-contiguous.
        operands: x and y, ``(..., in)``, C-contiguous or matrices.
        weight: ``(out, in)``, C-contiguous.
        rows: how many rows of ``weight`` are for x.
    """
    dtype, parts = weight.dtype, (slice(0, rows), slice(rows, None))
    of_x, of_y = (_as_rows(arrived, operand, dtype) for arrived, operand in zip(g, operands, strict=True))
    if of_x is None or of_y is None:
        return None
    for_x, for_y = (np.empty(operand.shape, dtype) for operand in operands)
    for_weight, for_bias = np.empty(weight.shape, dtype), np.empty(len(weight), dtype)
    products, sums = list[Any](), list[Any]()
    for map_rows, for_operand, part in zip((of_x, of_y), (for_x, for_y), parts, strict=True):
        of_map = _work(*map_rows, weight[part], Gradients(for_operand, for_weight[part], for_bias[part]))
        products += of_map[0]
        sums += of_map[1]
    launch_together(products, sums)
    return for_x, for_y, for_weight, for_bias
