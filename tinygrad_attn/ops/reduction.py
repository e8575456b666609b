"""Reductions over axes: sum, mean, amax, logsumexp, any, vector_norm, …

``dim`` is one axis, several, or None for all of them, and ``keepdim`` leaves the reduced axes in place with size 1. The
gradient of a result goes to every element that was reduced to it, so rules broadcast it over the reduced axes.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from tinygrad_attn.dtypes import check_dtype
from tinygrad_attn.kernels.sums import sum_over
from tinygrad_attn.op import cast, op
from tinygrad_attn.ops.arguments import only_floats
from tinygrad_attn.ops.comparison import eq, logical_or
from tinygrad_attn.ops.dims import several_dims
from tinygrad_attn.ops.pointwise import abs, exp, pow, sign, where
from tinygrad_attn.ops.quiet import quiet
from tinygrad_attn.ops.shape import expand, reshape
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["all", "amax", "amin", "any", "logsumexp", "mean", "norm", "sum", "sum_to", "vector_norm"]

Array = np.ndarray[Any, Any]
Dim = int | Sequence[int] | None
TensorOrArray = TypeVar("TensorOrArray", Tensor, Array)


# -- arguments, and gradients in the operand's shape -------------------------------------------------------------------


def with_axes(z: TensorOrArray, shape: tuple[int, ...], dim: Dim) -> TensorOrArray:
    """A result of reducing ``shape`` over ``dim``, or its gradient, with the reduced axes in place with size 1."""
    dims = several_dims("reduce", dim, len(shape))
    kept = tuple([1 if d in dims else size for d, size in enumerate(shape)])
    if z.shape == kept:
        return z
    return reshape(z, kept) if isinstance(z, Tensor) else z.reshape(kept)


def over(ufunc: np.ufunc, x: Array, dims: int | tuple[int, ...], keepdim: bool, dtype: Any = None) -> Any:
    """``x`` reduced by ``ufunc`` over ``dims``."""
    if ufunc is np.add and isinstance(dims, tuple):
        return sum_over(x, dims, keepdim, dtype)
    return ufunc.reduce(x, axis=dims, dtype=dtype, keepdims=keepdim)


def count(shape: tuple[int, ...], dim: Dim) -> int:
    """How many elements of ``shape`` are reduced to one element of the result."""
    return math.prod([shape[d] for d in several_dims("reduce", dim, len(shape))])


def total_dtype(x: Array) -> Any:
    """The dtype of a sum or product of ``x``: bool and integers become int64, except uint64."""
    return x.dtype if x.dtype.kind == "f" or x.dtype == np.uint64 else np.int64


def not_empty(name: str, x: Array, dims: Sequence[int]) -> None:
    """Raise a ValueError if one of ``dims`` has no elements."""
    for d in dims:
        if x.shape[d] == 0:
            raise ValueError(
                f"{name}: axis {d} has size 0 in a tensor of shape {x.shape}, so there is nothing to choose"
            )


def converted(input: Any, dtype: Any) -> Any:
    """``input`` in ``dtype``, if one is given."""
    return input if dtype is None else cast(input, dtype=check_dtype(dtype))


def draw_dim(draw: Draw, ndim: int) -> Dim:
    """None, one axis, or several, as they may be given for a tensor of ``ndim`` axes."""
    reach = builtins.max(ndim, 1)
    kind = draw.integer(0, 2)
    if kind == 2:
        return tuple(d - draw.choice([0, ndim]) for d in range(ndim) if draw.boolean())
    return draw.integer(-reach, reach - 1) if kind else None


def draw_distinct(draw: Draw, shape: tuple[int, ...], low: float = -2.0) -> Array:
    """Floats from ``low`` up, so far apart that a finite difference does not change their order."""
    size = math.prod(shape)
    order = np.random.default_rng(draw.integer(0, 2**32 - 1)).permutation(size).reshape(shape)
    return draw.layout(np.asarray(low + 0.1 * order + draw.floats(shape, 0.0, 0.05)))


def _samples(draw: Draw) -> Sample:
    shape = draw.shape()
    return Sample((draw.floats(shape),), {"dim": draw_dim(draw, len(shape)), "keepdim": draw.boolean()})


def distinct_samples(draw: Draw) -> Sample:
    """A reduction of at least one element, no two of which are nearly equal."""
    shape = draw.shape((0, 3), (1, 3))
    return Sample((draw_distinct(draw, shape),), {"dim": draw_dim(draw, len(shape)), "keepdim": draw.boolean()})


_matrix = np.ones((2, 3))
dim_errors = [
    ErrorSample((_matrix,), {"dim": 2}, IndexError, "dim 2 is out of range for a tensor with 2 axes"),
    ErrorSample((_matrix,), {"dim": (0, -2)}, ValueError, "twice"),
    ErrorSample((_matrix,), {"dim": (0.5,)}, TypeError, "dim must be an integer, got 0.5"),
    ErrorSample((_matrix,), {"dim": 0, "keep": True}, TypeError, "keep"),
]
one_dim_errors = [
    ErrorSample((_matrix,), {"dim": -3}, IndexError, "dim -3 is out of range for a tensor with 2 axes"),
    ErrorSample((_matrix,), {"dim": (0, 1)}, TypeError, "dim must be an integer"),
]
integers = ErrorSample((np.ones((2, 3), int),), {"dim": 0}, TypeError, "input must be float32 or float64, it is int64")
no_rows = ErrorSample((np.ones((0, 3)),), {"dim": 0}, ValueError, "axis 0 has size 0")


# -- sums --------------------------------------------------------------------------------------------------------------


def _sum_to_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    return Sample((draw.floats(shape),), {"shape": draw.broadcastable(shape)})


@op(r"z = \textstyle\sum_{\text{broadcast axes}} x", samples=_sum_to_samples)
def sum_to(x: Array, *, shape: tuple[int, ...]) -> Array:
    """``x`` summed over the axes along which ``shape`` broadcasts to its own: the gradient of a broadcast."""
    x = x if x.dtype.kind == "f" else x.astype(total_dtype(x), copy=False)
    lead = x.ndim - len(shape)
    stretched = tuple(i + lead for i, size in enumerate(shape) if size == 1 and x.shape[i + lead] != 1)
    try:
        return sum_over(x, tuple(range(lead)) + stretched, keepdims=True).reshape(shape)
    except ValueError:
        raise ValueError(f"sum_to: shape {tuple(shape)} does not broadcast to that of x, {x.shape}") from None


sum_to.vjp("x", r"\bar z \text{, repeated}", lambda g, shapes: expand(g, shape=shapes[0]))


@op(r"z = \textstyle\sum_i x_i", samples=_samples, errors=dim_errors)
def _sum(input: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
    """`sum` in the dtype of ``input``, or in int64."""
    return over(np.add, input, several_dims("sum", dim, input.ndim), keepdim, total_dtype(input))


_sum.vjp(
    "input",
    r"\bar x_i = \bar z",
    lambda g, shapes, dim: expand(with_axes(g, shapes[0], dim), shape=shapes[0]),
    kernel=lambda g, shapes, dim: np.broadcast_to(with_axes(g, shapes[0], dim), shapes[0]),
)


@public("ta", "Tensor")
def sum(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over ``dim``; bool and integers give int64, an empty axis gives 0.

    Args:
        input: of any shape and dtype.
        dim: an axis, several, or None for all.
        keepdim: leave the reduced axes in place with size 1.
        dtype: convert ``input`` to it first.

    Raises:
        IndexError: an axis that is not there.
        ValueError: an axis named twice.
    """
    return _sum(converted(input, dtype), dim=dim, keepdim=keepdim)


@op(r"z = \tfrac1n \textstyle\sum_i x_i", samples=_samples, errors=[*dim_errors, integers], symbols={"n": "shapes"})
@quiet
def _mean(input: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
    """`mean` in the dtype of ``input``."""
    only_floats("mean", input, "pass dtype=, or convert it")
    total = over(np.add, input, several_dims("mean", dim, input.ndim), keepdim)
    return total / count(input.shape, dim)


def _equal_parts(g: Any, shape: tuple[int, ...], dim: Dim) -> Any:
    # An empty input has no elements to receive a gradient, so any divisor but 0 will do.
    return with_axes(g / builtins.max(count(shape, dim), 1), shape, dim)


_mean.vjp(
    "input",
    r"\bar x_i = \bar z / n",
    lambda g, shapes, dim: expand(_equal_parts(g, shapes[0], dim), shape=shapes[0]),
    kernel=lambda g, shapes, dim: np.broadcast_to(_equal_parts(g, shapes[0], dim), shapes[0]),
)


@public("ta", "Tensor")
def mean(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over ``dim``; nan over an empty axis.

    Args:
        input: of any shape, float32 or float64 unless ``dtype`` is given.
        dim: an axis, several, or None for all.
        keepdim: leave the reduced axes in place with size 1.
        dtype: convert ``input`` to it first.

    Raises:
        TypeError: integers or bools.
        IndexError: an axis that is not there.
        ValueError: an axis named twice.
    """
    return _mean(converted(input, dtype), dim=dim, keepdim=keepdim)


@public("ta", "Tensor")
@op(r"z = \ln \textstyle\sum_i e^{x_i}", samples=_samples, errors=dim_errors, floating=True)
@quiet
def logsumexp(input: Array, /, dim: Dim, keepdim: bool = False) -> Array:
    """The logarithm of a sum of exponentials over ``dim``, without overflow.

    A row of -inf alone, or an empty one, gives -inf: the logarithm of 0. As in PyTorch the gradient of such a row is
    nan, since x - z is -inf minus -inf.

    Args:
        input: of any shape; integers become float32.
        dim: an axis, or several.
        keepdim: leave the reduced axes in place with size 1.

    Raises:
        IndexError: an axis that is not there.
        ValueError: an axis named twice.
    """
    dims = several_dims("logsumexp", dim, input.ndim)
    # e^(x - m) cannot overflow if m is the largest x; an infinite m would make it nan.
    largest = np.maximum.reduce(input, axis=dims, keepdims=True, initial=-np.inf)
    largest = np.where(np.isfinite(largest), largest, 0)
    z = np.log(over(np.add, np.exp(input - largest), dims, keepdim))
    return z + largest.reshape(np.shape(z))


logsumexp.vjp(
    "input",
    r"\bar x_i = \bar z\,e^{x_i - z}",
    lambda g, z, input, dim: with_axes(g, input.shape, dim) * exp(input - with_axes(z, input.shape, dim)),
    kernel=lambda g, z, input, dim: with_axes(g, input.shape, dim) * np.exp(input - with_axes(z, input.shape, dim)),
)

# -- extremes ----------------------------------------------------------------------------------------------------------


def _shared(g: Any, z: Any, input: Any, dim: Dim) -> Any:
    """``g``, in equal parts, to the elements that equal the result."""
    ties = cast(eq(input, with_axes(z, input.shape, dim)), dtype=input.dtype)
    return with_axes(g, input.shape, dim) * (ties / _sum(ties, dim=dim, keepdim=True))


@public("ta", "Tensor")
@op(r"z = \max_i x_i", samples=distinct_samples, errors=[*dim_errors, no_rows])
def amax(input: Array, /, dim: Dim = (), keepdim: bool = False) -> Array:
    """The largest element over ``dim``; equal ones share the gradient. One nan makes result and gradient nan.

    Args:
        input: of any shape and dtype.
        dim: an axis, several, or, left out, all.
        keepdim: leave the reduced axes in place with size 1.

    Raises:
        ValueError: an axis named twice, or one without elements.
        IndexError: an axis that is not there.
    """
    dims = several_dims("amax", dim, input.ndim)
    not_empty("amax", input, dims)
    return over(np.maximum, input, dims, keepdim)


@public("ta", "Tensor")
@op(r"z = \min_i x_i", samples=distinct_samples, errors=[*dim_errors, no_rows])
def amin(input: Array, /, dim: Dim = (), keepdim: bool = False) -> Array:
    """The smallest element over ``dim``; arguments, errors, ties and nan as with `amax`."""
    dims = several_dims("amin", dim, input.ndim)
    not_empty("amin", input, dims)
    return over(np.minimum, input, dims, keepdim)


amax.vjp("input", r"\bar x_i = \bar z\,[x_i = z] / \textstyle\sum_j [x_j = z]", _shared)
amin.vjp("input", r"\bar x_i = \bar z\,[x_i = z] / \textstyle\sum_j [x_j = z]", _shared)


def _mask_samples(draw: Draw) -> Sample:
    sample = _samples(draw)
    return Sample((draw.mask(sample.operands[0].shape),), sample.options)


def _logical_dims(name: str, dim: Dim, ndim: int) -> tuple[int, ...]:
    """`several_dims`, but an empty tuple stands for no axis: PyTorch makes this exception for any() and all()."""
    return () if isinstance(dim, tuple) and not dim else several_dims(name, dim, ndim)


@public("ta", "Tensor")
@op(r"z = \textstyle\bigvee_i\,[x_i \ne 0]", samples=_mask_samples, errors=dim_errors)
def any(input: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
    """Whether an element over ``dim`` is True, or not 0; False if there are none.

    Args:
        input: of any shape and dtype.
        dim: an axis, several, or None for all.
        keepdim: leave the reduced axes in place with size 1.

    Raises:
        IndexError: an axis that is not there.
        ValueError: an axis named twice.
    """
    return over(np.logical_or, input, _logical_dims("any", dim, input.ndim), keepdim)


@public("ta", "Tensor")
@op(r"z = \textstyle\bigwedge_i\,[x_i \ne 0]", samples=_mask_samples, errors=dim_errors)
def all(input: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
    """Whether every element over ``dim`` is True, or not 0; True if there are none. The rest is as with `any`."""
    return over(np.logical_and, input, _logical_dims("all", dim, input.ndim), keepdim)


# -- norms -------------------------------------------------------------------------------------------------------------


def _norm_samples(draw: Draw) -> Sample:
    ord = draw.choice([2, 1, 0, 3, 1.5, 0.5, math.inf, -math.inf, -1])
    shape = draw.shape((0, 3), (0, 3) if 0 <= ord < math.inf else (1, 3))
    # Apart from each other and from 0, where norms have kinks.
    x = draw_distinct(draw, shape, 0.5)
    signed = draw.layout(np.asarray(np.where(draw.mask(shape), x, -x)))
    return Sample((signed,), {"ord": ord, "dim": draw_dim(draw, len(shape)), "keepdim": draw.boolean()})


@op(
    r"z = \left(\textstyle\sum_i |x_i|^p\right)^{1/p}",
    samples=_norm_samples,
    errors=[
        *dim_errors,
        integers,
        ErrorSample((_matrix,), {"ord": "fro"}, TypeError, "ord must be a number, got 'fro'"),
        *[ErrorSample(no_rows.operands, {"dim": 0, "ord": p}, ValueError, "axis 0 has size 0") for p in (-1, math.inf)],
    ],
    symbols={"p": "ord"},
)
@quiet
def _vector_norm(input: Array, /, ord: float = 2, dim: Dim = None, keepdim: bool = False) -> Array:
    """`vector_norm` in the dtype of ``input``."""
    only_floats("vector_norm", input, "pass dtype=, or convert it")
    if ord != ord:
        raise ValueError("vector_norm: ord is nan")
    dims = several_dims("vector_norm", dim, input.ndim)
    if ord < 0 or ord == math.inf:
        not_empty("vector_norm", input, dims)
    if ord == 0:
        return np.asarray(over(np.add, np.not_equal(input, 0), dims, keepdim, np.int64), input.dtype)
    if ord == 1:
        return over(np.add, np.abs(input), dims, keepdim)
    if ord == 2:
        return np.sqrt(over(np.add, np.square(input), dims, keepdim))
    if math.isinf(ord):
        return over(np.maximum if ord > 0 else np.minimum, np.abs(input), dims, keepdim)
    return np.power(over(np.add, np.power(np.abs(input), ord), dims, keepdim), 1.0 / ord)


def _norm_gradient(g: Any, z: Any, input: Any, ord: float, dim: Dim) -> Any:
    g, z = with_axes(g, input.shape, dim), with_axes(z, input.shape, dim)
    if ord == 0:
        return expand(g * 0.0, shape=input.shape)
    if ord == 1:
        return g * sign(input)
    if math.isinf(ord):
        return _shared(g, z, abs(input), dim) * sign(input)
    # A norm of 0 is a kink, where PyTorch takes the gradient 0.
    kink = eq(z, 0.0)
    length = where(kink, 1.0, z)
    if ord == 2:
        return where(kink, 0.0, g / length) * input
    # |0|^(p-1) is infinite for p < 1.
    flat = logical_or(kink, eq(input, 0.0))
    return where(flat, 0.0, g * sign(input) * pow(abs(where(flat, 1.0, input)) / length, ord - 1.0))


_vector_norm.vjp(
    "input", r"\bar x_i = \bar z\,\operatorname{sign}(x_i)\,(|x_i| / z)^{p-1} \text{, 0 where } z = 0", _norm_gradient
)


@public("linalg")
def vector_norm(x: Any, ord: float = 2, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The p-norm over ``dim``, PyTorch's ``linalg.vector_norm``.

    ``ord`` 2 is the Euclidean length, 1 the sum of absolute values, inf and -inf the largest and smallest of them, 0
    the number of elements other than 0. Where the norm is 0, so is its gradient; equal extremes share it.

    Args:
        x: of any shape, float32 or float64 unless ``dtype`` is given.
        ord: p, any real number.
        dim: an axis, several, or None for all.
        keepdim: leave the reduced axes in place with size 1.
        dtype: convert ``x`` to it first.

    Raises:
        TypeError: integers or bools, or an ``ord`` that is not a number.
        IndexError: an axis that is not there.
        ValueError: an axis named twice, or one without elements and an ``ord`` that is negative or inf.
    """
    return _vector_norm(converted(x, dtype), ord=ord, dim=dim, keepdim=keepdim)


@public("ta", "Tensor")
def norm(input: Any, p: Any = "fro", dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """`vector_norm` under its older name; ``p`` may be "fro", for 2. The other errors are those of `vector_norm`.

    Raises:
        NotImplementedError: the nuclear norm.
    """
    if isinstance(p, str) and p == "nuc":
        raise NotImplementedError("norm: the nuclear norm, of singular values, is not supported")
    ord = 2 if p is None or (isinstance(p, str) and p == "fro") else p
    return vector_norm(input, ord, dim, keepdim, dtype=dtype)
