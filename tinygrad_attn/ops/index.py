"""Elements by their index: subscripts, and PyTorch's gathers and scatters.

A subscript is taken in two steps, as PyTorch does it. Slices, integers, None and the ellipsis come first and give a view
(the op ``slice``); integer arrays and masks then choose elements from the view (the op ``index``). Where one op reads, the
gradient is written back to the same places by its counterpart, which adds where a place was read more than once, and whose
gradient is read again.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.kernels.scatter import scatter_add_rows
from tinygrad_attn.op import cast, op
from tinygrad_attn.ops.dims import one_dim
from tinygrad_attn.ops.elementwise import where
from tinygrad_attn.ops.shape import expand, reshape
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor, as_array

__all__ = [
    "gather", "getitem", "index_add", "index_put", "index_select", "masked_fill", "scatter", "scatter_add", "take_along_dim",
]  # fmt: skip

Array = np.ndarray[Any, Any]
Key = tuple[int | builtins.slice | None, ...]
Indices = tuple[Array | None, ...]

_ALL = builtins.slice(None)


# -- what a subscript means ----------------------------------------------------------------------------------------------


def resolve(index: Any, shape: tuple[int, ...]) -> tuple[Key | None, Indices | None]:
    """The two steps of the subscript ``[index]`` of a tensor of ``shape``.

    Returns:
        The key of the view, one entry for each axis of ``shape`` and each None, or None if it is the whole; and for every
        axis of that view the int64 array that indexes it, counted from the front, or None. The arrays are copies.

    Raises:
        IndexError: too many indices, one out of range, a mask of another shape, arrays that don't broadcast, or something
            that cannot be an index.
        ValueError: a slice with a step below 1.
    """
    items = [_item(item) for item in (index if isinstance(index, tuple) else (index,))]
    taken = sum(_axes_taken(item) for item in items)
    if taken > len(shape):
        raise IndexError(f"getitem: {taken} indices are too many for a tensor with {len(shape)} axes, of shape {shape}")
    ellipses = [position for position, item in enumerate(items) if item is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("getitem: an index can have only one ellipsis")
    rest = [_ALL] * (len(shape) - taken)
    at = ellipses[0] if ellipses else len(items)
    items[at : at + 1] = rest

    key: list[Any] = []
    arrays: list[Array | None] = []
    axis = 0
    for item in items:
        if isinstance(item, int):
            key.append(_within(item, axis, shape))
        elif not isinstance(item, np.ndarray):
            key.append(item)
            arrays.append(None)
        elif item.dtype == np.bool_:
            key.extend([_ALL] * item.ndim if item.ndim else [None])
            arrays.extend(_places(item, axis, shape))
        else:
            key.append(_ALL)
            arrays.append(_counted_from_front("getitem", item, axis, shape[axis]))
        axis += _axes_taken(item)
    chosen = [array for array in arrays if array is not None]
    if not chosen:
        return tuple(key), None
    try:
        np.broadcast_shapes(*[array.shape for array in chosen])
    except ValueError:
        shapes = ", ".join(str(array.shape) for array in chosen)
        raise IndexError(f"getitem: the index arrays must broadcast against each other, their shapes are {shapes}") from None
    whole = len(key) == len(shape) and all(isinstance(k, builtins.slice) and k == _ALL for k in key)
    return None if whole else tuple(key), tuple(arrays)


def _item(item: Any) -> Any:
    """One entry of a subscript as int, slice, None, Ellipsis, or an integer or bool array."""
    if item is None or item is Ellipsis or type(item) is int:
        return item
    if isinstance(item, builtins.slice):
        if item.step is not None and item.step.__index__() < 1:
            raise ValueError(f"getitem: the step of a slice must be 1 or more, got {item.step}; use flip() to reverse an axis")
        return item
    if isinstance(item, Tensor):
        array = item.array
    elif isinstance(item, (np.ndarray, np.generic, bool, list, tuple, range)):
        # An empty list would become an array of floats.
        array = np.asarray(item) if np.size(item) or isinstance(item, np.ndarray) else np.zeros(np.shape(item), np.int64)
    elif hasattr(item, "__index__"):
        return item.__index__()
    else:
        raise IndexError(f"getitem: an index is an integer, a slice, None, ..., or an array of integers or bools, got {type(item).__name__}")
    if array.dtype == np.uint8 or array.dtype.kind not in "biu":
        raise IndexError(f"getitem: an index array must be bool (a mask) or int64, it is {array.dtype}")
    return int(array) if array.ndim == 0 and array.dtype != np.bool_ else array


def _axes_taken(item: Any) -> int:
    """How many axes of the tensor an entry of a subscript uses up."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype == np.bool_ else 1


def _within(item: int, axis: int, shape: tuple[int, ...]) -> int:
    if not -shape[axis] <= item < shape[axis]:
        raise IndexError(f"getitem: index {item} is out of range for axis {axis} of size {shape[axis]}, in a tensor of shape {shape}")
    return item


def _places(mask: Array, axis: int, shape: tuple[int, ...]) -> Sequence[Array]:
    """Where ``mask`` holds, as one index array for each of its axes; a mask without axes keeps or drops a new axis."""
    if mask.ndim == 0:
        return [np.zeros(int(mask), np.int64)]
    covered = shape[axis : axis + mask.ndim]
    if mask.shape != covered:
        raise IndexError(f"getitem: a mask of shape {mask.shape} does not match the axes from {axis} on, whose sizes are {covered}")
    return mask.nonzero()


def _check_range(name: str, index: Array, dim: int, size: int, lowest: int = 0) -> None:
    """Make sure that every index of axis ``dim`` is from ``lowest`` to ``size - 1``."""
    if index.dtype.kind not in "iu":
        raise TypeError(f"{name}: index must hold integers, it is {index.dtype}")
    if index.size:
        least, most = int(index.min()), int(index.max())
        if least < lowest or most >= size:
            wrong = least if least < lowest else most
            raise IndexError(f"{name}: index {wrong} is out of range for axis {dim} of size {size}")


def _counted_from_front(name: str, index: Array, dim: int, size: int) -> Array:
    """A copy of ``index``, whose negative numbers count from the end of axis ``dim``."""
    _check_range(name, index, dim, size, -size)
    copy = index.astype(np.int64)
    return np.asarray(np.where(copy < 0, copy + size, copy)) if index.size and index.dtype.kind == "i" and copy.min() < 0 else copy


# -- subscripts ----------------------------------------------------------------------------------------------------------


def getitem(x: Tensor, index: Any) -> Tensor:
    """``x[index]``: a view where ``index`` has only integers, slices, None and ``...``, else a copy.

    Index arrays broadcast against each other; their common axes replace theirs, in front where the arrays are not side by
    side. Integers count as slices do, not as arrays: ``x[0, :, [1, 2]]`` has the axes of ``x[0][:, [1, 2]]``, as in PyTorch.

    Raises:
        IndexError: too many indices, one out of range, a mask of another shape, or arrays that don't broadcast.
        ValueError: a slice with a step below 1.
    """
    key, indices = resolve(index, x.shape)
    if key is not None:
        x = _slice(x, key=key)
    return x if indices is None else _index(x, indices=indices)


def _draw_key(draw: Draw, shape: tuple[int, ...]) -> Key:
    key: list[Any] = []
    for size in shape:
        kind = draw.integer(0, 3)
        if kind == 3:
            key.append(None)
        key.append(draw.integer(-size, size - 1) if kind == 1 and size else builtins.slice(draw.integer(-size, size), None, kind % 2 + 1))
    return tuple(key)


def _slice_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    return Sample((draw.floats(shape),), {"key": _draw_key(draw, shape)})


@op(r"z_i = x_{a + s i}", samples=_slice_samples)
def _slice(x: Array, *, key: Key) -> Array:
    """The view of ``x`` that a ``key`` of integers, slices and Nones selects."""
    # With the ellipsis NumPy gives a view for a single element too.
    return x[(*key, Ellipsis)]


def _zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return Tensor(np.zeros(shape, like.dtype))


def _slice_gradient(g: Array, shapes: Any, key: Key) -> Array:
    gradient = np.zeros(shapes[0], g.dtype)
    gradient[key] = g
    return gradient


_slice.vjp(
    "x",
    r"\bar x_{a + s i} = \bar z_i \text{, else } 0",
    lambda g, shapes, key: _slice_scatter(_zeros(shapes[0], g), g, key=key),
    kernel=_slice_gradient,
)


def _slice_scatter_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    key = _draw_key(draw, shape)
    target = np.zeros(shape)[key].shape
    return Sample((draw.floats(shape), draw.choice([draw.floats(draw.broadcastable(target)), 0.5])), {"key": key})


@op(
    r"z = x \text{, with } z_{a + s i} = v_i",
    samples=_slice_scatter_samples,
    errors=[ErrorSample((np.ones((2, 3)), np.ones(2)), {"key": (0, _ALL)}, ValueError, r"shape \(2,\) .* \(3,\)")],
)
def _slice_scatter(input: Array, values: Array, *, key: Key) -> Array:
    """A copy of ``input`` in which the view that ``key`` selects holds ``values``, broadcast."""
    result = input.copy()
    view = result[(*key, Ellipsis)]
    view[...] = broadcast_values("slice_scatter", values, view.shape)
    return result


_slice_scatter.vjp("input", r"\bar z \text{, with } 0 \text{ at } a + s i", lambda g, key: _slice_scatter(g, 0.0, key=key))
_slice_scatter.vjp("values", r"\bar v_i = \bar z_{a + s i}", lambda g, key: _slice(g, key=key))


def broadcast_values(name: str, values: Any, shape: tuple[int, ...]) -> Array:
    """``values`` broadcast to ``shape``.

    Raises:
        ValueError: they don't.
    """
    try:
        return np.broadcast_to(values, shape)
    except ValueError:
        raise ValueError(f"{name}: values of shape {np.shape(values)} do not broadcast to {shape}, the shape of what they replace") from None


def _draw_indices(draw: Draw, shape: tuple[int, ...]) -> Indices:
    common = draw.shape((0, 2), (0, 3))
    chosen = [bool(size) and draw.boolean() for size in shape]
    chosen[draw.integer(0, len(shape) - 1)] = True
    return tuple(
        draw.integers(draw.broadcastable(common), 0, size - 1) if take else None for size, take in zip(shape, chosen, strict=True)
    )


def _index_samples(draw: Draw) -> Sample:
    shape = draw.shape((1, 4), (1, 3))
    return Sample((draw.floats(shape),), {"indices": _draw_indices(draw, shape)})


@op(r"z_i = x_{\iota_i}", samples=_index_samples)
def _index(x: Array, *, indices: Indices) -> Array:
    """The elements of ``x`` at ``indices``: for every axis an int64 array, all of which broadcast, or None."""
    arrays = [(axis, array) for axis, array in enumerate(indices) if array is not None]
    if len(arrays) == 1 and x.flags.c_contiguous:
        return np.take(x, arrays[0][1], axis=arrays[0][0])
    return x[_numpy_key(indices)]


def _numpy_key(indices: Indices) -> tuple[Any, ...]:
    return tuple([_ALL if array is None else array for array in indices])


def _add_at(x: Array | None, shape: tuple[int, ...], indices: Indices, values: Array) -> Array:
    """``x`` (None for zeros) of ``shape``, with ``values`` of the shape of ``x[indices]`` added at ``indices``, in their order."""
    axes = [axis for axis, array in enumerate(indices) if array is not None]
    order = axes + [axis for axis in range(len(shape)) if axis not in axes]
    arrays = np.broadcast_arrays(*[indices[axis] for axis in axes])
    indexed = tuple([shape[axis] for axis in axes])
    # The indexed axes go to the front and count as one, so that what is added are rows of a table.
    moved = tuple([shape[axis] for axis in order])
    table = np.zeros(moved, values.dtype) if x is None else np.array(x.transpose(order), order="C")
    row = arrays[0]
    for array, size in zip(arrays[1:], indexed[1:], strict=True):
        row = row * size + array
    # NumPy puts the common axes of the arrays where the first one was if they are side by side, else in front.
    position = axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0
    rows = np.moveaxis(values, range(position, position + row.ndim), range(row.ndim))
    width = math.prod(moved[len(axes) :])
    _add_rows(table.reshape(math.prod(indexed), width), row.reshape(-1), rows.reshape(row.size, width))
    return table.transpose(np.argsort(order))


def _add_rows(table: Array, index: Array, rows: Array) -> None:
    """``table[index[i]] += rows[i]`` for every ``i`` in order, in place; the table is contiguous and has two axes."""
    if table.shape[1] == 1:
        np.add.at(table.reshape(-1), index, rows.reshape(-1))
    elif table.dtype.kind == "f":
        scatter_add_rows(table, index, rows)
    else:
        np.add.at(table, index, rows)


_index.vjp(
    "x",
    r"\bar x_j = \textstyle\sum_{i:\, \iota_i = j} \bar z_i",
    lambda g, shapes, indices: _index_put(_zeros(shapes[0], g), g, indices=indices, accumulate=True),
    kernel=lambda g, shapes, indices: _add_at(None, shapes[0], indices, g),
)


def _index_put_samples(draw: Draw) -> Sample:
    shape = draw.shape((1, 3), (1, 3))
    indices = _draw_indices(draw, shape)
    target = np.zeros(shape)[_numpy_key(indices)].shape
    values = draw.choice([draw.floats(draw.broadcastable(target)), 0.5])
    return Sample((draw.floats(shape), values), {"indices": indices, "accumulate": draw.boolean()})


@op(
    r"z = x \text{, with } z_{\iota_i} = v_i \text{ or, accumulating, } z_j = x_j + \textstyle\sum_{i:\, \iota_i = j} v_i",
    samples=_index_put_samples,
    errors=[ErrorSample((np.ones((2, 3)), np.ones(2)), {"indices": (np.array([0]),)}, ValueError, r"shape \(2,\) .* \(1, 3\)")],
)
def _index_put(input: Array, values: Array, *, indices: Indices, accumulate: bool = False) -> Array:
    """A copy of ``input`` with ``values``, broadcast, put at ``indices`` or added there; of several put at one place the last stays."""
    key = _numpy_key(indices)
    shape = np.broadcast_shapes(*[array.shape for array in indices if array is not None])
    full = broadcast_values("index_put", values, _result_shape(input.shape, indices, shape))
    if accumulate:
        return _add_at(input, input.shape, indices, np.asarray(full, input.dtype))
    result = input.copy()
    result[key] = full
    return result


def _result_shape(shape: tuple[int, ...], indices: Indices, common: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of ``x[indices]`` for ``x`` of ``shape`` and index arrays that broadcast to ``common``."""
    axes = [axis for axis, array in enumerate(indices) if array is not None]
    position = axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0
    rest = [size for axis, size in enumerate(shape) if axis not in axes]
    return (*rest[:position], *common, *rest[position:])


def _survivors(shape: tuple[int, ...], key: Any, written: tuple[int, ...]) -> Tensor:
    """Which of the values written to ``key``, of shape ``written``, are not overwritten by a later one."""
    writers = np.arange(math.prod(written)).reshape(written)
    last = np.zeros(shape, np.int64)
    last[key] = writers
    return Tensor(np.asarray(last[key] == writers))


def _put_gradient(g: Tensor, indices: Indices, accumulate: bool) -> Tensor:
    read = _index(g, indices=indices)
    return read if accumulate else where(_survivors(g.shape, _numpy_key(indices), read.shape), read, 0.0)


_index_put.vjp(
    "input",
    r"\bar z \text{, with } 0 \text{ at } \iota_i \text{ unless accumulating}",
    lambda g, indices, accumulate: g if accumulate else _index_put(g, 0.0, indices=indices),
)
_index_put.vjp("values", r"\bar v_i = \bar z_{\iota_i} \text{ where } v_i \text{ stays}", _put_gradient)


def index_put(input: Tensor, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Tensor:
    """A copy of ``input`` with ``values``, broadcast, put at ``indices``, or added there.

    Args:
        input: a tensor.
        indices: integer arrays or masks for the leading axes, or None to leave an axis alone.
        values: broadcasts to ``input[indices]``, in ``input``'s dtype.
        accumulate: add; else, of several values put at one place, the last stays.

    Raises:
        IndexError: as for `getitem`.
        ValueError: ``values`` of a shape that does not broadcast.
        TypeError: ``values`` of another dtype.
    """
    if isinstance(values, Tensor) and values.dtype != input.dtype:
        raise TypeError(f"index_put: values must have input's dtype {input.dtype}, they have {values.dtype}")
    _, arrays = resolve(tuple(_ALL if i is None else _as_list(i) for i in indices), input.shape)
    if arrays is None:
        raise IndexError("index_put: indices must hold at least one array")
    return _index_put(input, values, indices=arrays, accumulate=accumulate)


def _as_list(index: Any) -> Array:
    """An index as an array that has an axis even if it is a single integer."""
    array = index.array if isinstance(index, Tensor) else np.asarray(index)
    return array if array.dtype == np.bool_ else np.atleast_1d(array)


# -- along one axis, one index for each element --------------------------------------------------------------------------


def _check_along(name: str, input: Array, dim: int, index: Array) -> int:
    """The axis ``dim`` from the front, once ``index`` is known to suit ``input``: as many axes, no other longer."""
    axis = one_dim(name, dim, input.ndim)
    if index.ndim != input.ndim:
        raise ValueError(f"{name}: index must have as many axes as input, its shape is {index.shape} and input's {input.shape}")
    for d, (size, limit) in enumerate(zip(index.shape, input.shape, strict=True)):
        if d != axis and size > limit:
            raise ValueError(f"{name}: index has size {size} at axis {d}, input only {limit} (only along dim {axis} may it be longer)")
    _check_range(name, index, axis, input.shape[axis] if input.ndim else 1)
    return axis


def _positions(shape: tuple[int, ...], axis: int, index: Array) -> Array:
    """For every element of ``index`` the place it names in a contiguous array of ``shape``."""
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


@op(r"z_{ij} = x_{i\,\iota_{ij}}", samples=_gather_samples, errors=_along_errors)
def gather(input: Array, dim: int, index: Array) -> Array:
    """From every line along ``dim`` the elements that ``index`` names.

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
    corner = tuple([_ALL if d == axis else builtins.slice(size) for d, size in enumerate(index.shape)])
    return np.take_along_axis(input[corner], index, axis)


def _gather_gradient(g: Array, dim: int, index: Array, shapes: Any) -> Array:
    gradient = np.zeros(shapes[0], g.dtype)
    axis = dim % max(gradient.ndim, 1)
    np.add.at(gradient.reshape(-1), _positions(gradient.shape, axis, index).reshape(-1), g.reshape(-1))
    return gradient


gather.vjp(
    "input",
    r"\bar x_{ik} = \textstyle\sum_{j:\, \iota_{ij} = k} \bar z_{ij}",
    lambda g, dim, index, shapes: scatter_add(_zeros(shapes[0], g), dim, index, g),
    kernel=_gather_gradient,
)


def _corner(name: str, src: Array, index: Array) -> Array:
    """The leading part of ``src`` that ``index`` uses."""
    if src.ndim != index.ndim or any(size > limit for size, limit in zip(index.shape, src.shape, strict=True)):
        raise ValueError(f"{name}: src must be at least as large as index at every axis, its shape is {src.shape} and index's {index.shape}")
    return src[(*[builtins.slice(size) for size in index.shape], Ellipsis)]


def _scatter_samples(draw: Draw) -> Sample:
    input, dim, index = _gather_samples(draw).operands
    src = tuple(size + draw.choice([0, 0, 1]) for size in index.shape)
    return Sample((input, dim, index, draw.floats(src)))


_scatter_errors = [
    *[ErrorSample((*e.operands, np.ones((3, 1))), {}, e.exception, e.match) for e in _along_errors],
    ErrorSample((_table, 1, np.array([[0, 1]]), np.ones((1, 1))), {}, ValueError, "at least as large"),
]


@op(
    r"z_{ik} = x_{ik} + \textstyle\sum_{j:\, \iota_{ij} = k} s_{ij}",
    samples=_scatter_samples,
    errors=_scatter_errors,
)
def scatter_add(input: Array, dim: int, index: Array, src: Array) -> Array:
    """A copy of ``input`` with the elements of ``src`` added, each to its line along ``dim`` at the place ``index`` names.

    Args:
        input: ``(..., n, ...)`` with ``n`` at axis ``dim``.
        dim: the axis.
        index: integers from 0 to ``n - 1``, with as many axes as ``input`` and none but ``dim`` longer; they may repeat.
        src: at least as large as ``index`` at every axis; what is beyond is not used.

    Raises:
        IndexError, ValueError, TypeError: as `gather`; ValueError also for a ``src`` that is too small.
    """
    axis = _check_along("scatter_add", input, dim, index)
    used = _corner("scatter_add", src, index)
    result = input.copy(order="C")
    np.add.at(result.reshape(-1), _positions(input.shape, axis, index).reshape(-1), used.reshape(-1))
    return result


def _in_corner(read: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``read`` in the leading corner of zeros of ``shape``."""
    if read.shape == shape:
        return read
    return _slice_scatter(_zeros(shape, read), read, key=tuple([builtins.slice(size) for size in read.shape]))


scatter_add.vjp("input", r"\bar z", lambda g: g, kernel=True)
scatter_add.vjp(
    "src", r"\bar s_{ij} = \bar z_{i\,\iota_{ij}}", lambda g, dim, index, shapes: _in_corner(gather(g, dim, index), shapes[3])
)


def _scatter_or_number_samples(draw: Draw) -> Sample:
    sample = _scatter_samples(draw)
    return sample if draw.boolean() else Sample((*sample.operands[:3], 0.5))


@op(
    r"z = x \text{, with } z_{i\,\iota_{ij}} = s_{ij}",
    samples=_scatter_or_number_samples,
    errors=_scatter_errors,
)
def scatter(input: Array, dim: int, index: Array, src: Array) -> Array:
    """A copy of ``input`` with the elements of ``src``, or the number ``src``, written where `scatter_add` would add them.

    Of several elements written to one place the last, in ``src``'s row-major order, stays and gets the gradient.

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
    stays = _survivors((g.numel(),), positions, positions.shape)
    return _in_corner(where(stays, gather(g, dim, index), 0.0), shapes[3])


scatter.vjp("input", r"\bar z \text{, with } 0 \text{ at } i\,\iota_{ij}", lambda g, dim, index: scatter(g, dim, index, 0.0))
scatter.vjp("src", r"\bar s_{ij} = \bar z_{i\,\iota_{ij}} \text{ where } s_{ij} \text{ stays}", _scatter_gradient)


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
    x = input if isinstance(input, Tensor) else Tensor(as_array(input))
    index = indices.array if isinstance(indices, Tensor) else as_array(indices)
    if dim is None:
        x, index, dim = reshape(x, -1), index.reshape(-1), 0
    axis = one_dim("take_along_dim", dim, x.ndim)
    if index.ndim != x.ndim:
        raise ValueError(f"take_along_dim: indices must have as many axes as input, their shape is {index.shape} and input's {x.shape}")
    if x.ndim == 0:
        x, index = reshape(x, 1), index.reshape(1)
        return reshape(gather(x, 0, Tensor(_counted_from_front("take_along_dim", index, 0, 1))), ())
    index = _counted_from_front("take_along_dim", index, axis, x.shape[axis])
    for d, (size, other) in enumerate(zip(x.shape, index.shape, strict=True)):
        if d != axis and size != other and 1 not in (size, other):
            raise ValueError(f"take_along_dim: shapes do not broadcast: axis {d} has size {size} in input and {other} in indices")
    common = [max(size, other) if min(size, other) else 0 for size, other in zip(x.shape, index.shape, strict=True)]
    common[axis] = x.shape[axis]
    if tuple(common) != x.shape:
        x = expand(x, shape=tuple(common))
    common[axis] = index.shape[axis]
    return gather(x, axis, Tensor(np.broadcast_to(index, common)))


# -- along one axis, one index for each slab -----------------------------------------------------------------------------


def _check_select(name: str, input: Array, dim: int, index: Array) -> int:
    axis = one_dim(name, dim, input.ndim)
    if index.ndim > 1:
        raise ValueError(f"{name}: index must have one axis, its shape is {index.shape}")
    _check_range(name, index, axis, input.shape[axis] if input.ndim else 1)
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


@op(r"z_i = x_{\iota_i}", samples=_index_select_samples, errors=_select_errors)
def index_select(input: Array, dim: int, index: Array) -> Array:
    """The slabs of ``input`` along ``dim`` that ``index`` numbers.

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


def _add_slabs(x: Array | None, shape: tuple[int, ...], axis: int, index: Array, source: Array) -> Array:
    """``x`` (None for zeros) of ``shape`` with the slabs of ``source`` along ``axis`` added at ``index``."""
    if not shape:
        return source.reshape(()) + (0 if x is None else x)
    return _add_at(x, shape, (*[None] * axis, index.reshape(-1)), source)


index_select.vjp(
    "input",
    r"\bar x_k = \textstyle\sum_{i:\, \iota_i = k} \bar z_i",
    lambda g, dim, index, shapes: index_add(_zeros(shapes[0], g), dim, index, g),
    kernel=lambda g, dim, index, shapes: _add_slabs(None, shapes[0], dim % max(len(shapes[0]), 1), index, g),
)


def _index_add_samples(draw: Draw) -> Sample:
    input, dim, index = _index_select_samples(draw).operands
    source = [index.size if d == dim % input.ndim else size for d, size in enumerate(input.shape)]
    return Sample((input, dim, index, draw.floats(tuple(source))), {"alpha": draw.choice([1, 0.5, 2])})


@op(
    r"z_k = x_k + \alpha \textstyle\sum_{i:\, \iota_i = k} s_i",
    samples=_index_add_samples,
    errors=[
        *[ErrorSample((*e.operands, np.ones((1, 1))), {}, e.exception, e.match) for e in _select_errors],
        ErrorSample((_table, 1, np.array([0, 0]), np.ones((2, 3))), {}, ValueError, r"\(2, 3\), it must be \(2, 2\)"),
    ],
)
def index_add(input: Array, dim: int, index: Array, source: Array, *, alpha: float = 1) -> Array:
    """A copy of ``input`` with ``alpha`` times the slabs of ``source`` along ``dim`` added where ``index`` says.

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
        raise ValueError(f"index_add: source has shape {source.shape}, it must be {expected} for input {input.shape} and {index.size} indices")
    return _add_slabs(input, input.shape, axis, index, source if alpha == 1 else np.asarray(source * alpha, source.dtype))


index_add.vjp("input", r"\bar z", lambda g: g, kernel=True)
index_add.vjp("source", r"\bar s_i = \alpha\, \bar z_{\iota_i}", lambda g, dim, index, alpha: index_select(g, dim, index) * alpha)

# -- by a mask -----------------------------------------------------------------------------------------------------------


def _masked_fill_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    value = draw.choice([0.5, draw.floats(())])
    operands = (draw.floats(shape), draw.mask(draw.broadcastable(shape)))
    return Sample((*(operands if draw.boolean() else (draw.floats(draw.broadcastable(shape)), draw.mask(shape))), value))


@op(
    r"z = v \text{ where } m, \text{ else } x",
    samples=_masked_fill_samples,
    errors=[
        ErrorSample((_table, np.ones((2, 3)), 0.0), {}, TypeError, "mask must be bool"),
        ErrorSample((_table, np.ones(3, bool), np.ones(3)), {}, ValueError, "number or a 0-d tensor"),
        ErrorSample((_table, np.ones(2, bool), 0.0), {}, ValueError, "axis -1 has size 3 in input and 2 in mask"),
    ],
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


def masked_fill(input: Tensor, mask: Any, value: Any) -> Tensor:
    """``input`` with ``value`` where the bool ``mask`` holds; the two broadcast.

    ``value`` is a number or a 0-d tensor and takes ``input``'s dtype, as in PyTorch: 1.5 fills integers with 1.

    Raises:
        TypeError: ``mask`` is not bool.
        ValueError: shapes that don't broadcast, or ``value`` has axes.
    """
    return _masked_fill(input, mask, in_dtype_of(input, value))


def in_dtype_of(x: Tensor, value: Any) -> Any:
    """``value``, a number or tensor, in the dtype of ``x``."""
    if isinstance(value, Tensor):
        return value if value.dtype == x.dtype else cast(value, dtype=x.dtype)
    return Tensor(np.asarray(value).astype(x.dtype)) if x.dtype.kind != "f" else value
