"""New tensors: zeros, ones, arange, eye and their like, and random ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.dtypes import check_dtype, default_dtype
from tinygrad_attn.public import public
from tinygrad_attn.random import generator
from tinygrad_attn.tensor import Tensor, as_array

__all__ = [
    "arange", "empty", "eye", "from_numpy", "full", "full_like", "linspace", "ones", "ones_like", "rand", "randint",
    "randn", "randperm", "tensor", "zeros", "zeros_like",
]  # fmt: skip


def _shape(sizes: tuple[Any, ...], name: str) -> tuple[int, ...]:
    """The shape given as several integers or as one sequence."""
    given = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], Sequence) else sizes
    for size in given:
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 0:
            raise ValueError(f"{name}: sizes must be integers of at least 0, got {given}")
    return tuple(int(size) for size in given)


def _dtype(dtype: Any, otherwise: Any = default_dtype) -> np.dtype[Any]:
    """The dtype asked for, or ``otherwise``."""
    return check_dtype(otherwise if dtype is None else dtype)


def _leaf(array: np.ndarray[Any, Any], requires_grad: bool) -> Tensor:
    result = Tensor(array)
    result.requires_grad = requires_grad
    return result


@public("ta")
def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A leaf tensor with a copy of ``data`` (numbers, nested lists, or an array).

    Args:
        data: lists of Python floats become float32, of ints int64, of bools bool; an array keeps its dtype.
        dtype: the dtype to convert to.
        requires_grad: whether gradients are wanted for it.

    Raises:
        TypeError: an unsupported dtype, or ``requires_grad`` of an integer or bool tensor.
        ValueError: nested lists of unequal length.
    """
    result = Tensor(np.array(as_array(data, dtype), order="C"))
    result.requires_grad = requires_grad
    return result


@public("ta")
def zeros(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros, float32 unless ``dtype`` says otherwise. Sizes come as integers or as one sequence."""
    return _leaf(np.zeros(_shape(size, "zeros"), _dtype(dtype)), requires_grad)


@public("ta")
def ones(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones, float32 unless ``dtype`` says otherwise. Sizes come as integers or as one sequence."""
    return _leaf(np.ones(_shape(size, "ones"), _dtype(dtype)), requires_grad)


@public("ta")
def empty(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised memory, float32 unless ``dtype`` says otherwise; fill it before use."""
    return _leaf(np.empty(_shape(size, "empty"), _dtype(dtype)), requires_grad)


@public("ta")
def full(size: Sequence[int], fill_value: float | int | bool, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """``fill_value`` everywhere. Without ``dtype``, a float gives float32, an int int64 and a bool bool."""
    implied = default_dtype if isinstance(fill_value, float) else np.dtype(type(fill_value))
    return _leaf(np.full(_shape((size,), "full"), fill_value, _dtype(dtype, implied)), requires_grad)


@public("ta")
def zeros_like(input: Tensor, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros in the shape and dtype of ``input``."""
    return _leaf(np.zeros(input.shape, _dtype(dtype, input.dtype)), requires_grad)


@public("ta")
def ones_like(input: Tensor, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones in the shape and dtype of ``input``."""
    return _leaf(np.ones(input.shape, _dtype(dtype, input.dtype)), requires_grad)


@public("ta")
def full_like(input: Tensor, fill_value: float | int | bool, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """``fill_value`` everywhere, in the shape and dtype of ``input``."""
    return _leaf(np.full(input.shape, fill_value, _dtype(dtype, input.dtype)), requires_grad)


@public("ta")
def arange(
    start: float, end: float | None = None, step: float = 1, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """The numbers from ``start`` (0 if only one number is given) up to but not including ``end``.

    Integers give int64, floats float32, unless ``dtype`` says otherwise.

    Raises:
        ValueError: ``step`` is 0 or leads away from ``end``.
    """
    first, last = (0, start) if end is None else (start, end)
    if step == 0 or (last - first) * step < 0:
        raise ValueError(f"arange: step {step} does not lead from {first} to {last}")
    whole = all(isinstance(number, (int, np.integer)) for number in (first, last, step))
    return _leaf(
        np.arange(first, last, step).astype(_dtype(dtype, np.int64 if whole else default_dtype)),
        requires_grad,
    )


@public("ta")
def linspace(start: float, end: float, steps: int, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """``steps`` numbers, evenly spaced, from ``start`` to ``end``, both included."""
    (steps,) = _shape((steps,), "linspace")
    return _leaf(np.linspace(start, end, steps, dtype=_dtype(dtype)), requires_grad)


@public("ta")
def eye(n: int, m: int | None = None, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """An (n, m) matrix with ones on the diagonal; m is n if left out."""
    n, m = _shape((n, n if m is None else m), "eye")
    return _leaf(np.eye(n, m, dtype=_dtype(dtype)), requires_grad)


@public("ta")
def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor that shares the memory of ``array``.

    Raises:
        TypeError: not an array, or an unsupported dtype.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected an array, got {type(array).__name__}; use tensor()")
    return Tensor(as_array(array))


@public("ta")
def randn(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Normal numbers of mean 0 and variance 1 from the package's generator (see `manual_seed`)."""
    chosen: Any = _dtype(dtype)
    return _leaf(np.asarray(generator().standard_normal(_shape(size, "randn"), chosen), chosen), requires_grad)


@public("ta")
def rand(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Uniform numbers in [0, 1) from the package's generator."""
    chosen: Any = _dtype(dtype)
    return _leaf(np.asarray(generator().random(_shape(size, "rand"), chosen), chosen), requires_grad)


@public("ta")
def randint(low: int, high: int, size: Sequence[int]) -> Tensor:
    """int64 numbers from ``low`` up to but not including ``high``, from the package's generator.

    Raises:
        ValueError: there is no number between them.
    """
    if low >= high:
        raise ValueError(f"randint: low must be less than high, got {low} and {high}")
    return Tensor(np.asarray(generator().integers(low, high, _shape((size,), "randint"))))


@public("ta")
def randperm(n: int) -> Tensor:
    """The int64 numbers 0 to n - 1 in random order."""
    return Tensor(generator().permutation(n))
