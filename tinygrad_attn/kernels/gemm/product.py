"""Matrix product on strided, batched arrays: the one matmul of the engine, forward and backward."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tinygrad_attn.kernels.gemm.cache import is_kept, keeping
from tinygrad_attn.kernels.gemm.rows import multiply_rows
from tinygrad_attn.kernels.gemm.shares import multiply
from tinygrad_attn.kernels.gemm.tile import ACTIVATIONS
from tinygrad_attn.kernels.runtime.threads import get_num_threads

__all__ = ["ACTIVATION_CODES", "gemm", "gemm_in_numpy", "is_serial", "is_tiny", "numpy_is_best"]

# Up to so many multiplications NumPy's call is the cheaper one. OpenBLAS stays on the calling thread for them.
_NUMPY_WORK = 64**3
# Up to so many, a second thread costs more to launch than it gains.
_SERIAL_WORK = 80**3

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_dot = np.ndarray.dot
ACTIVATION_CODES = {None: -1} | {name: code for code, name in enumerate(ACTIVATIONS)}


def is_tiny(work: int) -> bool:
    """Whether NumPy is quicker at so many multiplications."""
    return work <= _NUMPY_WORK


def is_serial(work: int) -> bool:
    """Whether the calling thread is quicker alone."""
    return work <= _SERIAL_WORK


def gemm_in_numpy(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray,
    bias: np.ndarray | None,
    activation: str | None,
    accumulate: bool,
) -> np.ndarray:
    """`gemm` in NumPy, into ``out``: what the kernels are held to, and what tiny products are computed with."""
    if accumulate:
        out += np.matmul(a, b)
    else:
        np.matmul(a, b, out=out)
    if bias is not None:
        out += bias
    if activation is not None:
        out[...] = ACTIVATIONS[activation][1](out)
    return out


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
        activation: None, or a name in `kernels.gemm.tile.ACTIVATIONS`: "relu".
        accumulate: Add to what ``out`` holds.

    Raises:
        TypeError: An operand is not an array of float32 or float64, or their dtypes differ.
        ValueError: Shapes do not fit, ``out`` is read-only or overlaps an input, ``accumulate`` without ``out``,
            or an unknown activation.
    """
    if out is None and not accumulate:
        if keeping.kept is not None:
            found = multiply_rows(a, b, bias, activation) if is_kept(b) else None
            if found is not None:
                return found
        elif bias is None and activation is None:
            try:  # written out, since for a tiny product each call of a function counts
                rows, depth = a.shape
                _, columns = b.shape
                dtype = a.dtype
                known = type(b) is np.ndarray and b.dtype is dtype and (dtype is _FLOAT32 or dtype is _FLOAT64)
                if known and rows * depth * columns <= _NUMPY_WORK:
                    return _dot(a, b)  # of matrices the same as matmul, at half its price
            except (AttributeError, TypeError, ValueError):  # see below what is wrong, if anything
                pass
    return _product(a, b, out, bias, activation, accumulate)


def _product(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray | None,
    bias: np.ndarray | None,
    activation: str | None,
    accumulate: bool,
) -> np.ndarray:
    tiny = numpy_is_best(a, b)
    if not tiny:
        _check_operands(a, b)
    dtype = a.dtype
    depth, columns = a.shape[-1], b.shape[-1]
    shape = (*_broadcast_batch(a, b), a.shape[-2], columns)
    if bias is not None:
        bias = _check_bias(bias, dtype, columns)
    if activation not in ACTIVATION_CODES:
        raise ValueError(f"gemm: activation must be None or one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if out is not None:
        _check_out(out, shape, a, b, bias)
    elif accumulate:
        raise ValueError("gemm: accumulate=True adds to out, but out is None")
    else:
        out = np.empty(shape, dtype)

    if tiny or out.size * depth == 0:
        return gemm_in_numpy(a, b, out, bias, activation, accumulate)
    if columns > 1 and out.strides[-1] != dtype.itemsize:
        out[...] = gemm(
            a, b, out.copy() if accumulate else None, bias=bias, activation=activation, accumulate=accumulate
        )
        return out

    workers = 1 if is_serial(out.size * depth) else get_num_threads()
    for a_part, b_part, c in _of_four_dimensions(a, b, out):
        multiply(a_part, b_part, c, bias, ACTIVATION_CODES[activation], accumulate, workers)
    return out


def numpy_is_best(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether this is a tiny product of two valid matrices, which NumPy hands to BLAS as they are."""
    try:
        (rows, depth), (inner, columns) = a.shape, b.shape
        dtype = a.dtype
        return (
            is_tiny(rows * depth * columns)
            and depth == inner
            and (dtype is _FLOAT32 or dtype is _FLOAT64)
            and b.dtype is dtype
            and _blas_reads(a)
            and _blas_reads(b)
        )
    except (AttributeError, ValueError):  # not arrays, or not of two dimensions
        return False


def _check_operands(a: np.ndarray, b: np.ndarray) -> None:
    if type(a) is type(b) is np.ndarray and a.ndim > 1 and b.ndim > 1 and a.shape[-1] == b.shape[-2]:
        dtype = a.dtype
        if b.dtype is dtype and (dtype is _FLOAT32 or dtype is _FLOAT64):
            return  # as in nearly every call, without asking for each thing that may be wrong
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


def _of_four_dimensions(
    a: np.ndarray, b: np.ndarray, c: np.ndarray
) -> Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The product as products of arrays with up to two leading dimensions; all are views."""
    if c.ndim == 2:
        return ((a, b, c),)
    if b.ndim == 2 and a.ndim > 2 and a.flags.c_contiguous and c.flags.c_contiguous:
        a, c = a.reshape(-1, a.shape[-1]), c.reshape(-1, c.shape[-1])  # one tall product packs b only once
    if c.ndim <= 4:
        return ((a, b, c),)
    a, b = (array[(None,) * (c.ndim - array.ndim)] for array in (a, b))
    return (
        (_matrices_at(index, a), _matrices_at(index, b), _matrices_at(index, c)) for index in np.ndindex(c.shape[:-4])
    )


def _matrices_at(index: tuple[int, ...], array: np.ndarray) -> np.ndarray:
    """The array at an index of its first dimensions, of which those of length 1 are broadcast."""
    return array[tuple(min(i, length - 1) for i, length in zip(index, array.shape, strict=False))]
