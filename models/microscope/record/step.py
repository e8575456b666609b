"""One step of an optimiser with the gradient that is shown: the change of the loss that the gradient predicts, beside
the change that comes out.

Along a direction d the loss changes by η⟨g, d⟩ to first order: for SGD, d = −g, by −η‖g‖². Adam's first step has the
direction −g/(|g| + ε), every weight by about the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinygrad_attn.record import Leaf

from ...console.errors import CommandError
from ...interface import LanguageModel
from ...setting import short
from .replay import Replay
from .trace import Traced
from .views import OptimizerStep, StepTaken

__all__ = ["OPTIMIZERS", "described_steps", "take_step"]

Array = np.ndarray[Any, Any]

_EPS = 1e-8
OPTIMIZERS: dict[str, Callable[[Array], Array]] = {
    "sgd": lambda gradient: -gradient,
    "adam": lambda gradient: -gradient / (np.abs(gradient) + _EPS),
}
"""By name the direction of the first step, of a gradient."""
_SIZES = 10.0 ** np.arange(-3.0, 1.01, 1.0 / 3.0)
"""The steps to take, as shares of the one that would bring the loss to 0 if it were a straight line."""
_FEW = _SIZES[::3]
_MANY_WEIGHTS = 2_000_000


def described_steps(traced: Traced) -> list[OptimizerStep]:
    """A row of real steps for each optimiser; empty of a pass that is not finite, or without a gradient."""
    leaves = [leaf for leaf in traced.parameters().values() if leaf.gradient is not None]
    loss = float(traced.loss.values[0])
    if not np.isfinite(loss) or not all(np.isfinite(leaf.gradient).all() for leaf in leaves):  # type: ignore[arg-type]
        return []
    sizes = _SIZES if sum(leaf.value.size for leaf in leaves) <= _MANY_WEIGHTS else _FEW
    replay, found = Replay(traced), []
    for name, direction in OPTIMIZERS.items():
        moves = {leaf: direction(leaf.gradient) for leaf in leaves}  # type: ignore[arg-type]
        slope = float(sum(np.sum(leaf.gradient * move) for leaf, move in moves.items()))
        if not slope < 0.0 or loss <= 0.0:
            continue
        rates = [float(size * loss / -slope) for size in sizes]
        found.append(
            {
                "optimizer": name,
                "slope": slope,
                "rates": rates,
                "losses": [replay.loss(_moved(moves, rate)) for rate in rates],
            }
        )
    return found  # type: ignore[return-value]


def _moved(moves: Mapping[Leaf, Array], rate: float) -> list[tuple[Leaf, Array]]:
    return [(leaf, leaf.value + rate * move) for leaf, move in moves.items()]


def take_step(model: LanguageModel, traced: Traced, step: Mapping[str, Any]) -> StepTaken:
    """Move the model's weights by one step with the gradients of a pass.

    Args:
        model: the model; its weights are changed in place.
        traced: a pass of it, before the step.
        step: see `models.microscope.record.rerun.Rerun`.

    Raises:
        CommandError: no such optimiser, or a rate that is no number from 0 on.
    """
    name, rate = step.get("optimizer"), step.get("rate")
    if not isinstance(name, str) or name not in OPTIMIZERS:
        raise CommandError(f"there is no step of {short(name)}; choose {' or '.join(OPTIMIZERS)}")
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0.0 <= rate <= np.finfo(float).max:
        raise CommandError(f"a step's rate is a number from 0 on, got {short(rate)}")
    slope = 0.0
    for leaf in traced.parameters().values():
        if leaf.gradient is not None:
            move = OPTIMIZERS[name](leaf.gradient)
            slope += float(np.sum(leaf.gradient * move))
            leaf.tensor.array[...] += rate * move
    before = float(traced.loss.values[0])
    return {"optimizer": name, "rate": float(rate), "before": before, "predicted": before + rate * slope}
