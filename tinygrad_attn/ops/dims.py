"""Axes given by users, checked and counted from the front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import whole_number

__all__ = ["one_dim", "several_dims", "size"]


def one_dim(op: str, dim: int, ndim: int) -> int:
    """``dim`` counted from the front.

    Raises:
        IndexError: a tensor of ``ndim`` axes has no such axis.
        TypeError: ``dim`` is not an integer.
    """
    if type(dim) is not int:
        dim = whole_number(op, "dim", dim)
    # As in PyTorch, a 0-d tensor may be addressed as if it had one axis.
    reach = max(ndim, 1)
    if not -reach <= dim < reach:
        raise IndexError(
            f"{op}: dim {dim} is out of range for a tensor with {ndim} axes (from {-reach} to {reach - 1})"
        )
    return dim % reach


def several_dims(op: str, dim: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """``dim`` as a tuple counted from the front; None, and an empty sequence, stand for all axes.

    Raises:
        IndexError: an axis that is not there.
        ValueError: an axis named twice.
        TypeError: an axis that is not an integer.
    """
    given = dim if dim is None or isinstance(dim, (tuple, list, range)) else (dim,)
    if not given:
        return tuple(range(ndim))
    dims = tuple(one_dim(op, d, ndim) for d in given)
    if len(set(dims)) != len(dims):
        raise ValueError(f"{op}: dim {dim!r} names an axis twice")
    return () if ndim == 0 else dims


@public("Tensor")
def size(x: Tensor, dim: int | None = None) -> Any:
    """The shape, or the size of axis ``dim``.

    Raises:
        IndexError: no such axis.
        TypeError: ``dim`` is not an integer.
    """
    if dim is None:
        return x.shape
    if not x.ndim:
        raise IndexError(f"size: a 0-d tensor has no axis {dim}")
    return x.shape[one_dim("size", dim, x.ndim)]
