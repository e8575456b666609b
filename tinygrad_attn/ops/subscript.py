"""Subscripts: ``x[index]`` and ``x[index] = values``.

A subscript is evaluated in two steps, as in PyTorch. Slices, integers, None and the ellipsis come first and give a view
(the op ``slice_view``); integer arrays and masks then choose elements from the view (the op ``index``). Each of the two
has a counterpart that writes, which is its gradient: where an element was read more than once, the gradients are added.
The gradient of the counterpart is the reading op.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.dtypes import check_fits, converted, default_dtype
from tinygrad_attn.kernels.scatter import scatter_add_rows
from tinygrad_attn.kernels.sums import add_repeated
from tinygrad_attn.op import cast, op
from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.pointwise import where
from tinygrad_attn.ops.shape import reshape
from tinygrad_attn.ops.subscript_parts import ALL, Indices, Key, resolve
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import as_array

__all__ = ["getitem", "index_put"]

Array = np.ndarray[Any, Any]


# -- reading -----------------------------------------------------------------------------------------------------------


@public("Tensor.__getitem__")
def getitem(x: Tensor, index: Any) -> Tensor:
    """``x[index]``: a view where ``index`` has only integers, slices, None and ``...``, else a copy.

    Index arrays broadcast against each other; their common axes replace theirs, in front where the arrays are not side
    by side. Integers count as slices do, not as arrays: ``x[0, :, [1, 2]]`` is ``x[0][:, [1, 2]]``, as in PyTorch.

    Raises:
        IndexError: too many indices, one out of range, a mask of another shape, or arrays that don't broadcast.
        ValueError: a slice with a step below 1.
    """
    key, indices = resolve("getitem", index, x.shape)
    if key is not None:
        x = slice_view(x, key=key)
    return x if indices is None else _index(x, indices=indices)


def _draw_key(draw: Draw, shape: tuple[int, ...]) -> Key:
    key: list[Any] = []
    for size in shape:
        kind = draw.integer(0, 3)
        if kind == 3:
            key.append(None)
        key.append(
            draw.integer(-size, size - 1)
            if kind == 1 and size
            else slice(draw.integer(-size, size), None, kind % 2 + 1)
        )
    return tuple(key)


def _slice_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    return Sample((draw.floats(shape),), {"key": _draw_key(draw, shape)})


@op(r"z_i = x_{a + s i}", samples=_slice_samples, symbols={"a": "key", "s": "key"})
def slice_view(x: Array, *, key: Key) -> Array:
    """The view of ``x`` that a ``key`` of integers, slices and Nones selects."""
    # With the ellipsis NumPy gives a view for a single element too.
    return x[(*key, Ellipsis)]


def zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros of ``shape`` in the dtype of ``like``, for a gradient to be written into."""
    return Tensor(np.zeros(shape, like.dtype))


def _slice_gradient(g: Array, shapes: Any, key: Key) -> Array:
    gradient = np.zeros(shapes[0], g.dtype)
    gradient[key] = g
    return gradient


def _slice_scatter_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    key = _draw_key(draw, shape)
    target = np.zeros(shape)[key].shape
    return Sample((draw.floats(shape), draw.choice([draw.floats(draw.broadcastable(target)), 0.5])), {"key": key})


@op(
    r"z = x \text{, with } z_{a + s i} = v_i",
    samples=_slice_scatter_samples,
    errors=[ErrorSample((np.ones((2, 3)), np.ones(2)), {"key": (0, ALL)}, ValueError, r"shape \(2,\) .* \(3,\)")],
    symbols={"a": "key", "s": "key"},
)
def slice_scatter(input: Array, values: Array, *, key: Key) -> Array:
    """A copy of ``input`` in which the view that ``key`` selects holds ``values``, broadcast."""
    result = input.copy()
    view = result[(*key, Ellipsis)]
    view[...] = broadcast_values("slice_scatter", values, view.shape)
    return result


slice_view.vjp(
    "x",
    r"\bar x_{a + s i} = \bar z_i \text{, else } 0",
    lambda g, shapes, key: slice_scatter(zeros(shapes[0], g), g, key=key),
    kernel=_slice_gradient,
)
slice_scatter.vjp(
    "input", r"\bar z \text{, with } 0 \text{ at } a + s i", lambda g, key: slice_scatter(g, 0.0, key=key)
)
slice_scatter.vjp("values", r"\bar v_i = \bar z_{a + s i}", lambda g, key: slice_view(g, key=key))


def broadcast_values(name: str, values: Any, shape: tuple[int, ...]) -> Array:
    """``values`` broadcast to ``shape``.

    Raises:
        ValueError: they don't.
    """
    try:
        return np.broadcast_to(values, shape)
    except ValueError:
        raise ValueError(
            f"{name}: values of shape {np.shape(values)} do not broadcast to {shape}, the shape of the target"
        ) from None


def _draw_indices(draw: Draw, shape: tuple[int, ...]) -> Indices:
    common = draw.shape((0, 2), (0, 3))
    chosen = [bool(size) and draw.boolean() for size in shape]
    chosen[draw.integer(0, len(shape) - 1)] = True
    return tuple(
        draw.integers(draw.broadcastable(common), 0, size - 1) if take else None
        for size, take in zip(shape, chosen, strict=True)
    )


def _index_samples(draw: Draw) -> Sample:
    shape = draw.shape((1, 4), (1, 3))
    return Sample((draw.floats(shape),), {"indices": _draw_indices(draw, shape)})


@op(r"z_i = x_{\iota_i}", samples=_index_samples, symbols={r"\iota": "indices"})
def _index(x: Array, *, indices: Indices) -> Array:
    """The elements of ``x`` at ``indices``: for every axis an int64 array, all of which broadcast, or None."""
    arrays = [(axis, array) for axis, array in enumerate(indices) if array is not None]
    if len(arrays) == 1 and x.flags.c_contiguous:
        return np.take(x, arrays[0][1], axis=arrays[0][0])
    return x[numpy_key(indices)]


def numpy_key(indices: Indices) -> tuple[Any, ...]:
    """``indices`` as NumPy's subscript, with ``:`` for an axis that no array indexes."""
    return tuple([ALL if array is None else array for array in indices])


def add_at(x: Array | None, shape: tuple[int, ...], indices: Indices, values: Array) -> Array:
    """``x`` (None: zeros) of ``shape`` with ``values``, of the shape of ``x[indices]``, added there in their order."""
    axes = [axis for axis, array in enumerate(indices) if array is not None]
    order = axes + [axis for axis in range(len(shape)) if axis not in axes]
    arrays = np.broadcast_arrays(*[array for array in indices if array is not None])
    indexed = tuple([shape[axis] for axis in axes])
    # The indexed axes are moved to the front and flattened, so that rows of a table are added.
    moved = tuple([shape[axis] for axis in order])
    table = np.zeros(moved, values.dtype) if x is None else np.array(x.transpose(order), order="C")
    row = arrays[0]
    for array, size in zip(arrays[1:], indexed[1:], strict=True):
        row = row * size + array
    position = _position(axes)
    rows = np.moveaxis(values, range(position, position + row.ndim), range(row.ndim))
    width = math.prod(moved[len(axes) :])
    _add_rows(table.reshape(math.prod(indexed), width), row.reshape(-1), rows.reshape(row.size, width))
    return table if order == sorted(order) else table.transpose(np.argsort(order))


def _position(axes: list[int]) -> int:
    """The position of the index arrays' common axes: 0, unless the arrays are at adjacent ``axes``."""
    return axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0


def _add_rows(table: Array, index: Array, rows: Array) -> None:
    """``table[index[i]] += rows[i]`` for every ``i`` in order, in place; the table is contiguous and has two axes."""
    if table.shape[1] == 1:
        add_repeated(table.reshape(-1), index, rows.reshape(-1))
    elif table.dtype.kind == "f":
        scatter_add_rows(table, index, rows)
    else:
        np.add.at(table, index, rows)


def _index_put_samples(draw: Draw) -> Sample:
    shape = draw.shape((1, 3), (1, 3))
    indices = _draw_indices(draw, shape)
    target = np.zeros(shape)[numpy_key(indices)].shape
    values = draw.choice([draw.floats(draw.broadcastable(target)), 0.5])
    return Sample((draw.floats(shape), values), {"indices": indices, "accumulate": draw.boolean()})


@op(
    r"z = x \text{, with } z_{\iota_i} = v_i \text{; accumulating: } z_j = x_j + \textstyle\sum_{i:\, \iota_i = j} v_i",
    samples=_index_put_samples,
    errors=[
        ErrorSample(
            (np.ones((2, 3)), np.ones(2)), {"indices": (np.array([0]),)}, ValueError, r"shape \(2,\) .* \(1, 3\)"
        )
    ],
    symbols={
        r"\iota": "indices",
        r"\text{ unless accumulating}": "accumulate",
        "v": ("values", "indices", "accumulate"),
    },
)
def _index_put(input: Array, values: Array, *, indices: Indices, accumulate: bool = False) -> Array:
    """A copy of ``input`` with ``values``, broadcast, put at ``indices`` (the last one stays) or added there."""
    key = numpy_key(indices)
    full = broadcast_values("index_put", values, _result_shape(input.shape, indices))
    if accumulate:
        return add_at(input, input.shape, indices, np.asarray(full, input.dtype))
    result = input.copy()
    result[key] = full
    return result


def _result_shape(shape: tuple[int, ...], indices: Indices) -> tuple[int, ...]:
    """The shape of ``x[indices]`` for ``x`` of ``shape``."""
    common = np.broadcast_shapes(*[array.shape for array in indices if array is not None])
    axes = [axis for axis, array in enumerate(indices) if array is not None]
    position = _position(axes)
    rest = [size for axis, size in enumerate(shape) if axis not in axes]
    return (*rest[:position], *common, *rest[position:])


_index.vjp(
    "x",
    r"\bar x_j = \textstyle\sum_{i:\, \iota_i = j} \bar z_i",
    lambda g, shapes, indices: _index_put(zeros(shapes[0], g), g, indices=indices, accumulate=True),
    kernel=lambda g, shapes, indices: add_at(None, shapes[0], indices, g),
)


def survivors(shape: tuple[int, ...], key: Any, written: tuple[int, ...]) -> Tensor:
    """Which of the values written to ``key``, of shape ``written``, are not overwritten by a later one."""
    writers = np.arange(math.prod(written)).reshape(written)
    last = np.zeros(shape, np.int64)
    last[key] = writers
    return Tensor(np.asarray(last[key] == writers))


def _put_gradient(g: Tensor, indices: Indices, accumulate: bool) -> Tensor:
    read = _index(g, indices=indices)
    return read if accumulate else where(survivors(g.shape, numpy_key(indices), read.shape), read, 0.0)


_index_put.vjp(
    "input",
    r"\bar z \text{, with } 0 \text{ at } \iota_i \text{ unless accumulating}",
    lambda g, indices, accumulate: g if accumulate else _index_put(g, 0.0, indices=indices),
)
_index_put.vjp("values", r"\bar v_i = \bar z_{\iota_i} \text{ where } v_i \text{ stays}", _put_gradient)


@public("ta", "Tensor")
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
    input = as_tensor(input, "index_put")
    values = assignable("index_put", values, input.dtype)
    if not isinstance(values, Tensor):
        values = in_dtype_of("index_put", input, values)
    elif values.dtype != input.dtype:
        raise TypeError(f"index_put: values must have input's dtype {input.dtype}, they have {values.dtype}")
    if not isinstance(indices, (list, tuple)):
        raise TypeError(f"index_put: indices must be a tuple of index arrays, got {shown(indices)}")
    _, arrays = resolve("index_put", tuple(ALL if i is None else _as_list(i) for i in indices), input.shape)
    if arrays is None:
        raise IndexError("index_put: indices must hold at least one array")
    return _index_put(input, values, indices=arrays, accumulate=accumulate)


def _as_list(index: Any) -> Array:
    """An index as an array that has an axis even if it is a single integer."""
    array = index.array if isinstance(index, Tensor) else np.asarray(index)
    return array if array.dtype == np.bool_ else np.atleast_1d(array)


def with_item(name: str, x: Tensor, index: Any, values: Any) -> Tensor:
    """A copy of ``x`` after ``x[index] = values``: the assignment as an op.

    Args:
        name: who asks, for messages.
        x: floats.
        index: as for `getitem`.
        values: a number or tensor that broadcasts to ``x[index]``; converted to ``x``'s dtype.

    Raises:
        IndexError: as for `getitem`.
        ValueError: ``values`` of a shape that does not broadcast.
    """
    key, indices = resolve(name, index, x.shape)
    values = assignable(name, values, x.dtype)
    if isinstance(values, Tensor):
        values = reshape(in_dtype_of(name, x, values), _without_leading_ones(values.shape))
    if indices is None:
        return slice_scatter(x, values, key=key)
    if key is None:
        return _index_put(x, values, indices=indices)
    return slice_scatter(x, _index_put(slice_view(x, key=key), values, indices=indices), key=key)


def write_item(name: str, array: Array, index: Any, values: Any) -> None:
    """``array[index] = values`` with the meaning and errors of `with_item`, in place and for any dtype.

    Raises:
        TypeError: an array or tensor of floats for integers or bools at index arrays or a mask.
    """
    key, indices = resolve(name, index, array.shape)
    view = array if key is None else array[(*key, Ellipsis)]
    values = assignable(name, values, array.dtype)
    given = values.array if isinstance(values, Tensor) else np.asarray(values)
    given = given.reshape(_without_leading_ones(given.shape))
    check_fits(name, given, array.dtype)
    if indices is None:
        view[...] = broadcast_values(name, given, view.shape)
        return
    if given.dtype.kind == "f" and array.dtype.kind != "f" and isinstance(values, (Tensor, np.ndarray)):
        raise TypeError(
            f"{name}: {given.dtype} values cannot be put at index arrays of a {array.dtype} tensor; convert them first"
        )
    view[numpy_key(indices)] = broadcast_values(name, given, _result_shape(view.shape, indices))


def assignable(name: str, values: Any, dtype: np.dtype[Any]) -> Any:
    """Values to be written to a tensor of ``dtype``: a tensor, or a Python number.

    Raises:
        TypeError: no numbers.
        ValueError: nested lists of unequal length.
    """
    if isinstance(values, Tensor) or type(values) in (int, float, bool):
        return values
    if isinstance(values, np.generic) and values.dtype.kind in "biuf":
        return values.item()
    return Tensor(as_array(values, name=name, floats=dtype if dtype.kind == "f" else default_dtype))


def _without_leading_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """``shape`` without the leading axes of size 1, which assignment ignores."""
    return shape[next((axis for axis, size in enumerate(shape) if size != 1), len(shape)) :]


def in_dtype_of(name: str, x: Tensor, value: Any) -> Any:
    """``value``, a number or tensor, in the dtype of ``x``."""
    if isinstance(value, Tensor):
        return value if value.dtype == x.dtype else cast(value, dtype=x.dtype)
    return Tensor(converted(name, np.asarray(value), x.dtype)) if x.dtype.kind != "f" else value
