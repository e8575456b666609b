"""Writes in place: ``x[...] = values``, ``add_``, ``fill_`` and their like.

If the graph is not recorded, a write only changes the array and its version. If it is, the new values are the result of
an op like any other: the tensor keeps its memory and takes the origin of the result, so that gradients flow through the
write.

Unlike PyTorch, a recorded write is refused while another tensor uses the same memory (a view of the tensor, or the
tensor it is a view of), since the origin of that tensor would be wrong after the write. PyTorch rewrites the graph of
the views instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_attn.dtypes import category, check_fits, promote
from tinygrad_attn.modes import is_grad_enabled, no_grad
from tinygrad_attn.op import Op, cast
from tinygrad_attn.ops.finding import index_fill
from tinygrad_attn.ops.indexing import index_add, masked_fill, scatter, scatter_add
from tinygrad_attn.ops.pointwise import add, clamp, mul, pow, sub, true_divide
from tinygrad_attn.ops.subscript import assignable, with_item, write_item
from tinygrad_attn.public import public
from tinygrad_attn.random import generator
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import as_array, as_number, real_number

__all__ = [
    "add_", "clamp_", "copy_", "div_", "fill_", "index_add_", "index_fill_", "masked_fill_", "mul_", "normal_", "pow_",
    "scatter_", "scatter_add_", "setitem", "sub_", "uniform_", "zero_",
]  # fmt: skip

Array = np.ndarray[Any, Any]


# -- the mechanism -----------------------------------------------------------------------------------------------------


def write(
    name: str,
    x: Tensor,
    operands: tuple[Any, ...],
    compute: Callable[[Tensor], Tensor],
    direct: Callable[[Array], None] | None = None,
) -> Tensor:
    """Replace the values of ``x`` by those of ``compute(x)``.

    Args:
        name: the name of the writing op, for messages.
        x: the tensor to write to.
        operands: the other tensors that ``compute`` reads.
        compute: gives the result, of ``x``'s shape and dtype, as a new tensor.
        direct: does the same to ``x``'s array in place, for writes that are not recorded.

    Returns:
        ``x``.

    Raises:
        RuntimeError: ``x`` is a leaf that requires a gradient, or shares memory with another live tensor, while the
            write is recorded; or it is an expanded tensor, many of whose elements are one.
        ValueError: the result has another shape than ``x``.
    """
    if not x.array.flags.writeable:
        raise RuntimeError(
            f"{name}: the memory of this tensor of shape {x.shape} is read-only, or one place of it serves many "
            "elements (an expanded tensor); clone() it first"
        )
    differentiable = x.is_floating_point() and any(isinstance(t, Tensor) and t.requires_grad for t in (x, *operands))
    if differentiable and is_grad_enabled():
        _check_recordable(name, x)
        # The op may save its operand, so it gets a copy of the old values.
        before = Tensor(x.array.copy(), x.requires_grad)
        before.origin = x.origin
        result = compute(before)
        _put(name, x, result)
        retained = x.retains_grad
        if retained and x.node is not None:
            x.node.watched(x.output_index).retained = None
        x.origin, x._requires_grad = result.origin, result.requires_grad
        if retained:
            x.retain_grad()
    elif direct is not None:
        direct(x.array)
    else:
        with no_grad():
            _put(name, x, compute(x))
    x._written_by(name)
    return x


def _check_recordable(name: str, x: Tensor) -> None:
    if x.is_leaf and x.requires_grad:
        raise RuntimeError(
            f"{name}: a leaf tensor that requires a gradient, here of shape {x.shape}, cannot be written to while the "
            "graph is recorded; do it inside no_grad(), or use the op that returns a new tensor"
        )
    # A detached tensor has the very same array, and no gradient that could go wrong; a copy.copy() has one.
    others = [t for t in x.storage.tensors or () if t is not x and (t.array is not x.array or t.requires_grad)]
    if others:
        raise RuntimeError(
            f"{name}: the tensor of shape {x.shape} shares its memory with another one of shape {others[0].shape} (a "
            "view of it, or what it is a view of), whose gradient would not see this write; clone() it first, as in "
            "x[:2] = x[:2].clone() + 1, or use the op that returns a new tensor"
        )


def _put(name: str, x: Tensor, result: Tensor) -> None:
    if result.shape != x.shape:
        raise ValueError(f"{name}: the result has shape {result.shape}, which does not fit into the tensor's {x.shape}")
    if result.dtype != x.dtype:
        raise TypeError(f"{name}: the result is {result.dtype}, which does not fit a tensor of {x.dtype}")
    np.copyto(x.array, result.array)


# -- arithmetic --------------------------------------------------------------------------------------------------------


def _arithmetic(name: str, op: Op, ufunc: Any, x: Tensor, other: Any) -> Tensor:
    """``x = op(x, other)`` in place; ``other`` broadcasts to ``x``."""
    other = assignable(f"{name}: other", other, x.dtype)
    common = promote([x, other], op.floating)
    if common is not None and category(common) > category(x.dtype):
        raise TypeError(
            f"{name}: the result is {common} and does not fit a tensor of {x.dtype}; use the op that returns another"
        )
    if isinstance(other, Tensor):
        _check_broadcasts(name, x, other)
    else:
        check_fits(name, other, x.dtype)

    def compute(before: Tensor) -> Tensor:
        result = op(before, other)
        return result if result.dtype == x.dtype else cast(result, dtype=x.dtype)

    def direct(array: Array) -> None:
        try:
            with np.errstate(all="ignore"):
                ufunc(array, other.array if isinstance(other, Tensor) else other, out=array, casting="same_kind")
        except TypeError:  # NumPy's, for a dtype without such arithmetic: True ** True is an int8 there
            raise TypeError(f"{name}: is not defined for a tensor of {x.dtype}; convert it first") from None

    # Other integers are added as those of the wider dtype, and the result must fit.
    narrowing = isinstance(other, Tensor) and x.dtype.kind in "iu" and other.dtype != x.dtype
    return write(name, x, (other,), compute, None if narrowing else direct)


def _check_broadcasts(name: str, x: Tensor, other: Tensor) -> None:
    try:
        np.broadcast_to(other.array, x.shape)
    except ValueError:
        raise ValueError(
            f"{name}: other of shape {other.shape} does not broadcast to the shape {x.shape} of the tensor to write to"
        ) from None


@public("Tensor", "Tensor.__iadd__")
def add_(x: Tensor, other: Any) -> Tensor:
    """``x += other``; ``other`` broadcasts to ``x`` and is converted to its dtype.

    Raises:
        RuntimeError: as for `write`.
        ValueError: ``other`` does not broadcast to ``x``.
        TypeError: the sum has a higher category than ``x``: floats for integers, integers for bools.
    """
    return _arithmetic("add_", add, np.add, x, other)


@public("Tensor", "Tensor.__isub__")
def sub_(x: Tensor, other: Any) -> Tensor:
    """``x -= other``; errors as `add_`."""
    return _arithmetic("sub_", sub, np.subtract, x, other)


@public("Tensor", "Tensor.__imul__")
def mul_(x: Tensor, other: Any) -> Tensor:
    """``x *= other``; errors as `add_`."""
    return _arithmetic("mul_", mul, np.multiply, x, other)


@public("Tensor", "Tensor.__itruediv__")
def div_(x: Tensor, other: Any) -> Tensor:
    """``x /= other``; errors as `add_`."""
    return _arithmetic("div_", true_divide, np.true_divide, x, other)


@public("Tensor", "Tensor.__ipow__")
def pow_(x: Tensor, other: Any) -> Tensor:
    """``x **= other``; errors as `add_`."""
    return _arithmetic("pow_", pow, np.power, x, other)


@public("Tensor", "Tensor.clip_")
def clamp_(x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """Keep the elements of ``x`` between the numbers ``min`` and ``max``.

    Raises:
        RuntimeError: as for `write`.
        ValueError: neither bound is given.
        TypeError: a bound is not a number, or is a float for integers.
    """
    min, max = as_number("clamp_: min", min), as_number("clamp_: max", max)
    for bound in (min, max):
        if isinstance(bound, float) and not x.is_floating_point():
            raise TypeError(f"clamp_: the bound {bound} is a float and the tensor holds {x.dtype}; use clamp()")
    return write("clamp_", x, (), lambda before: clamp(before, min=min, max=max))


# -- assignment --------------------------------------------------------------------------------------------------------


def _assign(name: str, x: Tensor, index: Any, values: Any) -> Tensor:
    return write(
        name,
        x,
        (values,),
        compute=lambda before: with_item(name, before, index, values),
        direct=lambda array: write_item(name, array, index, values),
    )


@public("Tensor.__setitem__")
def setitem(x: Tensor, index: Any, values: Any) -> None:
    """``x[index] = values``; ``values`` broadcasts to ``x[index]`` and is converted to ``x``'s dtype.

    Of several values for one element the last stays, and only it gets a gradient.

    Raises:
        RuntimeError: as for `write`.
        IndexError: too many indices, one out of range, a mask of another shape, or arrays that don't broadcast.
        ValueError: ``values`` of a shape that does not broadcast, or a slice with a step below 1.
        TypeError: a tensor of floats for integers at index arrays or a mask.
    """
    _assign("setitem", x, index, values)


@public("Tensor")
def fill_(x: Tensor, value: Any) -> Tensor:
    """Set all elements of ``x`` to a number or 0-d tensor, converted to ``x``'s dtype.

    Raises:
        RuntimeError: as for `write`.
        ValueError: ``value`` has axes.
    """
    value = assignable("fill_", value, x.dtype)
    if isinstance(value, Tensor) and value.ndim:
        raise ValueError(f"fill_: value must be a number or a 0-d tensor, its shape is {value.shape}; use copy_()")
    return _assign("fill_", x, Ellipsis, value)


@public("Tensor")
def zero_(x: Tensor) -> Tensor:
    """Set all elements of ``x`` to 0.

    Raises:
        RuntimeError: as for `write`.
    """
    return _assign("zero_", x, Ellipsis, 0)


@public("Tensor")
def copy_(x: Tensor, src: Any) -> Tensor:
    """Set ``x`` to ``src``, which broadcasts to it and is converted to its dtype.

    Raises:
        RuntimeError: as for `write`.
        ValueError: ``src`` does not broadcast to ``x``.
    """
    return _assign("copy_", x, Ellipsis, src)


# -- at an index, by a mask --------------------------------------------------------------------------------------------


@public("Tensor")
def masked_fill_(x: Tensor, mask: Any, value: Any) -> Tensor:
    """Set the elements of ``x`` where the bool ``mask``, broadcast, holds to a number or 0-d tensor.

    Raises:
        RuntimeError: as for `write`.
        TypeError: ``mask`` is not bool.
        ValueError: ``mask`` does not broadcast to ``x``, or ``value`` has axes.
    """
    return write("masked_fill_", x, (value,), lambda before: masked_fill(before, mask, value))


@public("Tensor")
def index_add_(x: Tensor, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Tensor:
    """Add ``alpha`` times the slices of ``source`` along ``dim`` to those of ``x`` at the positions ``index``.

    Raises:
        RuntimeError: as for `write`.
        IndexError, ValueError, TypeError: as for `index_add`; TypeError also for a ``source`` of another dtype.
    """
    _check_dtype("index_add_", x, "source", source)
    return write("index_add_", x, (source,), lambda before: index_add(before, dim, index, source, alpha=alpha))


@public("Tensor")
def scatter_add_(x: Tensor, dim: int, index: Any, src: Any) -> Tensor:
    """Add the elements of ``src`` to ``x``, each to its line along ``dim`` at the position in ``index``.

    Raises:
        RuntimeError: as for `write`.
        IndexError, ValueError, TypeError: as for `scatter_add`; TypeError also for a ``src`` of another dtype.
    """
    _check_dtype("scatter_add_", x, "src", src)
    return write("scatter_add_", x, (src,), lambda before: scatter_add(before, dim, index, src))


@public("Tensor")
def scatter_(x: Tensor, dim: int, index: Any, src: Any = None, *, value: Any = None) -> Tensor:
    """Write the elements of ``src``, or one number, to ``x``: each to its line along ``dim``, where ``index`` says.

    Raises:
        RuntimeError: as for `write`.
        IndexError, ValueError, TypeError: as for `scatter`; TypeError also for a ``src`` of another dtype, or without
            any.
    """
    src = as_number("scatter_: value", value) if src is None else src
    if src is None:
        raise TypeError("scatter_: expected src, a tensor or a number")
    if not isinstance(src, (int, float)):
        _check_dtype("scatter_", x, "src", src)
    else:
        check_fits("scatter_", src, x.dtype)
    return write("scatter_", x, (src,), lambda before: cast(scatter(before, dim, index, src), dtype=x.dtype))


@public("Tensor")
def index_fill_(x: Tensor, dim: int, index: Any, value: Any) -> Tensor:
    """Set the slices of ``x`` along ``dim`` at the positions ``index`` to a number or 0-d tensor.

    Raises:
        RuntimeError: as for `write`.
        IndexError, ValueError, TypeError: as for `index_fill`.
    """
    return write("index_fill_", x, (value,), lambda before: index_fill(before, dim, index, value))


def _check_dtype(name: str, x: Tensor, operand: str, values: Any) -> None:
    dtype = values.dtype if isinstance(values, Tensor) else as_array(values, name=f"{name}: {operand}").dtype
    if dtype != x.dtype:
        raise TypeError(f"{name}: {operand} must have the tensor's dtype {x.dtype}, it is {dtype}")


# -- random numbers ----------------------------------------------------------------------------------------------------


@public("Tensor")
def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fill ``x`` with normal numbers of this mean and standard deviation, from the package's generator.

    Raises:
        RuntimeError: as for `write`.
        TypeError: ``x`` does not hold floats, or a number is none.
        ValueError: a negative ``std``.
    """
    centre, spread = real_number("normal_", "mean", mean), real_number("normal_", "std", std)
    if not spread >= 0.0:
        raise ValueError(f"normal_: std must be at least 0, got {spread}")
    return _filled("normal_", x, lambda: generator().standard_normal(x.shape, x.dtype) * spread + centre)  # type: ignore[arg-type]


@public("Tensor")
def uniform_(x: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Fill ``x`` with uniform numbers in [a, b), from the package's generator.

    Raises:
        RuntimeError: as for `write`.
        TypeError: ``x`` does not hold floats, or a bound is no number.
        ValueError: ``b`` is less than ``a``.
    """
    low, high = real_number("uniform_", "a", a), real_number("uniform_", "b", b)
    if not low <= high:
        raise ValueError(f"uniform_: a must not be above b, got {low} and {high}")
    return _filled("uniform_", x, lambda: generator().random(x.shape, x.dtype) * (high - low) + low)  # type: ignore[arg-type]


def _filled(name: str, x: Tensor, draw: Callable[[], Array]) -> Tensor:
    if not x.is_floating_point():
        raise TypeError(f"{name}: the tensor must hold floats, it is {x.dtype}")
    return write(name, x, (), lambda before: Tensor(np.asarray(draw(), x.dtype)))
