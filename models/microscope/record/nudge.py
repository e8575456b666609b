"""nudged: changes one weight before the pass, to see its effect on the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.nn.module import Module

from ...console.errors import CommandError
from ...setting import short

__all__ = ["nudged"]


def nudged(model: Module, nudge: dict[str, Any]) -> dict[str, Any]:
    """Change one weight, and return the nudge with the values before and after.

    Args:
        model: the model; its weight is changed in place.
        nudge: see `models.microscope.record.rerun.Rerun`.

    Raises:
        CommandError: the model has no such weight, or ``by`` is not a finite number.
    """
    parameters = dict(model.named_parameters())
    name, index, by = nudge.get("parameter"), nudge.get("index"), nudge.get("by")
    if not isinstance(name, str) or name not in parameters:
        raise CommandError(f"the model has no parameter {short(name)}; its parameters are {', '.join(parameters)}")
    array = parameters[name].array
    fits = (
        isinstance(index, (list, tuple))
        and len(index) == array.ndim
        and all(type(i) is int and 0 <= i < n for i, n in zip(index, array.shape, strict=True))
    )
    if not fits:
        raise CommandError(f"index {short(index)} is no place in {name}, whose shape is {list(array.shape)}")
    if isinstance(by, bool) or not isinstance(by, (int, float)) or not abs(by) <= np.finfo(array.dtype).max:
        raise CommandError(f"a weight is nudged by a finite number, got {short(by)}")
    place = tuple(index)  # type: ignore[arg-type]
    before = float(array[place])
    array[place] += by
    return {
        "parameter": name, "index": list(place), "by": float(by), "before": before, "after": float(array[place])
    }  # fmt: skip
