"""Axes as users give them: negative, one or several, or out of range."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["one_dim", "several_dims"]


def one_dim(op: str, dim: int, ndim: int) -> int:
    """``dim`` counted from the front.

    Raises:
        IndexError: a tensor of ``ndim`` axes has no such axis.
        TypeError: ``dim`` is not an integer.
    """
    if not isinstance(dim, int) or isinstance(dim, bool):
        raise TypeError(f"{op}: dim must be an integer, got {dim!r}")
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
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(ndim))
    dims = tuple(one_dim(op, d, ndim) for d in ((dim,) if isinstance(dim, int) else dim))
    if len(set(dims)) != len(dims):
        raise ValueError(f"{op}: dim {dim!r} names an axis twice")
    return () if ndim == 0 else dims
