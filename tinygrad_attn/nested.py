"""Tensors in nested tuples, lists and dicts: what functions are given and return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_attn.tensor import Tensor

__all__ = ["map_tensors", "tensors_in"]


def tensors_in(structure: Any) -> list[Tensor]:
    """All tensors of a structure, in their order; what is neither a tensor nor a tuple, list or dict has none."""
    if isinstance(structure, Tensor):
        return [structure]
    parts = structure.values() if isinstance(structure, dict) else structure
    return [each for part in parts for each in tensors_in(part)] if isinstance(structure, (tuple, list, dict)) else []


def map_tensors(function: Callable[[Tensor], Any], structure: Any) -> Any:
    """The structure with ``function(tensor)`` in place of each tensor, in the order of `tensors_in`."""
    if isinstance(structure, Tensor):
        return function(structure)
    if isinstance(structure, dict):
        return {key: map_tensors(function, part) for key, part in structure.items()}
    if isinstance(structure, (tuple, list)):
        parts = [map_tensors(function, part) for part in structure]
        return type(structure)(*parts) if hasattr(structure, "_fields") else type(structure)(parts)
    return structure
