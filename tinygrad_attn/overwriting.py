"""writes_over: how an op is computed when an operand's memory may take the result, since nothing reads it any more.

An op never writes to its operands: others may have them. A captured program (`tinygrad_attn.capture`) knows after which
line nobody reads an array again, and may then have the next result in its memory, which is in the cache already::

    @writes_over(softsign.forward, "x")
    def _softsign_over_x(x):  # the same parameters, the same bits
        return np.divide(x, 1.0 + np.abs(x), out=x if x.flags.carray else None)

The variant has to see for itself that it can use the memory, and do without it if not: an operand may be read-only, or
broadcast, so that elements share theirs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

__all__ = ["Variant", "variant_of", "writes_over"]

_F = TypeVar("_F", bound=Callable[..., Any])


class Variant(NamedTuple):
    """The other way to compute what a kernel computes."""

    function: Callable[..., Any]
    position: int  # of the argument that it may write to


_variants: dict[Callable[..., Any], Variant] = {}


def writes_over(kernel: Callable[..., Any], name: str) -> Callable[[_F], _F]:
    """Register a function that computes what ``kernel`` does, an op's forward or a kernel of its derivative, with the
    same bits, and may write to its argument ``name``."""

    def register(function: _F) -> _F:
        _variants[kernel] = Variant(function, list(inspect.signature(kernel).parameters).index(name))
        return function

    return register


def variant_of(kernel: Callable[..., Any]) -> Variant | None:
    """What `writes_over` has registered for a kernel."""
    return _variants.get(kernel)
