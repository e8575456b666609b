"""An equation that holds for right numbers, as an entry of the badge."""

from __future__ import annotations

from ..record.schema import Identity

__all__ = ["equation"]


def equation(site: str, name: str, latex: str, worst: float, tolerance: float) -> Identity:
    """The entry; it holds if the largest error is within the tolerance, which a nan never is."""
    return {
        "site": site,
        "name": name,
        "latex": latex,
        "holds": bool(worst <= tolerance),
        "worst": float(worst),
        "tolerance": float(tolerance),
    }
