"""Converts PyTorch's attention masks (True: do not attend) to the one mask that the ops take."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.op import cast
from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.comparison import logical_and, logical_not
from tinygrad_attn.ops.pointwise import add, where
from tinygrad_attn.ops.shape import reshape
from tinygrad_attn.tensor import Tensor

__all__ = ["merge_masks", "merge_padding_mask"]


def merge_masks(key_padding_mask: Any, attn_mask: Any, scores: tuple[int, ...], dtype: Any) -> Tensor | None:
    """Both masks as one that broadcasts to the scores; None if both are None.

    The result is bool, True where a query may attend to a key, if neither mask has floats; else floats to add.

    Args:
        key_padding_mask: (B, S).
        attn_mask: (L, S) or (B·heads, L, S).
        scores: their shape, (B, heads, L, S).
        dtype: of the scores.

    Raises:
        ValueError: shapes other than these.
        TypeError: a mask of integers.
    """
    batch, heads, queries, keys = scores
    masks = []
    if key_padding_mask is not None:
        mask = _checked("key_padding_mask", key_padding_mask, [(batch, keys)], dtype)
        masks.append(reshape(mask, batch, 1, 1, keys))
    if attn_mask is not None:
        mask = _checked("attn_mask", attn_mask, [(queries, keys), (batch * heads, queries, keys)], dtype)
        masks.append(reshape(mask, batch, heads, queries, keys) if mask.ndim == 3 else mask)
    allowed: Tensor | None = None
    added: Tensor | None = None
    for mask in masks:
        if mask.dtype == np.bool_:
            attended = logical_not(mask)
            allowed = attended if allowed is None else logical_and(allowed, attended)
        else:
            added = mask if added is None else add(added, mask)
    if added is None or allowed is None:
        return allowed if added is None else added
    return where(allowed, added, -math.inf)


def merge_padding_mask(key_padding_mask: Any, batch: int, keys: int, dtype: Any) -> Tensor | None:
    """A key_padding_mask (B, S) in the form that `MultiheadAttention.attend` takes; made once for all decoder steps.

    The result is (B, 1, 1, S): bool, True where a query may attend to a key, or floats to add to the scores; None if
    nothing is masked.
    """
    mask = merge_masks(key_padding_mask, None, (batch, 1, 1, keys), dtype)
    return None if mask is None or (mask.dtype == np.bool_ and mask.array.all()) else mask


def _checked(name: str, given: Any, shapes: list[tuple[int, ...]], dtype: Any) -> Tensor:
    mask = as_tensor(given)
    if mask.dtype != np.bool_ and not mask.is_floating_point():
        raise TypeError(
            f"MultiheadAttention: {name} must be bool (True = do not attend) or floats to add, it is {mask.dtype}"
        )
    if mask.shape not in shapes:
        expected = " or ".join(str(shape) for shape in shapes)
        raise ValueError(f"MultiheadAttention: {name} must have shape {expected}, it has {mask.shape}")
    return mask if mask.dtype in (np.bool_, dtype) else cast(mask, dtype=dtype)
