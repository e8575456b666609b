"""A tensor's memory seen from outside the graph: data, stride, sizes in bytes; and unary plus, which keeps it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.dims import one_dim
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor

__all__ = [
    "data", "element_size", "is_contiguous", "is_floating_point", "is_tensor", "ndimension", "numel", "positive",
    "stride",
]  # fmt: skip


def _data(x: Tensor) -> Tensor:
    """The same memory outside the graph, as `Tensor.detach` gives it; assigned, the elements are copied.

    Unlike in PyTorch, a write through it is a write in place like any other: backward over a value that was saved
    before names it. What is assigned must have the tensor's shape and be convertible to its dtype.
    """
    return x.detach()


def _set_data(x: Tensor, value: Any) -> None:
    if not isinstance(value, (Tensor, np.ndarray)):
        raise TypeError(f"data: a tensor must be assigned, got {shown(value)}")
    array = value.array if isinstance(value, Tensor) else value
    if array is x.array:
        return
    if array.shape != x.shape or not np.can_cast(array.dtype, x.dtype, "same_kind"):
        raise ValueError(
            f"data: what is assigned must have shape {x.shape} and be {x.dtype}, it has {array.shape} and is "
            f"{array.dtype}; a new tensor can have others"
        )
    x.array[...] = array
    x._written_by("an assignment to data")


data = property(_data, _set_data)
public("Tensor.data")(data)


@public("Tensor")
def stride(x: Tensor, dim: int | None = None) -> Any:
    """How many elements apart neighbours along each axis are in memory, or those along ``dim``.

    Raises:
        IndexError: an axis that is not there.
    """
    steps = tuple([step // x.array.itemsize for step in x.array.strides])
    return steps if dim is None else steps[one_dim("stride", dim, x.ndim)]


@public("ta", "Tensor", "Tensor.__pos__")
def positive(input: Any) -> Tensor:
    """``input`` itself.

    Raises:
        TypeError: it is bool.
    """
    input = as_tensor(input)
    if input.dtype == np.bool_:
        raise TypeError("positive: input must hold numbers, it is bool")
    return input


@public("ta")
def is_tensor(obj: Any) -> bool:
    """Whether it is a `Tensor`."""
    return isinstance(obj, Tensor)


@public("ta")
def is_floating_point(input: Any) -> bool:
    """Whether the elements are float32 or float64."""
    return as_tensor(input, "is_floating_point").is_floating_point()


@public("ta", "Tensor.nelement")
def numel(input: Any) -> int:
    """The number of elements."""
    return as_tensor(input, "numel").numel()


@public("Tensor")
def ndimension(x: Tensor) -> int:
    """The number of axes."""
    return x.ndim


@public("Tensor")
def is_contiguous(x: Tensor) -> bool:
    """Whether the elements are in row-major order in memory, without gaps."""
    return x.array.flags.c_contiguous


@public("Tensor")
def element_size(x: Tensor) -> int:
    """The bytes of one element."""
    return x.array.itemsize


def _bytes(x: Tensor) -> int:
    """The bytes of all elements."""
    return x.array.nbytes


def _device(x: Tensor) -> str:
    """ "cpu": where all tensors are."""
    return "cpu"


public("Tensor.nbytes")(property(_bytes))
public("Tensor.itemsize")(property(element_size))
public("Tensor.device")(property(_device))
