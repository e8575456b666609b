"""Shapes in other words than reshape: unflatten, ravel, t, reshape_as, expand_as, broadcast_tensors, meshgrid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.dims import one_dim
from tinygrad_attn.ops.shape import expand, reshape, sizes_of, transpose
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor

__all__ = ["broadcast_tensors", "expand_as", "meshgrid", "ravel", "reshape_as", "t", "unflatten"]


@public("ta", "Tensor")
def unflatten(input: Any, dim: int, sizes: Any) -> Tensor:
    """The axis ``dim`` as several axes of the ``sizes``, one of which may be -1, for what is left: heads of attention.

    Raises:
        ValueError: the sizes do not multiply to that of the axis.
        IndexError: an axis that is not there.
    """
    x = as_tensor(input, "unflatten")
    axis, parts = one_dim("unflatten", dim, x.ndim), sizes_of("unflatten", (sizes,))
    size = x.shape[axis] if x.ndim else 1
    known = math.prod(part for part in parts if part != -1)
    open_sizes = parts.count(-1)
    fits = size == known if not open_sizes else open_sizes == 1 and known > 0 and size % known == 0
    if not parts or min(parts) < -1 or not fits:
        raise ValueError(f"unflatten: the axis {dim} of size {size} cannot become axes of sizes {parts}")
    parts = tuple([size // known if part == -1 else part for part in parts])
    return reshape(x, (*x.shape[:axis], *parts, *x.shape[axis + 1 :]))


@public("ta", "Tensor")
def ravel(input: Any) -> Tensor:
    """The elements in their order along one axis."""
    return reshape(input, -1)


@public("ta", "Tensor")
def t(input: Any) -> Tensor:
    """The transpose of a matrix; fewer axes stay as they are.

    Raises:
        ValueError: more than two axes.
    """
    x = as_tensor(input, "t")
    if x.ndim > 2:
        raise ValueError(f"t: input must have at most two axes, its shape is {x.shape}; see transpose() and mT")
    return transpose(x, 0, 1) if x.ndim == 2 else x


@public("Tensor")
def reshape_as(x: Tensor, other: Tensor) -> Tensor:
    """`reshape` to the shape of ``other``."""
    return reshape(x, as_tensor(other, "reshape_as").shape)


@public("Tensor")
def expand_as(x: Tensor, other: Tensor) -> Tensor:
    """`expand` to the shape of ``other``."""
    return expand(x, shape=as_tensor(other, "expand_as").shape)


@public("ta")
def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Views of the tensors in the shape to which all of them broadcast.

    Raises:
        ValueError: they do not broadcast.
    """
    several = [as_tensor(x, "broadcast_tensors") for x in tensors]
    try:
        shape = np.broadcast_shapes(*[x.shape for x in several])
    except ValueError:
        shapes = ", ".join(str(x.shape) for x in several)
        raise ValueError(f"broadcast_tensors: the shapes {shapes} do not broadcast") from None
    return tuple([expand(x, shape=shape) for x in several])


@public("ta")
def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """For each of n vectors its values on the grid that they span, an n-dimensional tensor.

    Args:
        tensors: ``(n_1,)``, ``(n_2,)``, …, or one list of them; a 0-d tensor counts as one element.
        indexing: "ij" for results of shape ``(n_1, n_2, …)``; "xy" exchanges the first two axes.

    Raises:
        ValueError: a tensor with more axes, none at all, or another ``indexing``.
    """
    several = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    vectors = [as_tensor(x, "meshgrid") for x in several]
    if not vectors:
        raise ValueError("meshgrid: expected at least one tensor, got none")
    if indexing not in ("ij", "xy"):
        raise ValueError(f"meshgrid: indexing must be 'ij' or 'xy', got {shown(indexing)}")
    if any(x.ndim > 1 for x in vectors):
        raise ValueError(f"meshgrid: the tensors must have one axis, got {', '.join(str(x.shape) for x in vectors)}")
    sizes = tuple([x.numel() for x in vectors])
    along = [
        reshape(x, [size if e == d else 1 for e in range(len(sizes))])
        for d, (x, size) in enumerate(zip(vectors, sizes, strict=True))
    ]
    grids = [expand(x, shape=sizes) for x in along]
    if indexing == "xy" and len(grids) > 1:
        grids = [transpose(grid, 0, 1) for grid in grids]
    return tuple(grids)
