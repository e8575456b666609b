"""A linear map of rows, ``z = activation(x Wᵀ + b)``, and its gradients ``ḡ W``, ``ḡᵀ x`` and the sum of ḡ's rows.

Computed as `kernels.gemm.product` and `kernels.column_sums` compute them, bit for bit, but prepared for operands of the
same sizes (`kernels.runtime.prepared`), and all gradients in one launch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.column_sums import column_sums_job
from tinygrad_attn.kernels.gemm.blocks import workspaces
from tinygrad_attn.kernels.gemm.cache import keeping
from tinygrad_attn.kernels.gemm.product import ACTIVATION_CODES, is_serial, is_tiny
from tinygrad_attn.kernels.gemm.shares import Place, product_job
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Job, Prepared
from tinygrad_attn.kernels.runtime.threads import get_num_threads

__all__ = ["linear", "linear_backward", "paired_linear_backward"]

Array = np.ndarray[Any, Any]

_MOST_ROWS = 1 << 16  # whose sum takes blocks of one level; see `kernels.column_sums`


def _rows_of(array: Array, dtype: Any) -> Array | None:
    """(..., n) as (rows, n) without copying, or None if it does not lie so or has another dtype."""
    if array.dtype is not dtype or not (array.ndim == 2 or array.flags.c_contiguous) or not array.size:
        return None
    return array if array.ndim == 2 else array.reshape(-1, array.shape[-1])


def _transposed(place: Place) -> Place:
    return Place(place.shape[::-1], place.strides[::-1])


def _contiguous(rows: int, columns: int, itemsize: int) -> Place:
    return Place((rows, columns), (columns * itemsize, itemsize))


# --- Forward ----------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared(x: Place, weight: Place, itemsize: int, activation: str | None, threads: int) -> Prepared | None:
    rows, outputs = x.shape[0], weight.shape[0]
    work = rows * x.shape[1] * outputs
    if is_tiny(work):
        return None
    z, workers = _contiguous(rows, outputs, itemsize), 1 if is_serial(work) else threads
    epilogue = False, ACTIVATION_CODES[activation]
    return Prepared(product_job(x, _transposed(weight), z, itemsize, workers, epilogue))


def linear(x: Array, weight: Array, bias: Array | None, activation: str | None = None) -> Array | None:
    """activation(x Wᵀ + b), or None where that is for `kernels.gemm.product.gemm`: of tiny products, of weights that
    are kept packed, and of operands that lie otherwise.

    Args:
        x: ``(..., in)``, C-contiguous or a matrix, float32 or float64 as the others.
        weight: ``(out, in)``, any strides.
        bias: ``(out,)``, or None.
        activation: None, or a name in `kernels.gemm.tile.ACTIVATIONS`.
    """
    dtype = weight.dtype
    rows = _rows_of(x, dtype)
    if rows is None or dtype.char not in "fd" or not weight.size or keeping.kept is not None:
        return None
    if bias is not None and (bias.dtype is not dtype or not bias.flags.c_contiguous):
        return None
    places = Place(rows.shape, rows.strides), Place(weight.shape, weight.strides)
    prepared = _prepared(*places, dtype.itemsize, activation, get_num_threads())
    if prepared is None:
        return None
    z = np.empty((*x.shape[:-1], len(weight)), dtype)
    bias_at = 0 if bias is None else data_address(bias)
    prepared.launch((data_address(rows), data_address(weight), data_address(z), bias_at, workspaces.address()))
    return z


# --- Backward ---------------------------------------------------------------------------------------------------------


class _Map(NamedTuple):
    """A map's operands as rows, and the gradient of its output."""

    g: Array  # (rows, out)
    x: Array  # (rows, in)
    weight: Array  # (out, in)


class _Gradients(NamedTuple):
    """Where to write the gradients of a map, C-contiguous, or None."""

    x: Array | None
    weight: Array | None
    bias: Array | None


def _maps(*given: tuple[Array, Array, Array]) -> list[_Map] | None:
    """Maps from g, x and weight; None if they do not lie as rows."""
    maps = list[_Map]()
    for g, x, weight in given:
        dtype = weight.dtype
        g_rows, x_rows = _rows_of(g, dtype), _rows_of(x, dtype)
        if g_rows is None or x_rows is None or dtype.char not in "fd" or not g_rows.flags.c_contiguous:
            return None
        maps.append(_Map(g_rows, x_rows, weight))
    return maps


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared_backward(
    maps: tuple[tuple[Place, ...], ...],
    needs: tuple[tuple[bool, ...], ...],
    dtype: Any,
    threads: int,
    block: int | None,
) -> Prepared | None:
    """The gradients of some maps that are needed; None if that is not for one launch."""
    jobs, itemsize = list[Job](), dtype.itemsize
    works = [g.shape[0] * weight.shape[0] * weight.shape[1] for g, _, weight in maps]
    if is_tiny(min(works)) or max(g.shape[0] for g, _, _ in maps) > _MOST_ROWS:
        return None
    workers = 1 if is_serial(max(works)) else threads
    for (g, x, weight), (needs_x, needs_weight, needs_bias) in zip(maps, needs, strict=True):
        (rows, outputs), inputs = g.shape, x.shape[1]
        if needs_x:
            jobs.append(product_job(g, weight, _contiguous(rows, inputs, itemsize), itemsize, workers))
        if needs_weight:
            jobs.append(product_job(_transposed(g), x, _contiguous(outputs, inputs, itemsize), itemsize, workers))
        if needs_bias:
            jobs.append(column_sums_job(rows, outputs, dtype.type, threads, block))
    return Prepared(*jobs, alone=workers == 1) if jobs else None


def _launch(prepared: Prepared, maps: Sequence[_Map], gradients: Sequence[_Gradients]) -> None:
    addresses, products = list[tuple[int, ...]](), 0
    for (g, x, weight), found in zip(maps, gradients, strict=True):
        g_at = data_address(g)
        for operand, gradient in ((weight, found.x), (x, found.weight)):
            if gradient is not None:
                scratch = workspaces.address(products)
                addresses.append((g_at, data_address(operand), data_address(gradient), 0, scratch))
                products += 1
        if found.bias is not None:
            addresses.append((g_at, data_address(found.bias)))
    prepared.launch(*addresses)


def _prepare(maps: Sequence[_Map], needs: tuple[tuple[bool, ...], ...], block: int | None = None) -> Prepared | None:
    places = tuple([tuple([Place(array.shape, array.strides) for array in each]) for each in maps])
    return _prepared_backward(places, needs, maps[0].weight.dtype, get_num_threads(), block)


def linear_backward(
    g: Array, x: Array, weight: Array, needs: tuple[bool, bool, bool], block: int | None = None
) -> _Gradients | None:
    """The gradients of x, W and b from that of z, None for those that are not needed; or None as `linear` does.

    Args:
        g: ``(..., out)``, C-contiguous.
        x: ``(..., in)``, C-contiguous or a matrix.
        weight: ``(out, in)``, any strides.
        needs: which of the three are needed.
        block: of the sum for b; see `kernels.column_sums.column_sums_job`.
    """
    maps = _maps((g, x, weight))
    prepared = None if maps is None else _prepare(maps, (needs,), block)
    if maps is None or prepared is None:
        return None
    shapes = (x.shape, weight.shape, weight.shape[:1])
    found = [np.empty(shape, weight.dtype) if needed else None for shape, needed in zip(shapes, needs, strict=True)]
    gradients = _Gradients(*found)
    _launch(prepared, maps, [gradients])
    return gradients


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
    parts = slice(0, rows), slice(rows, None)
    maps = _maps(*[(arrived, x, weight[part]) for arrived, x, part in zip(g, operands, parts, strict=True)])
    prepared = None if maps is None else _prepare(maps, ((True, True, True),) * 2)
    if maps is None or prepared is None:
        return None
    for_x, for_y = (np.empty(operand.shape, weight.dtype) for operand in operands)
    for_weight, for_bias = np.empty(weight.shape, weight.dtype), np.empty(len(weight), weight.dtype)
    found = [
        _Gradients(each, for_weight[part], for_bias[part]) for each, part in zip((for_x, for_y), parts, strict=True)
    ]
    _launch(prepared, maps, found)
    return for_x, for_y, for_weight, for_bias
