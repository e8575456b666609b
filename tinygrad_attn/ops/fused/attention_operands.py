"""The operands of attention: their sizes, masks, and heads of keys and values that several heads of queries share."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.ops.reduction import sum
from tinygrad_attn.ops.shape import expand, reshape, unsqueeze
from tinygrad_attn.tensor import Tensor

__all__ = ["check_mask", "check_operands", "group_size", "repeated", "repeated_shape", "summed"]

Array = np.ndarray[Any, Any]

_NAME = "scaled_dot_product_attention"


def group_size(query: Tensor, key: Tensor, value: Tensor) -> int:
    """How many query heads share one head of key and value."""
    if min(query.ndim, key.ndim, value.ndim) < 3:
        shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
        raise ValueError(f"{_NAME}: enable_gqa needs an axis of heads before the last two axes: {shapes}")
    heads, shared, of_values = query.shape[-3], key.shape[-3], value.shape[-3]
    if shared != of_values:
        raise ValueError(f"{_NAME}: key and value must have as many heads, they have {shared} and {of_values}")
    if heads == shared:
        return 1
    if not shared or heads % shared:
        raise ValueError(f"{_NAME}: the {shared} heads of key and value do not divide the {heads} heads of query")
    return heads // shared


def check_operands(
    query: Tensor | Array, key: Tensor | Array, value: Tensor | Array, groups: int = 1
) -> tuple[int, ...]:
    """The shape of the scores; raises a ValueError unless all sizes fit."""
    q, k, v = query.shape, key.shape, value.shape
    if groups == 1 and len(q) > 1 and q[-1:] == k[-1:] and k[:-1] == v[:-1] and q[:-2] == k[:-2]:
        return (*q[:-1], k[-2])  # what is usual, soon seen
    for which, operand in (("query", query), ("key", key), ("value", value)):
        if operand.ndim < 2:
            raise ValueError(f"{_NAME}: {which} must have at least two axes, its shape is {operand.shape}")
    if query.shape[-1] != key.shape[-1]:
        widths = f"{query.shape[-1]} and {key.shape[-1]}"
        raise ValueError(f"{_NAME}: query and key must have the same width, they have {widths}")
    if key.shape[-2] != value.shape[-2]:
        counts = f"{key.shape[-2]} keys, {value.shape[-2]} values"
        raise ValueError(f"{_NAME}: there must be a value for each key, there are {counts}")
    of_keys, of_values = (repeated_shape(operand, groups)[:-2] for operand in (key, value))
    try:
        np.broadcast_shapes(query.shape[:-2], of_keys, of_values)
    except ValueError:
        shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
        raise ValueError(f"{_NAME}: the axes before the last two do not broadcast: {shapes}") from None
    return (*np.broadcast_shapes(query.shape[:-2], of_keys), query.shape[-2], key.shape[-2])


def check_mask(mask: Tensor | Array, scores: tuple[int, ...], dtypes: tuple[Any, ...], name: str) -> None:
    """Raise unless a mask or bias broadcasts to the scores and has one of these dtypes.

    Args:
        mask: True where a query may attend to a key, or floats to add to the scores.
        scores: their shape.
        dtypes: bool, that of the query, or both.
        name: of the op, and of its operand.

    Raises:
        TypeError: another dtype.
        ValueError: it does not broadcast.
    """
    if mask.dtype not in dtypes:
        meanings = [
            "bool (True = may attend)" if dtype == np.bool_ else f"{np.dtype(dtype)} as query" for dtype in dtypes
        ]
        raise TypeError(f"{name} must be {' or '.join(meanings)}, it is {mask.dtype}")
    fits = mask.ndim <= len(scores) and all(
        a in (1, b) for a, b in zip(reversed(mask.shape), reversed(scores), strict=False)
    )
    if not fits:
        raise ValueError(f"{name} of shape {mask.shape} does not broadcast to the scores, {scores}")


def repeated_shape(array: Tensor | Array, groups: int) -> tuple[int, ...]:
    """The shape that keys or values have once every head of theirs is repeated for its group of query heads."""
    shape = array.shape
    return shape if groups == 1 or len(shape) < 3 else (*shape[:-3], shape[-3] * groups, *shape[-2:])


def repeated(x: Tensor, groups: int) -> Tensor:
    """Keys or values with every head repeated for its group of query heads."""
    if groups == 1:
        return x
    *leading, heads, length, width = x.shape
    copies = expand(unsqueeze(x, -3), *leading, heads, groups, length, width)
    return reshape(copies, *leading, heads * groups, length, width)


def summed(gradient: Tensor, groups: int) -> Tensor:
    """The gradient of repeated keys or values as that of the shared ones."""
    if groups == 1:
        return gradient
    *leading, heads, length, width = gradient.shape
    return sum(reshape(gradient, *leading, heads // groups, groups, length, width), -3)
