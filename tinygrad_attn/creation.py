"""New tensors: zeros, ones, arange, eye and their like.

``device`` is there so that code written for PyTorch runs: "cpu", or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.dtypes import check_array, check_dtype, check_fits, converted, default_dtype
from tinygrad_attn.op import cast
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import allocated, as_array, check_device, number, real_number, whole_number

__all__ = [
    "arange", "as_tensor", "empty", "empty_like", "eye", "from_numpy", "full", "full_like", "linspace", "new_empty",
    "new_full", "new_ones", "new_tensor", "new_zeros", "ones", "ones_like", "tensor", "zeros", "zeros_like",
]  # fmt: skip


def shape_of(sizes: tuple[Any, ...], name: str) -> tuple[int, ...]:
    """The shape given as several integers or as one sequence."""
    one = len(sizes) == 1 and (isinstance(sizes[0], Sequence) or getattr(sizes[0], "ndim", 0) == 1)
    given = tuple(sizes[0]) if one else sizes
    try:
        found = tuple([whole_number(name, "size", size) for size in given])
    except TypeError:
        found = (-1,)
    if min(found, default=0) < 0:
        raise ValueError(f"{name}: sizes must be integers of at least 0, got {', '.join(map(shown, given))}")
    return found


def dtype_of(name: str, dtype: Any, device: Any, otherwise: Any = default_dtype) -> np.dtype[Any]:
    """The dtype asked for, or ``otherwise``; a TypeError for another device than the CPU."""
    check_device(name, device)
    return check_dtype(otherwise if dtype is None else dtype, f"{name}: ")


def leaf(
    name: str, shape: tuple[int, ...], make: Callable[[], Any], requires_grad: bool, dtype: np.dtype[Any] | None = None
) -> Tensor:
    """The tensor around what ``make()`` gives, in ``dtype``; errors as for `allocated`."""
    result = Tensor(allocated(name, shape, lambda: _in_dtype(name, np.asarray(make()), dtype)))
    result.requires_grad = requires_grad
    return result


def _in_dtype(name: str, array: np.ndarray[Any, Any], dtype: np.dtype[Any] | None) -> np.ndarray[Any, Any]:
    return array if dtype is None else converted(name, array, dtype)


def template(name: str, input: Any) -> Any:
    """``input``, of whose shape and dtype another tensor will be."""
    return input if isinstance(input, (Tensor, np.ndarray)) else as_array(input, name=name)


@public("ta")
def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """A leaf tensor with a copy of ``data`` (numbers, nested lists, or an array).

    Args:
        data: lists of Python floats become float32, of ints int64, of bools bool; an array keeps its dtype.
        dtype: the dtype to convert to.
        requires_grad: whether gradients are wanted for it.
        device: "cpu" or None.

    Raises:
        TypeError: an unsupported dtype, another device, or ``requires_grad`` of an integer or bool tensor.
        ValueError: nested lists of unequal length.
    """
    check_device("tensor", device)
    result = Tensor(np.array(as_array(data, dtype), order="C"))
    result.requires_grad = requires_grad
    return result


@public("ta")
def zeros(*size: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Zeros, float32 unless ``dtype`` says otherwise. Sizes come as integers or as one sequence."""
    shape, wanted = shape_of(size, "zeros"), dtype_of("zeros", dtype, device)
    return leaf("zeros", shape, lambda: np.zeros(shape, wanted), requires_grad)


@public("ta")
def ones(*size: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Ones, float32 unless ``dtype`` says otherwise. Sizes come as integers or as one sequence."""
    shape, wanted = shape_of(size, "ones"), dtype_of("ones", dtype, device)
    return leaf("ones", shape, lambda: np.ones(shape, wanted), requires_grad)


@public("ta")
def empty(*size: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Uninitialised memory, float32 unless ``dtype`` says otherwise; fill it before use."""
    shape, wanted = shape_of(size, "empty"), dtype_of("empty", dtype, device)
    return leaf("empty", shape, lambda: np.empty(shape, wanted), requires_grad)


@public("ta")
def full(
    size: Sequence[int],
    fill_value: float | int | bool,
    dtype: Any = None,
    requires_grad: bool = False,
    device: Any = None,
) -> Tensor:
    """``fill_value`` everywhere. Without ``dtype``, a float gives float32, an int int64 and a bool bool.

    Raises:
        OverflowError: the dtype cannot hold ``fill_value``.
    """
    value = number("full", "fill_value", fill_value)
    implied = default_dtype if isinstance(value, float) else np.dtype(type(value))
    return _filled("full", shape_of((size,), "full"), value, dtype_of("full", dtype, device, implied), requires_grad)


def _filled(name: str, shape: tuple[int, ...], value: Any, dtype: np.dtype[Any], requires_grad: bool) -> Tensor:
    check_fits(name, value, dtype)
    return leaf(name, shape, lambda: np.full(shape, value, dtype), requires_grad)


@public("ta")
def zeros_like(input: Tensor, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Zeros in the shape and dtype of ``input``."""
    like = template("zeros_like", input)
    return _filled("zeros_like", like.shape, 0, dtype_of("zeros_like", dtype, device, like.dtype), requires_grad)


@public("ta")
def ones_like(input: Tensor, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Ones in the shape and dtype of ``input``."""
    like = template("ones_like", input)
    return _filled("ones_like", like.shape, 1, dtype_of("ones_like", dtype, device, like.dtype), requires_grad)


@public("ta")
def full_like(
    input: Tensor, fill_value: float | int | bool, dtype: Any = None, requires_grad: bool = False, device: Any = None
) -> Tensor:
    """``fill_value`` everywhere, in the shape and dtype of ``input``.

    Raises:
        OverflowError: the dtype cannot hold ``fill_value``.
    """
    like, value = template("full_like", input), number("full_like", "fill_value", fill_value)
    return _filled("full_like", like.shape, value, dtype_of("full_like", dtype, device, like.dtype), requires_grad)


@public("ta")
def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    dtype: Any = None,
    requires_grad: bool = False,
    device: Any = None,
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
    wanted = dtype_of("arange", dtype, device, np.int64 if whole else default_dtype)
    if whole:
        check_fits("arange", np.asarray([first, last, step], object), np.dtype(np.int64))
    count = math.ceil(min((last - first) / step, 2.0**63))
    if count:
        check_fits("arange", first + (count - 1) * step, wanted)  # before there is memory for all of them
    return leaf("arange", (count,), lambda: np.arange(first, last, step), requires_grad, wanted)


@public("ta")
def linspace(
    start: float, end: float, steps: int, dtype: Any = None, requires_grad: bool = False, device: Any = None
) -> Tensor:
    """``steps`` numbers, evenly spaced, from ``start`` to ``end``, both included.

    Raises:
        OverflowError: the dtype cannot hold the numbers.
    """
    shape = shape_of((whole_number("linspace", "steps", steps),), "linspace")
    first, last = (real_number("linspace", name, value) for name, value in (("start", start), ("end", end)))
    wanted = dtype_of("linspace", dtype, device)
    if wanted.kind == "f":
        return leaf("linspace", shape, lambda: np.linspace(first, last, shape[0], dtype=wanted), requires_grad)
    return leaf("linspace", shape, lambda: np.linspace(first, last, shape[0]), requires_grad, wanted)


@public("ta")
def eye(n: int, m: int | None = None, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """An (n, m) matrix with ones on the diagonal; m is n if left out."""
    shape, wanted = shape_of((n, n if m is None else m), "eye"), dtype_of("eye", dtype, device)
    return leaf("eye", shape, lambda: np.eye(*shape, dtype=wanted), requires_grad)


@public("ta")
def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor that shares the memory of ``array``.

    Raises:
        TypeError: not an array, or an unsupported dtype.
    """
    return Tensor(check_array("from_numpy", array, "use tensor()"))


# -- in the dtype of another -------------------------------------------------------------------------------------------


@public("ta")
def empty_like(input: Tensor, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Uninitialised memory, in the shape and dtype of ``input``; fill it before use."""
    other = template("empty_like", input)
    wanted = dtype_of("empty_like", dtype, device, other.dtype)
    return leaf("empty_like", other.shape, lambda: np.empty(other.shape, wanted), requires_grad)


@public("ta")
def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``data`` as a tensor: itself if it is one, around the memory of an array, else as `tensor` makes it.

    Args:
        data: a tensor, an array, numbers or nested lists of them.
        dtype: the dtype to convert to; gradients flow back through the conversion.
        device: "cpu" or None.

    Raises:
        TypeError, ValueError, OverflowError: as for `tensor`.
    """
    check_device("as_tensor", device)
    if isinstance(data, Tensor):
        wanted = data.dtype if dtype is None else check_dtype(dtype, "as_tensor: ")
        return data if data.dtype == wanted else cast(data, dtype=wanted)
    return Tensor(as_array(data, dtype, name="as_tensor"))


@public("Tensor")
def new_tensor(x: Tensor, data: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """`tensor` with the dtype of ``x`` unless ``dtype`` says otherwise."""
    return tensor(data, dtype_of("new_tensor", dtype, device, x.dtype), requires_grad)


@public("Tensor")
def new_zeros(x: Tensor, *size: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """`zeros` in the dtype of ``x`` unless ``dtype`` says otherwise. Sizes come as integers or as one sequence."""
    return _filled(
        "new_zeros", shape_of(size, "new_zeros"), 0, dtype_of("new_zeros", dtype, device, x.dtype), requires_grad
    )


@public("Tensor")
def new_ones(x: Tensor, *size: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """`ones` in the dtype of ``x`` unless ``dtype`` says otherwise. Sizes come as integers or as one sequence."""
    return _filled(
        "new_ones", shape_of(size, "new_ones"), 1, dtype_of("new_ones", dtype, device, x.dtype), requires_grad
    )


@public("Tensor")
def new_empty(x: Tensor, *size: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """`empty` in the dtype of ``x`` unless ``dtype`` says otherwise. Sizes come as integers or as one sequence."""
    shape, wanted = shape_of(size, "new_empty"), dtype_of("new_empty", dtype, device, x.dtype)
    return leaf("new_empty", shape, lambda: np.empty(shape, wanted), requires_grad)


@public("Tensor")
def new_full(
    x: Tensor, size: Any, fill_value: float | int | bool, dtype: Any = None, requires_grad: bool = False,
    device: Any = None,
) -> Tensor:  # fmt: skip
    """`full` in the dtype of ``x`` unless ``dtype`` says otherwise.

    Raises:
        OverflowError: the dtype cannot hold ``fill_value``.
    """
    value, wanted = number("new_full", "fill_value", fill_value), dtype_of("new_full", dtype, device, x.dtype)
    return _filled("new_full", shape_of((size,), "new_full"), value, wanted, requires_grad)
