"""Elements in another arrangement: diagonals and triangles, repeat, tile, roll and pad."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.dtypes import check_fits
from tinygrad_attn.kernels.sums import sum_over
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.dims import one_dim
from tinygrad_attn.ops.indexing import index_select
from tinygrad_attn.ops.reduction import sum_to
from tinygrad_attn.ops.shape import clone, expand, reshape, sizes_of, unsqueeze
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import whole_number

__all__ = ["diag", "diagonal", "pad", "repeat", "repeat_interleave", "roll", "tile", "trace", "tril", "triu"]

Array = np.ndarray[Any, Any]
Widths = tuple[tuple[int, int], ...]

_two_by_three = np.ones((2, 3))


# -- diagonals and triangles -------------------------------------------------------------------------------------------


def _diagonal_samples(draw: Draw) -> Sample:
    shape = draw.shape((2, 4), (0, 3))
    dim1 = draw.integer(0, len(shape) - 1)
    dim2 = (dim1 + draw.integer(1, len(shape) - 1)) % len(shape)
    return Sample(
        (draw.floats(shape),),
        {"offset": draw.integer(-3, 3), "dim1": dim1, "dim2": dim2 - draw.choice([0, len(shape)])},
    )


@public("ta", "Tensor")
@op(
    r"z_{\ldots k} = x_{\ldots k, k + o}",
    samples=_diagonal_samples,
    errors=[
        ErrorSample((_two_by_three,), {"dim1": 1, "dim2": -1}, ValueError, "two different axes"),
        ErrorSample((np.ones(3),), {}, IndexError, "dim 1 is out of range"),
    ],
    symbols={"o": "offset"},
)
def diagonal(input: Array, /, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    """The view of the diagonal of the axes ``dim1`` and ``dim2``, as a last axis in their place.

    Args:
        input: a tensor with at least two axes.
        offset: how far above the main diagonal; below it if negative.
        dim1: the axis of rows.
        dim2: the axis of columns.

    Raises:
        ValueError: the two axes are the same.
        IndexError: an axis that is not there.
    """
    first, second = one_dim("diagonal", dim1, input.ndim), one_dim("diagonal", dim2, input.ndim)
    if first == second:
        raise ValueError(f"diagonal: dim1 and dim2 must be two different axes, both are {first}")
    view = np.diagonal(input, offset, first, second)
    # NumPy's view is read-only; PyTorch's may be written to.
    view.flags.writeable = input.flags.writeable
    return view


def _on_diagonal(x: Array, shape: tuple[int, ...], offset: int, dim1: int, dim2: int) -> Array:
    result = np.zeros(shape, x.dtype)
    diagonal.forward(result, offset, dim1, dim2)[...] = x
    return result


def _diagonal_scatter_samples(draw: Draw) -> Sample:
    sample = _diagonal_samples(draw)
    shape = sample.operands[0].shape
    return Sample(
        (draw.floats(np.diagonal(np.zeros(shape), *sample.options.values()).shape),), {"shape": shape, **sample.options}
    )


@op(r"z_{\ldots k, k + o} = x_{\ldots k} \text{, else } 0", samples=_diagonal_scatter_samples, symbols={"o": "offset"})
def _diagonal_scatter(x: Array, *, shape: tuple[int, ...], offset: int, dim1: int, dim2: int) -> Array:
    """Zeros of ``shape`` with ``x`` on a diagonal: the gradient of `diagonal`."""
    return _on_diagonal(x, shape, offset, dim1, dim2)


diagonal.vjp(
    "input",
    r"\bar x_{\ldots k, k + o} = \bar z_{\ldots k} \text{, else } 0",
    lambda g, shapes, offset, dim1, dim2: _diagonal_scatter(g, shape=shapes[0], offset=offset, dim1=dim1, dim2=dim2),
    kernel=lambda g, shapes, offset, dim1, dim2: _on_diagonal(g, shapes[0], offset, dim1, dim2),
)
_diagonal = diagonal  # tril and triu have an option of this name
_diagonal_scatter.vjp("x", r"\bar z_{\ldots k, k + o}", lambda g, offset, dim1, dim2: diagonal(g, offset, dim1, dim2))


@public("ta", "Tensor")
def diag(input: Any, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or, of ``(n,)``, the matrix of zeros with these elements on its diagonal.

    Args:
        input: ``(n,)`` or ``(n, m)``.
        diagonal: how far above the main diagonal; below it if negative.

    Raises:
        ValueError: another number of axes.
    """
    x, offset = as_tensor(input, "diag"), whole_number("diag", "diagonal", diagonal)
    if x.ndim == 2:
        return clone(_diagonal(x, offset))
    if x.ndim != 1:
        raise ValueError(f"diag: input must have one axis or two, its shape is {x.shape}")
    size = x.shape[0] + builtins.abs(offset)
    return _diagonal_scatter(x, shape=(size, size), offset=offset, dim1=0, dim2=1)


@public("ta", "Tensor")
def trace(input: Any) -> Tensor:
    """The sum of the diagonal of a matrix.

    Raises:
        ValueError: not two axes.
    """
    x = as_tensor(input, "trace")
    if x.ndim != 2:
        raise ValueError(f"trace: input must have two axes, its shape is {x.shape}")
    return _diagonal(x).sum()


def _triangle_samples(draw: Draw) -> Sample:
    return Sample((draw.floats(draw.shape((2, 3))),), {"diagonal": draw.integer(-3, 3)})


_flat = [ErrorSample((np.ones(3),), {}, ValueError, r"at least two axes, its shape is \(3,\)")]


@public("ta", "Tensor")
@op(r"z_{ij} = x_{ij}\,[j \le i + d]", samples=_triangle_samples, errors=_flat, symbols={"d": "diagonal"})
def tril(input: Array, /, diagonal: int = 0) -> Array:
    """The lower triangle of the last two axes, up to the given ``diagonal``; zeros above.

    Raises:
        ValueError: fewer than two axes.
    """
    return np.where(_lower("tril", input, diagonal), input, np.zeros((), input.dtype))


@public("ta", "Tensor")
@op(r"z_{ij} = x_{ij}\,[j \ge i + d]", samples=_triangle_samples, errors=_flat, symbols={"d": "diagonal"})
def triu(input: Array, /, diagonal: int = 0) -> Array:
    """The upper triangle of the last two axes, from the given ``diagonal`` on; zeros below.

    Raises:
        ValueError: fewer than two axes.
    """
    return np.where(_lower("triu", input, diagonal - 1), np.zeros((), input.dtype), input)


def _lower(name: str, x: Array, diagonal: int) -> Array:
    if x.ndim < 2:
        raise ValueError(f"{name}: input must have at least two axes, its shape is {x.shape}")
    return np.tri(x.shape[-2], x.shape[-1], diagonal, dtype=np.bool_)


tril.vjp(
    "input",
    r"\bar z_{ij}\,[j \le i + d]",
    lambda g, diagonal: tril(g, diagonal),
    kernel=lambda g, diagonal: tril.forward(g, diagonal),
)
triu.vjp(
    "input",
    r"\bar z_{ij}\,[j \ge i + d]",
    lambda g, diagonal: triu(g, diagonal),
    kernel=lambda g, diagonal: triu.forward(g, diagonal),
)

# -- repeated, shifted, padded -----------------------------------------------------------------------------------------


def _repeat_samples(draw: Draw) -> Sample:
    shape = draw.shape((0, 3), (0, 3))
    return Sample(
        (draw.floats(shape),), {"repeats": tuple(draw.integer(0, 3) for _ in range(len(shape) + draw.integer(0, 1)))}
    )


@op(
    r"z_i = x_{i \bmod n}",
    samples=_repeat_samples,
    errors=[
        ErrorSample((_two_by_three,), {"repeats": (2,)}, ValueError, "at least 2 repeats"),
        ErrorSample((_two_by_three,), {"repeats": (2, -1)}, ValueError, "negative"),
    ],
    symbols={r"\text{copies}": "repeats"},
)
def _repeat(x: Array, *, repeats: tuple[int, ...]) -> Array:
    """Copies of ``x`` side by side, ``repeats[i]`` of them along axis ``i``; new axes come first."""
    if len(repeats) < x.ndim:
        raise ValueError(f"repeat: a tensor of shape {x.shape} needs at least {x.ndim} repeats, got {repeats}")
    if min(repeats, default=0) < 0:
        raise ValueError(f"repeat: negative repeats in {repeats}")
    return np.tile(x, repeats)


def _copies(shape: tuple[int, ...], repeats: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The result's shape with an axis of copies before each axis, and the same with one copy."""
    sizes = (*[1] * (len(repeats) - len(shape)), *shape)
    pairs = list(zip(repeats, sizes, strict=True))
    return tuple(n for pair in pairs for n in pair), tuple(n for _, size in pairs for n in (1, size))


def _repeat_gradient(g: Tensor, shapes: Any, repeats: tuple[int, ...]) -> Tensor:
    many, single = _copies(shapes[0], repeats)
    return reshape(sum_to(reshape(g, many), shape=single), shapes[0])


def _repeat_kernel(g: Array, shapes: Any, repeats: tuple[int, ...]) -> Array:
    many, _ = _copies(shapes[0], repeats)
    return sum_over(g.reshape(many), tuple(range(0, len(many), 2))).reshape(shapes[0])


_repeat.vjp("x", r"\textstyle\sum_{\text{copies}} \bar z", _repeat_gradient, kernel=_repeat_kernel)


@public("ta", "Tensor")
def repeat(x: Any, *repeats: Any) -> Tensor:
    """Copies of ``x`` side by side along every axis (integers or one tuple); further leading repeats make new axes.

    Raises:
        ValueError: fewer repeats than axes, or negative ones.
    """
    return _repeat(x, repeats=sizes_of("repeat", repeats))


@public("ta", "Tensor")
def tile(input: Any, *dims: Any) -> Tensor:
    """`repeat` as NumPy has it: with fewer numbers than axes they are those of the last axes.

    Args:
        input: a tensor.
        dims: how many copies along each axis, integers or one tuple.

    Raises:
        ValueError: a negative number.
    """
    x, repeats = as_tensor(input, "tile"), sizes_of("tile", dims)
    if min(repeats, default=0) < 0:
        raise ValueError(f"tile: negative repeats in {repeats}")
    return _repeat(x, repeats=(*[1] * (x.ndim - len(repeats)), *repeats))


@public("ta", "Tensor")
def repeat_interleave(input: Any, repeats: Any, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Each slice along ``dim`` several times, the copies side by side: [a, b] becomes [a, a, b, b].

    Args:
        input: a tensor.
        repeats: how often, an integer, or ``(n,)`` integers for the ``n`` slices.
        dim: the axis; None flattens ``input`` first.
        output_size: the length of the result along ``dim``, which is known anyway.

    Raises:
        ValueError: a negative number, not one for each slice, or another ``output_size``.
        TypeError: ``repeats`` are not integers.
        IndexError: an axis that is not there.
    """
    x = as_tensor(input, "repeat_interleave")
    if dim is None:
        x, dim = reshape(x, -1), 0
    axis = one_dim("repeat_interleave", dim, x.ndim)
    x = x if x.ndim else reshape(x, 1)
    counts = as_tensor(repeats, "repeat_interleave: repeats")._read()
    if counts.dtype.kind not in "iu" or counts.ndim > 1:
        raise TypeError(f"repeat_interleave: repeats must be an integer or (n,) integers, got {shown(repeats)}")
    if counts.size and counts.min() < 0:
        raise ValueError(f"repeat_interleave: repeats must not be negative, the least is {counts.min()}")
    size = x.shape[axis]
    if counts.size not in (1, size):
        raise ValueError(f"repeat_interleave: {counts.size} repeats for the {size} slices of axis {axis}")
    total = int(counts.item()) * size if counts.size == 1 else int(counts.sum())
    if output_size is not None and output_size != total:
        raise ValueError(f"repeat_interleave: output_size is {output_size}, the result has {total} slices")
    if counts.size != 1:
        return index_select(x, axis, Tensor(np.repeat(np.arange(size), counts)))
    before, after, times = x.shape[:axis], x.shape[axis + 1 :], int(counts.item())
    copies = expand(unsqueeze(x, axis + 1), shape=(*before, size, times, *after))
    return reshape(copies, (*before, size * times, *after))


def _roll_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    dims = tuple(d - draw.choice([0, len(shape)]) for d in range(len(shape)) if draw.boolean())
    return Sample((draw.floats(shape),), {"shifts": tuple(draw.integer(-5, 5) for _ in dims or (0,)), "dims": dims})


@op(
    r"z_i = x_{(i - s) \bmod n}",
    samples=_roll_samples,
    errors=[
        ErrorSample((_two_by_three,), {"shifts": (1, 2), "dims": (0,)}, ValueError, "2 shifts and 1 dims"),
        ErrorSample((_two_by_three,), {"shifts": (1,), "dims": (2,)}, IndexError, "dim 2 is out of range"),
    ],
    symbols={"s": "shifts"},
)
def _roll(x: Array, *, shifts: tuple[int, ...], dims: tuple[int, ...]) -> Array:
    """``x`` shifted cyclically along ``dims``, or flattened if there are none."""
    if len(shifts) != (len(dims) or 1):
        raise ValueError(f"roll: there must be a shift for every axis, got {len(shifts)} shifts and {len(dims)} dims")
    if not dims:
        return np.roll(x, shifts[0])
    axes = tuple([one_dim("roll", dim, x.ndim) for dim in dims])
    return np.roll(x, shifts, axes) if x.ndim else x.copy()


def _back(shifts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([-shift for shift in shifts])


_roll.vjp(
    "x",
    r"\bar z_{(i + s) \bmod n}",
    lambda g, shifts, dims: _roll(g, shifts=_back(shifts), dims=dims),
    kernel=lambda g, shifts, dims: _roll.forward(g, shifts=_back(shifts), dims=dims),
)


@public("ta", "Tensor")
def roll(input: Any, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Tensor:
    """``input`` shifted cyclically along the axes ``dims``: elements beyond the end reappear at the start.

    Args:
        input: a tensor.
        shifts: how far, one number for each axis of ``dims``.
        dims: the axes; None shifts the flattened tensor and restores its shape.

    Raises:
        ValueError: not a shift for every axis.
        IndexError: an axis that is not there.
    """
    along = () if dims is None else sizes_of("roll", (dims,))
    return _roll(input, shifts=sizes_of("roll", (shifts,)), dims=along)


def _pad_samples(draw: Draw) -> Sample:
    shape = draw.shape()
    widths = []
    for size in shape:
        before = draw.integer(-size, 2)
        widths.append((before, draw.integer(-size - min(before, 0), 2)))
    return Sample((draw.floats(shape),), {"widths": tuple(widths), "value": draw.choice([0.0, 1.5])})


@op(
    r"z_i = x_{i - b} \text{, or } v \text{ outside}",
    samples=_pad_samples,
    errors=[
        ErrorSample((_two_by_three,), {"widths": ((0, 0), (-2, -2))}, ValueError, r"\(-2, -2\) .* axis 1 of size 3")
    ],
    symbols={"b": "widths"},
)
def _pad(x: Array, *, widths: Widths, value: float = 0.0) -> Array:
    """``x`` with (before, after) = ``widths`` entries of ``value`` added at each axis, or removed where negative."""
    for axis, (before, after) in enumerate(widths):
        if min(before, 0) + min(after, 0) < -x.shape[axis]:
            raise ValueError(
                f"pad: {(before, after)} takes more off than there is at axis {axis} of size {x.shape[axis]}"
            )
    check_fits("pad: value", value, x.dtype)
    result = np.full([size + sum(pair) for size, pair in zip(x.shape, widths, strict=True)], value, x.dtype)
    inside = [slice(max(b, 0), size - max(a, 0)) for size, (b, a) in zip(result.shape, widths, strict=True)]
    kept = [slice(max(-b, 0), size - max(-a, 0)) for size, (b, a) in zip(x.shape, widths, strict=True)]
    result[tuple(inside)] = x[tuple(kept)]
    return result


def _opposite(widths: Widths) -> Widths:
    return tuple([(-before, -after) for before, after in widths])


_pad.vjp(
    "x",
    r"\bar x_i = \bar z_{i + b}",
    lambda g, widths: _pad(g, widths=_opposite(widths)),
    kernel=lambda g, widths: _pad.forward(g, widths=_opposite(widths)),
)


@public("F")
def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """``input`` with entries of ``value`` added at the ends of its last axes.

    Args:
        input: a tensor.
        pad: before and after for the last axis, then for the one before it, …; negative numbers remove entries.
        mode: only ``"constant"``.
        value: the value of the new entries; 0 if None.

    Raises:
        NotImplementedError: another ``mode``.
        ValueError: an odd number of widths, more than two for each axis, or more entries removed than there are.
    """
    if not isinstance(mode, str) or mode != "constant":
        raise NotImplementedError(f"pad: mode {shown(mode)} is not supported, only 'constant'")
    x, flat = as_tensor(input, "pad"), sizes_of("pad", (pad,))
    if len(flat) % 2 or len(flat) > 2 * x.ndim:
        raise ValueError(
            f"pad: pad must hold a pair for some of the last axes of a tensor of shape {x.shape}, got {flat}"
        )
    pairs = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)]
    return _pad(x, widths=(*[(0, 0)] * (x.ndim - len(pairs)), *reversed(pairs)), value=0.0 if value is None else value)
