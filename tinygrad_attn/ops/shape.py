"""Another shape or order of axes: reshape, transpose, expand, squeeze, …; views wherever possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.dims import one_dim, several_dims
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample, floats
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import MOST_AXES, whole_number

__all__ = [
    "alias", "broadcast_to", "clone", "contiguous", "expand", "flatten", "flip", "movedim", "permute", "reshape",
    "squeeze", "transpose", "unsqueeze", "view", "view_as",
]  # fmt: skip

Array = np.ndarray[Any, Any]


def sizes_of(name: str, sizes: Sequence[Any]) -> tuple[int, ...]:
    """Sizes, or axes, given either as separate integers or as one sequence.

    Raises:
        TypeError: something that is not an integer.
    """
    if len(sizes) == 1 and (isinstance(sizes[0], (tuple, list, range)) or getattr(sizes[0], "ndim", 0) == 1):
        sizes = tuple(sizes[0])
    if set(map(type, sizes)) <= {int}:
        return tuple(sizes)
    try:
        return tuple([whole_number(name, "size", size) for size in sizes])
    except TypeError:
        listed = ", ".join(map(shown, sizes))
        raise TypeError(f"{name}: expected integers, or one tuple of them, got {listed}") from None


# -- the same shape ----------------------------------------------------------------------------------------------------


@op(r"z = x", samples=floats())
def alias(x: Array) -> Array:
    """``x`` itself, as the output of a new node."""
    return x.view()


alias.vjp("x", r"\bar z", lambda g: g, kernel=True)


@public("ta", "Tensor")
@op(r"z = x", samples=floats())
def clone(x: Array) -> Array:
    """A copy in new memory; gradients flow through it to ``x``."""
    return x.copy()


clone.vjp("x", r"\bar z", lambda g: g, kernel=True)


@public("Tensor")
def contiguous(x: Any) -> Tensor:
    """``x`` itself if its elements are in row-major order in memory, else a `clone` in which they are."""
    if isinstance(x, Tensor) and x.array.flags.c_contiguous:
        return x
    return clone(x)


# -- another shape -----------------------------------------------------------------------------------------------------


def _reshape_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    size = math.prod(shape)
    return Sample((draw.floats(shape),), {"shape": draw.choice([(size,), (1, size), shape[::-1], (size, 1)])})


_two_by_three = np.ones((2, 3))


@op(
    r"z_{i'} = x_i \text{, in the same order}",
    samples=_reshape_samples,
    errors=[
        ErrorSample((_two_by_three,), {"shape": (4, 2)}, ValueError, r"\(2, 3\) with 6 elements"),
        ErrorSample((_two_by_three,), {"shape": (-1, 4)}, ValueError, r"\(-1, 4\)"),
        ErrorSample((_two_by_three,), {"shape": (-1, -1)}, ValueError, "only one"),
        ErrorSample((_two_by_three,), {"shape": (-2, -3)}, ValueError, "negative"),
    ],
)
def _reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    """The elements of ``x``, in row-major order, under ``shape``: a view if the memory allows it, else a copy."""
    _check_reshape("reshape", x, shape)
    return x.reshape(shape)


_reshape.vjp(
    "x",
    r"\bar x_i = \bar z_{i'}",
    lambda g, shapes: _reshape(g, shape=shapes[0]),
    kernel=lambda g, shapes: g.reshape(shapes[0]),
)


def _check_reshape(name: str, x: Array, shape: tuple[int, ...]) -> None:
    if shape.count(-1) > 1:
        raise ValueError(f"{name}: only one size can be -1, got {shape}")
    if any(size < -1 for size in shape):
        raise ValueError(f"{name}: negative size in {shape}; only -1, for the size that is left over, is allowed")
    if len(shape) > MOST_AXES:
        raise ValueError(f"{name}: a tensor has at most {MOST_AXES} axes, the shape has {len(shape)}")
    known = math.prod(size for size in shape if size != -1)
    fits = x.size == known if -1 not in shape else known and x.size % known == 0
    if not fits:
        raise ValueError(f"{name}: a tensor of shape {x.shape} with {x.size} elements cannot take the shape {shape}")


@public("ta", "Tensor")
def reshape(x: Any, *shape: Any) -> Tensor:
    """The elements of ``x`` in their order under another shape, as a view where possible.

    Args:
        x: a tensor.
        shape: integers or one tuple; one of them may be -1, for the size that is left over.

    Raises:
        ValueError: the number of elements would change.
    """
    return _reshape(x, shape=sizes_of("reshape", shape))


@public("Tensor")
def view(x: Tensor, *shape: Any) -> Tensor:
    """`reshape`, never as a copy.

    Raises:
        ValueError: the number of elements would change.
        RuntimeError: the elements don't lie in memory so that a view could have this shape.
        NotImplementedError: a dtype is given, to reinterpret the memory.
    """
    if len(shape) == 1 and not hasattr(shape[0], "__index__") and not isinstance(shape[0], (tuple, list)):
        raise NotImplementedError(
            f"view: reinterpreting memory as another dtype is not supported, got {shape[0]!r}; use to() to convert"
        )
    sizes = sizes_of("view", shape)
    _check_reshape("view", x.array, sizes)
    if x.array.size and not np.may_share_memory(x.array.reshape(sizes), x.array):
        raise RuntimeError(
            f"view: no view of a tensor of shape {x.shape} and strides {x.array.strides} has the shape {sizes}; "
            "use reshape(), which copies"
        )
    return _reshape(x, shape=sizes)


@public("Tensor")
def view_as(x: Tensor, other: Tensor) -> Tensor:
    """A view of ``x`` in the shape of ``other`` (see `view`)."""
    return view(x, as_tensor(other, "view_as").shape)


@public("ta", "Tensor")
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from ``start_dim`` to ``end_dim`` made one; a 0-d tensor gets one axis.

    Raises:
        IndexError: an axis that is not there.
        ValueError: ``start_dim`` comes after ``end_dim``.
    """
    shape = as_tensor(input, "flatten").shape
    start, end = one_dim("flatten", start_dim, len(shape)), one_dim("flatten", end_dim, len(shape))
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}, for a tensor of shape {shape}")
    return _reshape(input, shape=(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


def _squeeze_samples(draw: Draw) -> Sample:
    shape = tuple(draw.choice([1, 3, 0]) for _ in range(draw.integer(0, 3)))
    return Sample(
        (draw.floats(shape),), {"dim": draw.choice([None, 0, -1]) if draw.boolean() else tuple(range(len(shape)))}
    )


@public("ta", "Tensor")
@op(r"z = x \text{ without axes of size 1}", samples=_squeeze_samples)
def squeeze(input: Array, /, dim: int | tuple[int, ...] | None = None) -> Array:
    """``input`` without the axes of size 1, or without those among the axes ``dim``.

    Raises:
        IndexError: an axis that is not there.
    """
    if type(dim) is int:  # what is usual, soon done
        axis = one_dim("squeeze", dim, input.ndim)
        return input.squeeze(axis) if axis < input.ndim and input.shape[axis] == 1 else input.view()
    # An empty tuple names no axis here, while it stands for all of them in reductions.
    dims = () if isinstance(dim, (tuple, list)) and not dim else several_dims("squeeze", dim, input.ndim)
    dropped = tuple(d for d in dims if d < input.ndim and input.shape[d] == 1)
    return input.view() if not dropped else np.squeeze(input, dropped)


squeeze.vjp(
    "input", r"\bar z", lambda g, shapes: _reshape(g, shape=shapes[0]), kernel=lambda g, shapes: g.reshape(shapes[0])
)


def _unsqueeze_samples(draw: Draw) -> Sample:
    shape = draw.shape((0, 2))
    return Sample((draw.floats(shape),), {"dim": draw.integer(-len(shape) - 1, len(shape))})


@public("ta", "Tensor")
@op(
    r"z = x \text{ with a new axis of size 1}",
    samples=_unsqueeze_samples,
    errors=[ErrorSample((_two_by_three,), {"dim": 3}, IndexError, "dim 3 is out of range")],
)
def unsqueeze(input: Array, /, dim: int) -> Array:
    """``input`` with an axis of size 1 put in at position ``dim`` of the result.

    Raises:
        IndexError: the result has no such axis.
    """
    return input[(*[slice(None)] * one_dim("unsqueeze", dim, input.ndim + 1), None)]


unsqueeze.vjp(
    "input", r"\bar z", lambda g, shapes: _reshape(g, shape=shapes[0]), kernel=lambda g, shapes: g.reshape(shapes[0])
)

# -- repeated without a copy -------------------------------------------------------------------------------------------


def _expand_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    return Sample((draw.floats(draw.broadcastable(shape)),), {"shape": shape})


@op(
    r"z = x \text{, repeated along new axes and axes of size 1}",
    samples=_expand_samples,
    errors=[
        ErrorSample((_two_by_three,), {"shape": (2, 4)}, ValueError, "axis -1 has size 3, which cannot become 4"),
        ErrorSample((_two_by_three,), {"shape": (3,)}, ValueError, "2 axes"),
        ErrorSample((_two_by_three,), {"shape": (-1, 2, 3)}, ValueError, "new axis"),
    ],
)
def _expand(x: Array, *, shape: tuple[int, ...]) -> Array:
    """A view of ``x`` broadcast to ``shape``; -1 keeps a size."""
    lead = len(shape) - x.ndim
    if lead < 0:
        raise ValueError(f"expand: a tensor of shape {x.shape} has {x.ndim} axes, more than {shape}")
    if -1 in shape[:lead]:
        raise ValueError(
            f"expand: -1 keeps a size, but a new axis of {shape} has none to keep (the tensor's shape is {x.shape})"
        )
    full = (
        shape if -1 not in shape else tuple(x.shape[i - lead] if size == -1 else size for i, size in enumerate(shape))
    )
    for axis in range(1, x.ndim + 1):
        if x.shape[-axis] not in (1, full[-axis]):
            raise ValueError(f"expand: axis -{axis} has size {x.shape[-axis]}, which cannot become {full[-axis]}")
    return np.broadcast_to(x, full)


_expand.vjp("x", r"\textstyle\sum_{\text{broadcast axes}} \bar z", lambda g: g, kernel=True)


@public("ta", "Tensor")
def expand(x: Any, *sizes: Any, shape: tuple[int, ...] | None = None) -> Tensor:
    """A view of ``x`` in which axes of size 1 and new leading axes repeat.

    Args:
        x: a tensor.
        sizes: integers or one tuple; -1 keeps a size.
        shape: the same as one tuple, by name.

    Raises:
        ValueError: an axis of another size than 1 would have to change.
    """
    return _expand(x, shape=sizes_of("expand", sizes) if shape is None else shape)


@public("ta", "Tensor")
def broadcast_to(x: Any, shape: tuple[int, ...]) -> Tensor:
    """`expand` to one tuple of sizes."""
    return _expand(x, shape=sizes_of("broadcast_to", (shape,)))


# -- another order -----------------------------------------------------------------------------------------------------


def _transpose_samples(draw: Draw) -> Sample:
    shape = draw.shape((0, 4), (0, 3))
    reach = max(len(shape), 1)
    return Sample(
        (draw.floats(shape),), {"dim0": draw.integer(-reach, reach - 1), "dim1": draw.integer(-reach, reach - 1)}
    )


@public("ta", "ta.swapaxes", "ta.swapdims", "Tensor", "Tensor.swapaxes", "Tensor.swapdims")
@op(
    r"z = x \text{ with two axes swapped}",
    samples=_transpose_samples,
    errors=[ErrorSample((_two_by_three,), {"dim0": 0, "dim1": 2}, IndexError, "dim 2 is out of range")],
)
def transpose(input: Array, /, dim0: int, dim1: int) -> Array:
    """A view of ``input`` with the axes ``dim0`` and ``dim1`` swapped.

    Raises:
        IndexError: an axis that is not there.
    """
    first, second = one_dim("transpose", dim0, input.ndim), one_dim("transpose", dim1, input.ndim)
    return input.swapaxes(first, second) if input.ndim else input.view()


transpose.vjp(
    "input",
    r"\bar z \text{ with the same axes swapped}",
    lambda g, dim0, dim1: transpose(g, dim0, dim1),
    kernel=lambda g, dim0, dim1: g.swapaxes(dim0, dim1) if g.ndim else g,
)


def _permute_samples(draw: Draw) -> Sample:
    shape = draw.shape((0, 4), (0, 3))
    order = np.random.default_rng(draw.integer(0, 999)).permutation(len(shape))
    return Sample((draw.floats(shape),), {"dims": tuple(int(d) - draw.choice([0, len(shape)]) for d in order)})


@op(
    r"z_{i_{\pi(1)} \ldots i_{\pi(n)}} = x_{i_1 \ldots i_n}",
    samples=_permute_samples,
    errors=[
        ErrorSample((_two_by_three,), {"dims": (0,)}, ValueError, "2 axes"),
        ErrorSample((_two_by_three,), {"dims": (0, 0)}, ValueError, "twice"),
        ErrorSample((_two_by_three,), {"dims": (0, 2)}, IndexError, "dim 2 is out of range"),
    ],
)
def _permute(x: Array, *, dims: tuple[int, ...]) -> Array:
    """A view of ``x`` whose axis ``i`` is axis ``dims[i]`` of ``x``."""
    if len(dims) != x.ndim:
        raise ValueError(f"permute: dims {dims} must name all {x.ndim} axes of a tensor of shape {x.shape}")
    return x.transpose(several_dims("permute", dims, x.ndim))


def _inverse(dims: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(d) for d in np.argsort([d % len(dims) for d in dims]))


_permute.vjp(
    "x",
    r"\bar z \text{ under the inverse permutation}",
    lambda g, dims: _permute(g, dims=_inverse(dims)),
    kernel=lambda g, dims: g.transpose(_inverse(dims)),
)


@public("ta", "Tensor")
def permute(x: Any, *dims: Any) -> Tensor:
    """A view of ``x`` with its axes in the order ``dims`` (integers or one tuple).

    Raises:
        ValueError: not every axis is named once.
        IndexError: an axis that is not there.
    """
    return _permute(x, dims=sizes_of("permute", dims))


@public("ta", "ta.moveaxis", "Tensor", "Tensor.moveaxis")
def movedim(input: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """A view of ``input`` with the axes ``source`` moved to the positions ``destination``, the others left in order.

    Raises:
        ValueError: the two don't name equally many axes, or one of them names an axis twice.
        IndexError: an axis that is not there.
    """
    x = as_tensor(input, "movedim")
    from_dims, to_dims = several_dims("movedim", source, x.ndim), several_dims("movedim", destination, x.ndim)
    if len(from_dims) != len(to_dims):
        raise ValueError(f"movedim: source {source!r} and destination {destination!r} must name equally many axes")
    order = [d for d in range(x.ndim) if d not in from_dims]
    for position, d in sorted(zip(to_dims, from_dims, strict=True)):
        order.insert(position, d)
    return _permute(x, dims=tuple(order))


def _flip_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    return Sample(
        (draw.floats(shape),),
        {"dims": tuple(d - draw.choice([0, len(shape)]) for d in range(len(shape)) if draw.boolean())},
    )


@op(
    r"z_i = x_{n-1-i}",
    samples=_flip_samples,
    errors=[
        ErrorSample((_two_by_three,), {"dims": (0, 0)}, ValueError, "twice"),
        ErrorSample((_two_by_three,), {"dims": (2,)}, IndexError, "dim 2 is out of range"),
    ],
)
def _flip(x: Array, *, dims: tuple[int, ...]) -> Array:
    """A copy of ``x`` reversed along the axes ``dims``."""
    return _reversed(x, dims).copy()


def _reversed(x: Array, dims: tuple[int, ...]) -> Array:
    # An empty tuple names no axis here, while it stands for all of them in reductions.
    return np.flip(x, several_dims("flip", dims, x.ndim) if dims else ())


_flip.vjp(
    "x",
    r"\bar z_{n-1-i}",
    lambda g, dims: _flip(g, dims=dims),
    kernel=lambda g, dims: _reversed(g, dims),
)


@public("ta", "Tensor")
def flip(x: Any, *dims: Any) -> Tensor:
    """A copy of ``x`` reversed along the axes ``dims`` (integers or one tuple).

    Raises:
        ValueError: an axis named twice.
        IndexError: an axis that is not there.
    """
    return _flip(x, dims=sizes_of("flip", dims))


def _matrix_transpose(x: Tensor) -> Tensor:
    """The last two axes exchanged."""
    return transpose(x, -2, -1)


def _reversed_axes(x: Tensor) -> Tensor:
    """All axes in reverse order: the transpose of a matrix."""
    return permute(x, *range(x.ndim)[::-1])


public("Tensor.mT")(property(_matrix_transpose))
public("Tensor.T")(property(_reversed_axes))
