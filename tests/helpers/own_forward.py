"""Modules whose forward is the user's own."""

from __future__ import annotations

from typing import Any

from tinygrad_attn.nn import Module


def doubled(module: Module, way: str) -> None:
    """Let a module return twice what it did: as a "subclass", or by a forward that is "assigned"."""
    kind: Any = type(module)
    before = kind.forward

    def forward(self: Module, *inputs: Any, **options: Any) -> Any:
        result = before(self, *inputs, **options)
        return (2.0 * result[0], *result[1:]) if isinstance(result, tuple) else 2.0 * result

    if way == "subclass":
        module.__class__ = type("Doubled", (kind,), {"forward": forward})
    else:
        module.forward = forward.__get__(module)  # type: ignore[method-assign]
