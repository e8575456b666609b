"""cat and stack join tensors; split, chunk, unbind, select and narrow cut one into views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.dims import one_dim
from tinygrad_attn.ops.shape import reshape, sizes_of
from tinygrad_attn.ops.subscript import slice_view
from tinygrad_attn.ops.subscript_parts import ALL
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import whole_number

__all__ = ["cat", "chunk", "hstack", "narrow", "select", "split", "stack", "unbind", "vstack"]

Array = np.ndarray[Any, Any]

_two_by_three = np.ones((2, 3))


def _at(dim: int, entry: Any) -> tuple[Any, ...]:
    """The subscript with ``entry`` at axis ``dim``."""
    return (*[ALL] * dim, entry)


def _part(x: Tensor, dim: int, entry: Any) -> Tensor:
    return slice_view(x, key=_at(dim, entry))


# -- joined ------------------------------------------------------------------------------------------------------------


def _cat_samples(draw: Draw) -> Sample:
    shape = draw.shape((1, 3))
    dim = draw.integer(-len(shape), len(shape) - 1)
    parts = []
    for _ in range(draw.integer(1, 3)):
        sizes = list(shape)
        sizes[dim] = draw.integer(0, 3)
        parts.append(draw.floats(tuple(sizes)))
    return Sample(tuple(parts), {"dim": dim})


@op(
    r"z = [x_1; x_2; \ldots]",
    samples=_cat_samples,
    errors=[
        ErrorSample(
            (_two_by_three, np.ones((2, 4))),
            {"dim": 0},
            ValueError,
            r"axis 1 has size 3 in tensors\[0\] and 4 in tensors\[1\]",
        ),
        ErrorSample(
            (_two_by_three, np.ones(3)), {"dim": 0}, ValueError, r"2 axes in tensors\[0\] and 1 in tensors\[1\]"
        ),
        ErrorSample((np.ones(()),), {"dim": 0}, ValueError, "0-d"),
        ErrorSample((_two_by_three,), {"dim": 2}, IndexError, "dim 2 is out of range"),
    ],
)
def _cat(*tensors: Array, dim: int) -> Array:
    """The tensors one after another along the axis ``dim``."""
    first = tensors[0]
    axis = one_dim("cat", dim, first.ndim)
    if first.ndim == 0:
        raise ValueError("cat: a 0-d tensor has no axis to join along; use stack()")
    for position, other in enumerate(tensors):
        if other.ndim != first.ndim:
            raise ValueError(
                f"cat: all tensors must have equally many axes, there are {first.ndim} axes in tensors[0] "
                f"and {other.ndim} in tensors[{position}]"
            )
        for d in range(first.ndim):
            if d != axis and other.shape[d] != first.shape[d]:
                raise ValueError(
                    f"cat: axis {d} has size {first.shape[d]} in tensors[0] and {other.shape[d]} in tensors[{position}]"
                )
    return np.concatenate(tensors, axis)


def _cat_part(shapes: Sequence[tuple[int, ...]], position: int, dim: int) -> tuple[Any, ...]:
    """The subscript of the result's part that comes from the tensor at ``position``."""
    axis = dim % len(shapes[0])
    start = sum(shape[axis] for shape in shapes[:position])
    return _at(axis, slice(start, start + shapes[position][axis]))


_cat.vjp(
    "tensors",
    r"\bar x_k = \text{part } k \text{ of } \bar z",
    lambda g, shapes, position, dim: slice_view(g, key=_cat_part(shapes, position, dim)),
    kernel=lambda g, shapes, position, dim: g[_cat_part(shapes, position, dim)],
)


@public("ta", "ta.concat", "ta.concatenate")
def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """The tensors one after another along the axis ``dim``; their other sizes must be equal.

    Raises:
        ValueError: no tensors, a 0-d one, or sizes that differ elsewhere.
        IndexError: there is no axis ``dim``.
    """
    return _cat(*_several("cat", tensors), dim=dim)


@public("ta")
def hstack(tensors: Sequence[Any]) -> Tensor:
    """`cat` along the second axis, of tensors with fewer axes along the only one.

    Raises:
        ValueError: as for `cat`.
    """
    several = [as_tensor(x, "hstack") for x in _several("hstack", tensors)]
    lines = [reshape(x, 1) if x.ndim == 0 else x for x in several]
    return _cat(*lines, dim=min(1, lines[0].ndim - 1))


@public("ta", "ta.row_stack")
def vstack(tensors: Sequence[Any]) -> Tensor:
    """`cat` along the first axis; a tensor with fewer than two axes is a row.

    Raises:
        ValueError: as for `cat`.
    """
    several = [as_tensor(x, "vstack") for x in _several("vstack", tensors)]
    return _cat(*[reshape(x, (1, -1)) if x.ndim < 2 else x for x in several], dim=0)


def _several(name: str, tensors: Any) -> tuple[Any, ...]:
    """The tensors to join, of any iterable."""
    if isinstance(tensors, (Tensor, np.ndarray)) or not hasattr(tensors, "__iter__"):
        raise ValueError(f"{name}: needs a list or tuple of tensors, got {shown(tensors)}")
    several = tuple(tensors)
    if not several:
        raise ValueError(f"{name}: needs a list or tuple with at least one tensor, got none")
    return several


def _stack_samples(draw: Draw) -> Sample:
    shape = draw.shape((0, 2))
    return Sample(
        tuple(draw.floats(shape) for _ in range(draw.integer(1, 3))), {"dim": draw.integer(-len(shape) - 1, len(shape))}
    )


@op(
    r"z_k = x_k",
    samples=_stack_samples,
    errors=[
        ErrorSample(
            (_two_by_three, np.ones((3, 2))),
            {"dim": 0},
            ValueError,
            r"tensors\[0\] has \(2, 3\) and tensors\[1\] \(3, 2\)",
        ),
        ErrorSample((_two_by_three,), {"dim": 3}, IndexError, "dim 3 is out of range"),
    ],
)
def _stack(*tensors: Array, dim: int) -> Array:
    """The tensors, all of one shape, along a new axis ``dim``."""
    axis = one_dim("stack", dim, tensors[0].ndim + 1)
    for position, other in enumerate(tensors):
        if other.shape != tensors[0].shape:
            raise ValueError(
                f"stack: shapes must be equal, tensors[0] has {tensors[0].shape} and tensors[{position}] {other.shape}"
            )
    return np.stack(tensors, axis)


_stack.vjp(
    "tensors",
    r"\bar x_k = \bar z_k",
    lambda g, position, dim: _part(g, dim % g.ndim, position),
    kernel=lambda g, position, dim: g[_at(dim % g.ndim, position)],
)


@public("ta")
def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """The tensors, all of one shape, along a new axis at position ``dim`` of the result.

    Raises:
        ValueError: no tensors, or shapes that differ.
        IndexError: the result has no axis ``dim``.
    """
    return _stack(*_several("stack", tensors), dim=dim)


# -- cut ---------------------------------------------------------------------------------------------------------------


@public("ta", "Tensor")
def select(input: Any, dim: int, index: int) -> Tensor:
    """The view of ``input`` at ``index`` of the axis ``dim``, without that axis.

    Raises:
        IndexError: the axis, or the index, is not there.
    """
    x = as_tensor(input, "select")
    axis, index = _existing_dim("select", dim, x), whole_number("select", "index", index)
    if not -x.shape[axis] <= index < x.shape[axis]:
        raise IndexError(f"select: index {index} is out of range for axis {axis} of size {x.shape[axis]}")
    return _part(x, axis, index)


@public("ta", "Tensor")
def narrow(input: Any, dim: int, start: int, length: int) -> Tensor:
    """The view of ``length`` entries of the axis ``dim``, from ``start`` on (counted from the end if negative).

    Raises:
        IndexError: the axis, or the start, is not there.
        ValueError: a negative ``length``, or one that goes beyond the end.
    """
    x = as_tensor(input, "narrow")
    axis = _existing_dim("narrow", dim, x)
    size, start = x.shape[axis], whole_number("narrow", "start", start)
    length = whole_number("narrow", "length", length)
    if not -size <= start <= size:
        raise IndexError(f"narrow: start {start} is out of range for axis {axis} of size {size}")
    first = start + size if start < 0 else start
    if length < 0 or first + length > size:
        raise ValueError(f"narrow: start {start} and length {length} do not fit axis {axis} of size {size}")
    return _part(x, axis, slice(first, first + length))


def _existing_dim(name: str, dim: int, x: Tensor) -> int:
    if x.ndim == 0:
        raise IndexError(f"{name}: a 0-d tensor has no axis {dim}")
    return one_dim(name, dim, x.ndim)


def _counted_from_front(name: str, dim: int) -> None:
    if dim < 0:
        raise IndexError(
            f"{name}: the op counts dim from the front, got {dim}; the function {name} takes it either way"
        )


def _split_samples(draw: Draw) -> Sample:
    shape = (*draw.shape((0, 1)), draw.integer(0, 4), *draw.shape((0, 1)))
    axis = draw.integer(0, len(shape) - 1)
    first = draw.integer(0, shape[axis])
    return Sample((draw.floats(shape),), {"sizes": (first, shape[axis] - first), "dim": axis})


@op(r"(z_1, z_2, \ldots) = x", samples=_split_samples, outputs=None)
def _split(x: Array, *, sizes: tuple[int, ...], dim: int) -> tuple[Array, ...]:
    """Views of consecutive parts of the given sizes along the axis ``dim``."""
    _counted_from_front("split", dim)
    ends = np.cumsum(sizes).tolist()
    return tuple([x[_at(dim, slice(end - size, end))] for size, end in zip(sizes, ends, strict=True)])


def _joined(g: tuple[Tensor | None, ...], shapes: Any, sizes: tuple[int, ...], dim: int) -> Tensor:
    """The gradients of the parts, concatenated; zeros for a part that was not used."""
    (shape,) = shapes
    known = next(part for part in g if part is not None)
    missing = [(*shape[:dim], size, *shape[dim + 1 :]) for size in sizes]
    return _cat(
        *[Tensor(np.zeros(m, known.dtype)) if part is None else part for part, m in zip(g, missing, strict=True)],
        dim=dim,
    )


_split.vjp("x", r"(\bar z_1, \bar z_2, \ldots)", _joined)


def _unbind_samples(draw: Draw) -> Sample:
    shape = (*draw.shape((0, 1)), draw.integer(1, 4), *draw.shape((0, 1)))
    return Sample((draw.floats(shape),), {"dim": draw.integer(0, len(shape) - 1)})


@op(r"(z_1, z_2, \ldots) = (x_1, x_2, \ldots)", samples=_unbind_samples, outputs=None)
def _unbind(x: Array, *, dim: int) -> tuple[Array, ...]:
    """The views of ``x`` at every index of the axis ``dim``, without that axis."""
    _counted_from_front("unbind", dim)
    return tuple([x[_at(dim, position)] for position in range(x.shape[dim])])


def _stacked(g: tuple[Tensor | None, ...], shapes: Any, dim: int) -> Tensor:
    """The gradients of the entries, stacked; zeros for an entry that was not used."""
    (shape,) = shapes
    known = next(part for part in g if part is not None)
    zeros = Tensor(np.zeros((*shape[:dim], *shape[dim + 1 :]), known.dtype))
    return _stack(*[zeros if part is None else part for part in g], dim=dim)


_unbind.vjp("x", r"(\bar z_1, \bar z_2, \ldots)", _stacked)


@public("ta", "Tensor")
def split(tensor: Any, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive parts along the axis ``dim``.

    Args:
        tensor: the tensor to split.
        split_size_or_sections: the size of each part (the last may be smaller), or the list of all sizes.
        dim: the axis.

    Raises:
        ValueError: a part size below 1, or sizes that don't sum to the axis's.
        IndexError: there is no axis ``dim``.
    """
    x = as_tensor(tensor, "split")
    axis = _existing_dim("split", dim, x)
    size = x.shape[axis]
    if not isinstance(split_size_or_sections, Sequence):
        step = whole_number("split", "split_size_or_sections", split_size_or_sections)
        if step < 0 or (step == 0 and size):
            raise ValueError(f"split: the size of a part must be 1 or more, got {step} for axis {axis} of size {size}")
        sections = [min(step, size - start) for start in range(0, size, step or 1)] or [0]
    else:
        sections = list(sizes_of("split", (list(split_size_or_sections),)))
        if sum(sections) != size or min(sections, default=0) < 0:
            raise ValueError(
                f"split: the sizes {sections} must be 0 or more and sum to {size}, the size of axis {axis}"
            )
    return _split(x, sizes=tuple(sections), dim=axis)


@public("ta", "Tensor")
def chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` views of consecutive parts along ``dim``, all of one size but the last, which may be smaller.

    Raises:
        ValueError: ``chunks`` below 1.
        IndexError: there is no axis ``dim``.
    """
    x = as_tensor(input, "chunk")
    axis, chunks = _existing_dim("chunk", dim, x), whole_number("chunk", "chunks", chunks)
    if chunks < 1:
        raise ValueError(f"chunk: chunks must be 1 or more, got {chunks}")
    if x.shape[axis] == 0:
        return split(x, [0] * chunks, axis)
    return split(x, -(-x.shape[axis] // chunks), axis)


@public("ta", "Tensor")
def unbind(input: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """The views of ``input`` at every index of the axis ``dim``, without that axis.

    Raises:
        IndexError: there is no axis ``dim``.
    """
    x = as_tensor(input, "unbind")
    axis = _existing_dim("unbind", dim, x)
    return _unbind(x, dim=axis)
