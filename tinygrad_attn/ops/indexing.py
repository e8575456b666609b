"""gather, scatter, index_select and their like: reads and writes by index tensors; masked_fill.

The gradient of an op that reads elements is the op that adds to the same elements (an element that was read twice gets
the sum), and the gradient of adding is reading.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.kernels.sums import add_repeated
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.dims import one_dim
from tinygrad_attn.ops.pointwise import where
from tinygrad_attn.ops.shape import expand, reshape
from tinygrad_attn.ops.subscript import add_at, assignable, in_dtype_of, slice_scatter, survivors, zeros
from tinygrad_attn.ops.subscript_parts import ALL, check_range, counted_from_front
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import as_array

__all__ = ["gather", "index_add", "index_select", "masked_fill", "scatter", "scatter_add", "take_along_dim"]

Array = np.ndarray[Any, Any]


# -- along one axis, one index for each element ------------------------------------------------------------------------


def _check_along(name: str, input: Array, dim: int, index: Array) -> int:
    """``dim`` counted from the front; raises unless ``index`` has as many axes as ``input`` and only ``dim`` longer."""
    axis = one_dim(name, dim, input.ndim)
    if index.ndim != input.ndim:
        raise ValueError(
            f"{name}: index must have as many axes as input, its shape is {index.shape} and input's {input.shape}"
        )
    for d, (size, limit) in enumerate(zip(index.shape, input.shape, strict=True)):
        if d != axis and size > limit:
            raise ValueError(
                f"{name}: index has size {size} at axis {d}, input only {limit}; only along dim {axis} may it be longer"
            )
    check_range(name, index, axis, input.shape[axis] if input.ndim else 1)
    return axis


def _positions(shape: tuple[int, ...], axis: int, index: Array) -> Array:
    """For every element of ``index`` the flat position that it selects in a contiguous array of ``shape``."""
    position = np.zeros(index.shape, np.int64)
    for d, size in enumerate(index.shape):
        along = index if d == axis else np.arange(size).reshape([size if e == d else 1 for e in range(index.ndim)])
        position += along * math.prod(shape[d + 1 :])
    return position


def _gather_samples(draw: Draw) -> Sample:
    shape = draw.shape((0, 3), (1, 3))
    dim = draw.integer(-max(len(shape), 1), max(len(shape), 1) - 1)
    sizes = [draw.integer(0, 4) if d == dim % len(shape) else draw.integer(0, size) for d, size in enumerate(shape)]
    return Sample((draw.floats(shape), dim, draw.integers(tuple(sizes), 0, (shape[dim] if shape else 1) - 1)))


_table = np.ones((2, 3))
_along_errors = [
    ErrorSample((_table, 1, np.array([[3]])), {}, IndexError, "index 3 .* axis 1 of size 3"),
    ErrorSample((_table, 1, np.array([[-1]])), {}, IndexError, "index -1 .* axis 1 of size 3"),
    ErrorSample((_table, 1, np.array([0])), {}, ValueError, "as many axes"),
    ErrorSample((_table, 1, np.zeros((3, 1), np.int64)), {}, ValueError, "size 3 at axis 0"),
    ErrorSample((_table, 1, np.ones((1, 1))), {}, TypeError, "integers"),
    ErrorSample((_table, 2, np.array([[0]])), {}, IndexError, "dim 2"),
]


@public("ta", "Tensor")
@op(r"z_{ij} = x_{i\,\iota_{ij}}", samples=_gather_samples, errors=_along_errors, symbols={r"\iota": "index"})
def gather(input: Array, dim: int, index: Array) -> Array:
    """From every line along ``dim`` the elements that ``index`` selects: z[i][j] = x[i][index[i][j]] with dim 1.

    Args:
        input: ``(..., n, ...)`` with ``n`` at axis ``dim``.
        dim: the axis.
        index: integers from 0 to ``n - 1``, with as many axes as ``input`` and none but ``dim`` longer.

    Returns:
        A tensor of ``index``'s shape.

    Raises:
        IndexError: an index, or ``dim``, out of range.
        ValueError: an ``index`` of an unsuitable shape.
        TypeError: ``index`` does not hold integers.
    """
    axis = _check_along("gather", input, dim, index)
    if input.ndim == 0:
        return input.copy()
    corner = tuple([ALL if d == axis else slice(size) for d, size in enumerate(index.shape)])
    return np.take_along_axis(input[corner], index, axis)


def _gather_gradient(g: Array, dim: int, index: Array, shapes: Any) -> Array:
    gradient = np.zeros(shapes[0], g.dtype)
    axis = dim % max(gradient.ndim, 1)
    add_repeated(gradient.reshape(-1), _positions(gradient.shape, axis, index).reshape(-1), g.reshape(-1))
    return gradient


def _corner(name: str, src: Array, index: Array) -> Array:
    """The leading part of ``src`` that ``index`` uses."""
    if src.ndim != index.ndim or any(size > limit for size, limit in zip(index.shape, src.shape, strict=True)):
        raise ValueError(
            f"{name}: src must be at least as large as index at every axis, "
            f"its shape is {src.shape} and index's {index.shape}"
        )
    corner: tuple[Any, ...] = (*[slice(size) for size in index.shape], Ellipsis)
    return src[corner]


def _scatter_samples(draw: Draw) -> Sample:
    input, dim, index = _gather_samples(draw).operands
    src = tuple(size + draw.choice([0, 0, 1]) for size in index.shape)
    return Sample((input, dim, index, draw.floats(src)))


_scatter_errors = [
    *[ErrorSample((*e.operands, np.ones((3, 1))), {}, e.exception, e.match) for e in _along_errors],
    ErrorSample((_table, 1, np.array([[0, 1]]), np.ones((1, 1))), {}, ValueError, "at least as large"),
]


@public("ta", "Tensor")
@op(
    r"z_{ik} = x_{ik} + \textstyle\sum_{j:\, \iota_{ij} = k} s_{ij}",
    samples=_scatter_samples,
    errors=_scatter_errors,
    symbols={r"\iota": "index", "s": ("src", "index")},
)
def scatter_add(input: Array, dim: int, index: Array, src: Array) -> Array:
    """A copy of ``input`` with every element of ``src`` added to its line along ``dim``, at the position in ``index``.

    Args:
        input: ``(..., n, ...)`` with ``n`` at axis ``dim``.
        dim: the axis.
        index: integers from 0 to ``n - 1``, with as many axes as ``input`` and none but ``dim`` longer;
            they may repeat.
        src: at least as large as ``index`` at every axis; further elements are not used.

    Raises:
        IndexError, ValueError, TypeError: as `gather`; ValueError also for a ``src`` that is too small.
    """
    axis = _check_along("scatter_add", input, dim, index)
    used = _corner("scatter_add", src, index)
    result = input.copy(order="C")
    add_repeated(result.reshape(-1), _positions(input.shape, axis, index).reshape(-1), used.reshape(-1))
    return result


gather.vjp(
    "input",
    r"\bar x_{ik} = \textstyle\sum_{j:\, \iota_{ij} = k} \bar z_{ij}",
    lambda g, dim, index, shapes: scatter_add(zeros(shapes[0], g), dim, index, g),
    kernel=_gather_gradient,
)


def _in_corner(read: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``read`` in the leading corner of zeros of ``shape``."""
    if read.shape == shape:
        return read
    return slice_scatter(zeros(shape, read), read, key=tuple([slice(size) for size in read.shape]))


scatter_add.vjp("input", r"\bar z", lambda g: g, kernel=True)
scatter_add.vjp(
    "src",
    r"\bar s_{ij} = \bar z_{i\,\iota_{ij}}",
    lambda g, dim, index, shapes: _in_corner(gather(g, dim, index), shapes[3]),
)


def _scatter_or_number_samples(draw: Draw) -> Sample:
    sample = _scatter_samples(draw)
    return sample if draw.boolean() else Sample((*sample.operands[:3], 0.5))


@public("ta", "Tensor")
@op(
    r"z = x \text{, with } z_{i\,\iota_{ij}} = s_{ij}",
    samples=_scatter_or_number_samples,
    errors=_scatter_errors,
    symbols={r"\iota": "index", "s": ("src", "index")},
)
def scatter(input: Array, dim: int, index: Array, src: Array) -> Array:
    """A copy of ``input`` with the elements of ``src``, or one number, written where `scatter_add` adds them.

    Of several elements written to one position the last, in ``src``'s row-major order, stays and gets the gradient.

    Raises:
        IndexError, ValueError, TypeError: as `scatter_add`.
    """
    axis = _check_along("scatter", input, dim, index)
    used = _corner("scatter", src, index).reshape(-1) if isinstance(src, np.ndarray) else src
    result = input.copy(order="C")
    result.reshape(-1)[_positions(input.shape, axis, index).reshape(-1)] = used
    return result


def _scatter_gradient(g: Tensor, dim: int, index: Tensor, shapes: Any) -> Tensor:
    positions = _positions(g.shape, dim % max(g.ndim, 1), index.array)
    stays = survivors((g.numel(),), positions, positions.shape)
    return _in_corner(where(stays, gather(g, dim, index), 0.0), shapes[3])


scatter.vjp(
    "input", r"\bar z \text{, with } 0 \text{ at } i\,\iota_{ij}", lambda g, dim, index: scatter(g, dim, index, 0.0)
)
scatter.vjp("src", r"\bar s_{ij} = \bar z_{i\,\iota_{ij}} \text{ where } s_{ij} \text{ stays}", _scatter_gradient)


@public("ta", "Tensor")
def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Tensor:
    """`gather` whose operands broadcast against each other, except along ``dim``, and whose indices may be negative.

    Args:
        input: ``(..., n, ...)``, or any shape if ``dim`` is None.
        indices: integers from ``-n`` to ``n - 1``.
        dim: the axis; None takes both flattened.

    Raises:
        IndexError: an index, or ``dim``, out of range.
        ValueError: operands that don't broadcast.
        TypeError: ``indices`` do not hold integers.
    """
    x = as_tensor(input, "take_along_dim")
    index = indices.array if isinstance(indices, Tensor) else as_array(indices, name="take_along_dim: indices")
    if dim is None:
        x, index, dim = reshape(x, -1), index.reshape(-1), 0
    axis = one_dim("take_along_dim", dim, x.ndim)
    if index.ndim != x.ndim:
        raise ValueError(
            f"take_along_dim: indices must have as many axes as input, "
            f"their shape is {index.shape} and input's {x.shape}"
        )
    if x.ndim == 0:
        x, index = reshape(x, 1), index.reshape(1)
        return reshape(gather(x, 0, Tensor(counted_from_front("take_along_dim", index, 0, 1))), ())
    index = counted_from_front("take_along_dim", index, axis, x.shape[axis])
    for d, (size, other) in enumerate(zip(x.shape, index.shape, strict=True)):
        if d != axis and size != other and 1 not in (size, other):
            raise ValueError(
                f"take_along_dim: shapes do not broadcast: axis {d} has size {size} in input and {other} in indices"
            )
    common = [max(size, other) if min(size, other) else 0 for size, other in zip(x.shape, index.shape, strict=True)]
    common[axis] = x.shape[axis]
    if tuple(common) != x.shape:
        x = expand(x, shape=tuple(common))
    common[axis] = index.shape[axis]
    return gather(x, axis, Tensor(np.broadcast_to(index, common)))


# -- along one axis, one index for each slice --------------------------------------------------------------------------


def _check_select(name: str, input: Array, dim: int, index: Array) -> int:
    axis = one_dim(name, dim, input.ndim)
    if index.ndim > 1:
        raise ValueError(f"{name}: index must have one axis, its shape is {index.shape}")
    check_range(name, index, axis, input.shape[axis] if input.ndim else 1)
    if input.ndim == 0 and index.size != 1:
        raise ValueError(f"{name}: index must be a single 0 for a tensor without axes, its shape is {index.shape}")
    return axis


def _index_select_samples(draw: Draw) -> Sample:
    shape = draw.shape((0, 3), (1, 3))
    dim = draw.integer(-max(len(shape), 1), max(len(shape), 1) - 1)
    count = () if draw.boolean() or not shape else (draw.integer(0, 4),)
    return Sample((draw.floats(shape), dim, draw.integers(count, 0, (shape[dim] if shape else 1) - 1)))


_select_errors = [
    ErrorSample((_table, 1, np.array([3])), {}, IndexError, "index 3 .* axis 1 of size 3"),
    ErrorSample((_table, 0, np.array([-1])), {}, IndexError, "index -1 .* axis 0 of size 2"),
    ErrorSample((_table, 1, np.array([[0]])), {}, ValueError, "one axis"),
    ErrorSample((_table, 1, np.ones(1)), {}, TypeError, "integers"),
]


@public("ta", "Tensor")
@op(r"z_i = x_{\iota_i}", samples=_index_select_samples, errors=_select_errors, symbols={r"\iota": "index"})
def index_select(input: Array, dim: int, index: Array) -> Array:
    """The slices of ``input`` along ``dim`` at the positions ``index``.

    Args:
        input: ``(..., n, ...)`` with ``n`` at axis ``dim``.
        dim: the axis.
        index: ``(m,)`` integers from 0 to ``n - 1``.

    Returns:
        ``(..., m, ...)``.

    Raises:
        IndexError: an index, or ``dim``, out of range.
        ValueError: ``index`` has more than one axis.
        TypeError: ``index`` does not hold integers.
    """
    axis = _check_select("index_select", input, dim, index)
    return np.take(input, index.reshape(-1), axis=axis) if input.ndim else input.copy()


def _add_slices(x: Array | None, shape: tuple[int, ...], axis: int, index: Array, source: Array) -> Array:
    """``x`` (None for zeros) of ``shape`` with the slices of ``source`` along ``axis`` added at ``index``."""
    if not shape:
        return source.reshape(()) + (0 if x is None else x)
    return add_at(x, shape, (*[None] * axis, index.reshape(-1)), source)


def _index_add_samples(draw: Draw) -> Sample:
    input, dim, index = _index_select_samples(draw).operands
    source = [index.size if d == dim % input.ndim else size for d, size in enumerate(input.shape)]
    return Sample((input, dim, index, draw.floats(tuple(source))), {"alpha": draw.choice([1, 0.5, 2])})


@public("ta", "Tensor")
@op(
    r"z_k = x_k + \alpha \textstyle\sum_{i:\, \iota_i = k} s_i",
    samples=_index_add_samples,
    errors=[
        *[ErrorSample((*e.operands, np.ones((1, 1))), {}, e.exception, e.match) for e in _select_errors],
        ErrorSample((_table, 1, np.array([0, 0]), np.ones((2, 3))), {}, ValueError, r"\(2, 3\), it must be \(2, 2\)"),
    ],
    symbols={r"\iota": "index", "s": "source"},
)
def index_add(input: Array, dim: int, index: Array, source: Array, *, alpha: float = 1) -> Array:
    """A copy of ``input`` with ``alpha`` times the slices of ``source`` along ``dim`` added at the positions ``index``.

    Args:
        input: ``(..., n, ...)`` with ``n`` at axis ``dim``.
        dim: the axis.
        index: ``(m,)`` integers from 0 to ``n - 1``; they may repeat.
        source: ``(..., m, ...)``.
        alpha: a factor of ``source``.

    Raises:
        IndexError, ValueError, TypeError: as `index_select`; ValueError also for ``source`` of another shape.
    """
    axis = _check_select("index_add", input, dim, index)
    expected = tuple([index.size if d == axis else size for d, size in enumerate(input.shape)])
    if source.shape != expected:
        raise ValueError(
            f"index_add: source has shape {source.shape}, it must be {expected} "
            f"for input {input.shape} and {index.size} indices"
        )
    if isinstance(alpha, float) and source.dtype.kind != "f":
        raise TypeError(f"index_add: alpha {alpha} is a float and the source holds {source.dtype}; give an integer")
    return _add_slices(
        input, input.shape, axis, index, source if alpha == 1 else np.asarray(source * alpha, source.dtype)
    )


index_select.vjp(
    "input",
    r"\bar x_k = \textstyle\sum_{i:\, \iota_i = k} \bar z_i",
    lambda g, dim, index, shapes: index_add(zeros(shapes[0], g), dim, index, g),
    kernel=lambda g, dim, index, shapes: _add_slices(None, shapes[0], dim % max(len(shapes[0]), 1), index, g),
)
index_add.vjp("input", r"\bar z", lambda g: g, kernel=True)
index_add.vjp(
    "source", r"\bar s_i = \alpha\, \bar z_{\iota_i}", lambda g, dim, index, alpha: index_select(g, dim, index) * alpha
)

# -- by a mask ---------------------------------------------------------------------------------------------------------


def _masked_fill_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    value = draw.choice([0.5, draw.floats(())])
    operands = (draw.floats(shape), draw.mask(draw.broadcastable(shape)))
    return Sample(
        (*(operands if draw.boolean() else (draw.floats(draw.broadcastable(shape)), draw.mask(shape))), value)
    )


@op(
    r"z = v \text{ where } m, \text{ else } x",
    samples=_masked_fill_samples,
    errors=[
        ErrorSample((_table, np.ones((2, 3)), 0.0), {}, TypeError, "mask must be bool"),
        ErrorSample((_table, np.ones(3, bool), np.ones(3)), {}, ValueError, "number or a 0-d tensor"),
        ErrorSample((_table, np.ones(2, bool), 0.0), {}, ValueError, "axis -1 has size 3 in input and 2 in mask"),
    ],
    symbols={"m": "mask", "v": "value"},
)
def _masked_fill(input: Array, mask: Array, value: Array | float) -> Array:
    """``input`` with ``value`` where ``mask`` holds."""
    if mask.dtype != np.bool_:
        raise TypeError(f"masked_fill: mask must be bool, it is {mask.dtype}")
    if np.ndim(value):
        raise ValueError(f"masked_fill: value must be a number or a 0-d tensor, its shape is {np.shape(value)}")
    return np.where(mask, value, input)


_masked_fill.vjp("input", r"0 \text{ where } m, \text{ else } \bar z", lambda g, mask: where(mask, 0.0, g))
_masked_fill.vjp("value", r"\textstyle\sum_{i:\, m_i} \bar z_i", lambda g, mask: where(mask, g, 0.0))


@public("ta", "Tensor")
def masked_fill(input: Tensor, mask: Any, value: Any) -> Tensor:
    """``input`` with ``value`` where the bool ``mask`` holds; the two broadcast.

    ``value`` is a number or a 0-d tensor and takes ``input``'s dtype, as in PyTorch: 1.5 fills integers with 1.

    Raises:
        TypeError: ``mask`` is not bool.
        ValueError: shapes that don't broadcast, or ``value`` has axes.
        OverflowError: ``value`` does not fit ``input``'s dtype.
    """
    input = as_tensor(input, "masked_fill")
    value = assignable("masked_fill", value, input.dtype)
    return _masked_fill(input, mask, in_dtype_of("masked_fill", input, value))
