"""count_parameters: how large a module will be, before its memory is asked for; hollow, the module without it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.nn.module import Module, Parameter

__all__ = ["count_parameters", "empty_parameter", "hollow"]


class _Counting(threading.local):
    active = False


_counting = _Counting()


class _Counted(Parameter):
    """A parameter without elements, in place of one with so many ``elements``."""

    __slots__ = ("elements",)
    elements: int

    def __deepcopy__(self, memo: dict[int, Any]) -> _Counted:
        copy = super().__deepcopy__(memo)
        assert isinstance(copy, _Counted)
        copy.elements = self.elements
        return copy


def empty_parameter(shape: int | tuple[int, ...], dtype: Any) -> Parameter:
    """A parameter of this shape, not initialised; while `count_parameters` counts, one without elements.

    Raises:
        MemoryError: it would not fit into memory.
    """
    if not _counting.active:
        try:
            return Parameter(np.empty(shape, dtype))
        except (ValueError, MemoryError):  # a ValueError where even the number of bytes is too large
            raise MemoryError(f"a parameter of shape {shape} does not fit into memory") from None
    axes = shape if isinstance(shape, tuple) else (shape,)
    parameter = _Counted(np.empty((0,) * len(axes), dtype))
    parameter.elements = math.prod(axes)
    return parameter


def count_parameters(make: Callable[[], Module]) -> int:
    """The number of elements of all parameters of the module that ``make`` makes; they take no memory meanwhile.

    A shared parameter counts once. Parameters that are made otherwise than by the package's layers, in a module of a
    user's own, take their memory, and count as well.
    """
    if not callable(make):
        raise TypeError(f"count_parameters: expected a function that makes a module, got {shown(make)}")
    return sum(hollow(make)[1].values())


def hollow(make: Callable[[], Module]) -> tuple[Module, dict[str, int]]:
    """The module that ``make`` makes, whose parameters have their axes and no elements, and by path how many each is to
    have; see `count_parameters`."""
    before = _counting.active
    try:
        _counting.active = True
        module = make()
    finally:
        _counting.active = before
    sizes = {name: p.elements if isinstance(p, _Counted) else p.numel() for name, p in module.named_parameters()}
    return module, sizes
