"""New tensors: zeros, ones, arange, eye and their like, and random ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.dtypes import check_array, check_dtype, check_fits, converted, default_dtype
from tinygrad_attn.public import public
from tinygrad_attn.random import generator
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import as_array, number, whole_number

__all__ = [
    "arange", "empty", "eye", "from_numpy", "full", "full_like", "linspace", "ones", "ones_like", "rand", "randint",
    "randn", "randperm", "tensor", "zeros", "zeros_like",
]  # fmt: skip


def _shape(sizes: tuple[Any, ...], name: str) -> tuple[int, ...]:
    """The shape given as several integers or as one sequence."""
    given = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], Sequence) else sizes
    try:
        found = tuple([whole_number(name, "size", size) for size in given])
    except TypeError:
        found = (-1,)
    if min(found, default=0) < 0:
        raise ValueError(f"{name}: sizes must be integers of at least 0, got {', '.join(map(shown, given))}")
    return found


def _dtype(name: str, dtype: Any, otherwise: Any = default_dtype) -> np.dtype[Any]:
    """The dtype asked for, or ``otherwise``."""
    return check_dtype(otherwise if dtype is None else dtype, f"{name}: ")


def _leaf(
    name: str, shape: tuple[int, ...], make: Callable[[], Any], requires_grad: bool, dtype: np.dtype[Any] | None = None
) -> Tensor:
    """The tensor around what ``make()`` gives, in ``dtype``; a MemoryError says how much of it there would be."""
    try:
        made = np.asarray(make())
        result = Tensor(made if dtype is None else converted(name, made, dtype))
    except (MemoryError, ValueError):
        if math.prod(shape) < 2**20:
            raise
        raise MemoryError(f"{name}: there is not enough memory for a tensor of shape {shape}") from None
    result.requires_grad = requires_grad
    return result


def _like(name: str, input: Any) -> Any:
    """``input``, of whose shape and dtype another tensor will be."""
    return input if isinstance(input, (Tensor, np.ndarray)) else as_array(input, name=name)


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
    shape, wanted = _shape(size, "zeros"), _dtype("zeros", dtype)
    return _leaf("zeros", shape, lambda: np.zeros(shape, wanted), requires_grad)


@public("ta")
def ones(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones, float32 unless ``dtype`` says otherwise. Sizes come as integers or as one sequence."""
    shape, wanted = _shape(size, "ones"), _dtype("ones", dtype)
    return _leaf("ones", shape, lambda: np.ones(shape, wanted), requires_grad)


@public("ta")
def empty(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised memory, float32 unless ``dtype`` says otherwise; fill it before use."""
    shape, wanted = _shape(size, "empty"), _dtype("empty", dtype)
    return _leaf("empty", shape, lambda: np.empty(shape, wanted), requires_grad)


@public("ta")
def full(size: Sequence[int], fill_value: float | int | bool, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """``fill_value`` everywhere. Without ``dtype``, a float gives float32, an int int64 and a bool bool.

    Raises:
        OverflowError: the dtype cannot hold ``fill_value``.
    """
    value = number("full", "fill_value", fill_value)
    implied = default_dtype if isinstance(value, float) else np.dtype(type(value))
    return _filled("full", _shape((size,), "full"), value, _dtype("full", dtype, implied), requires_grad)


def _filled(name: str, shape: tuple[int, ...], value: Any, dtype: np.dtype[Any], requires_grad: bool) -> Tensor:
    check_fits(name, value, dtype)
    return _leaf(name, shape, lambda: np.full(shape, value, dtype), requires_grad)


@public("ta")
def zeros_like(input: Tensor, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros in the shape and dtype of ``input``."""
    like = _like("zeros_like", input)
    return _filled("zeros_like", like.shape, 0, _dtype("zeros_like", dtype, like.dtype), requires_grad)


@public("ta")
def ones_like(input: Tensor, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones in the shape and dtype of ``input``."""
    like = _like("ones_like", input)
    return _filled("ones_like", like.shape, 1, _dtype("ones_like", dtype, like.dtype), requires_grad)


@public("ta")
def full_like(input: Tensor, fill_value: float | int | bool, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """``fill_value`` everywhere, in the shape and dtype of ``input``.

    Raises:
        OverflowError: the dtype cannot hold ``fill_value``.
    """
    like, value = _like("full_like", input), number("full_like", "fill_value", fill_value)
    return _filled("full_like", like.shape, value, _dtype("full_like", dtype, like.dtype), requires_grad)


@public("ta")
def arange(
    start: float, end: float | None = None, step: float = 1, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """The numbers from ``start`` (0 if only one number is given) up to but not including ``end``.

    Integers give int64, floats float32, unless ``dtype`` says otherwise.

    Raises:
        ValueError: ``step`` is 0 or leads away from ``end``, or a number is not finite.
        OverflowError: the dtype cannot hold the numbers.
    """
    first, last = (0, start) if end is None else (start, end)
    numbers = [number("arange", n, v) for n, v in (("start", first), ("end", last), ("step", step))]
    first, last, step = numbers
    whole = all(isinstance(each, int) for each in numbers)
    if not whole and not all(math.isfinite(each) for each in numbers):
        raise ValueError(f"arange: start, end and step must be finite, got {first}, {last} and {step}")
    if step == 0 or (last - first) * step < 0:
        raise ValueError(f"arange: step {step} does not lead from {first} to {last}")
    wanted = _dtype("arange", dtype, np.int64 if whole else default_dtype)
    if whole:
        check_fits("arange", np.asarray([first, last, step], object), np.dtype(np.int64))
    count = math.ceil(min((last - first) / step, 2.0**63))
    if count:
        check_fits("arange", first + (count - 1) * step, wanted)  # before there is memory for all of them
    return _leaf("arange", (count,), lambda: np.arange(first, last, step), requires_grad, wanted)


@public("ta")
def linspace(start: float, end: float, steps: int, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """``steps`` numbers, evenly spaced, from ``start`` to ``end``, both included.

    Raises:
        OverflowError: the dtype cannot hold the numbers.
    """
    shape = _shape((whole_number("linspace", "steps", steps),), "linspace")
    first, last = (float(number("linspace", name, value)) for name, value in (("start", start), ("end", end)))
    wanted = _dtype("linspace", dtype)
    if wanted.kind == "f":
        return _leaf("linspace", shape, lambda: np.linspace(first, last, shape[0], dtype=wanted), requires_grad)
    return _leaf("linspace", shape, lambda: np.linspace(first, last, shape[0]), requires_grad, wanted)


@public("ta")
def eye(n: int, m: int | None = None, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """An (n, m) matrix with ones on the diagonal; m is n if left out."""
    shape, wanted = _shape((n, n if m is None else m), "eye"), _dtype("eye", dtype)
    return _leaf("eye", shape, lambda: np.eye(*shape, dtype=wanted), requires_grad)


@public("ta")
def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor that shares the memory of ``array``.

    Raises:
        TypeError: not an array, or an unsupported dtype.
    """
    return Tensor(check_array("from_numpy", array, "use tensor()"))


@public("ta")
def randn(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Normal numbers of mean 0 and variance 1 from the package's generator (see `manual_seed`).

    Raises:
        TypeError: a dtype that is not float32 or float64.
    """
    shape, wanted = _shape(size, "randn"), _float_dtype("randn", dtype)
    return _leaf("randn", shape, lambda: generator().standard_normal(shape, wanted), requires_grad, wanted)


@public("ta")
def rand(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Uniform numbers in [0, 1) from the package's generator.

    Raises:
        TypeError: a dtype that is not float32 or float64.
    """
    shape, wanted = _shape(size, "rand"), _float_dtype("rand", dtype)
    return _leaf("rand", shape, lambda: generator().random(shape, wanted), requires_grad, wanted)


def _float_dtype(name: str, dtype: Any) -> Any:
    wanted = _dtype(name, dtype)
    if wanted.kind != "f":
        raise TypeError(f"{name}: dtype must be float32 or float64, got {wanted}; see randint()")
    return wanted


@public("ta")
def randint(low: Any = 0, high: Any = None, size: Any = None) -> Tensor:
    """int64 numbers from ``low`` up to but not including ``high``, from the package's generator.

    ``randint(low, high, size)``, or ``randint(high, size)`` from 0 on; ``size`` is a sequence of integers.

    Raises:
        TypeError: a bound is not an integer, or the size is missing.
        ValueError: there is no number between the bounds.
    """
    if size is None and isinstance(high, Sequence):
        high, size = None, high
    if high is None:
        low, high = 0, low
    if not isinstance(size, Sequence):
        raise TypeError(
            "randint: expected (low, high, size) or (high, size), with a size such as (2, 3), "
            f"got low {shown(low)}, high {shown(high)}, size {shown(size)}"
        )
    shape = _shape((size,), "randint")
    first, last = whole_number("randint", "low", low), whole_number("randint", "high", high)
    if first >= last:
        raise ValueError(f"randint: low must be less than high, got {first} and {last}")
    check_fits("randint", np.asarray([first, last - 1], object), np.dtype(np.int64))
    return _leaf("randint", shape, lambda: generator().integers(first, last, shape), False)


@public("ta")
def randperm(n: int) -> Tensor:
    """The int64 numbers 0 to n - 1 in random order."""
    (count,) = _shape((whole_number("randperm", "n", n),), "randperm")
    return _leaf("randperm", (count,), lambda: generator().permutation(count), False)
