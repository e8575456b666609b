"""Gradients beside differences of the loss, which come from running the recorded forward pass again with one number
changed.

A difference of a step h is uncertain for three reasons: the loss is rounded (by δ, so the difference by δ / h), it
bends within the step (the difference changes with h), and it may have a kink there, as relu has at 0, where the
derivative jumps. Steps of several sizes tell them apart. A cell fails only if its gradient differs by more than all of
that; where a difference cannot tell, the cell says why.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tinygrad_attn.record import Leaf, Output

from ...console.working import worked_off
from ..record.replay import Replay
from ..record.schema import Cell, Kink
from ..record.sites import AttentionSite
from ..record.trace import Traced
from .ops import bends_within, side_of_kink

__all__ = ["TOLERANCE", "compare_with_differences"]

Array = np.ndarray[Any, Any]
Change = list[tuple[Output | Leaf, Array]]
Reason = Literal["", "rounding", "kink", "curvature", "not_finite"]

TOLERANCE = 1e-5
"""The tolerance of differences, relative to the largest element of the gradient."""
_STEPS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-3, 1e-2)
"""In the order in which they are tried: a sharp softmax needs smaller ones, a tiny gradient larger ones."""
_SAFETY = 8.0
"""How many times an estimate of an uncertainty a difference may be off before it counts as wrong."""
_SAMPLED = ("Q", "K", "V", "scores", "weights", "context")
_PARAMETERS = 8


def compare_with_differences(
    traced: Traced, sites: Sequence[AttentionSite], rounding: float, samples: int, rng: np.random.Generator
) -> list[Cell]:
    """Sampled cells of the gradients of every site's tensors, and of some parameters, each with its difference.

    Args:
        traced: the pass.
        sites: its attention sites.
        rounding: the error of the loss by rounding (see `models.microscope.checks.ops.TapeCheck`).
        samples: how many cells of each tensor's gradient, the largest among them.
        rng: chooses the others.
    """
    chosen = list(_samples(traced, sites, samples, rng))
    replay = Replay(traced)
    comparing = worked_off(chosen, "comparing gradients with differences of the loss", len(chosen))
    return [_compared(traced, replay, sample, rounding) for sample in comparing]


def _samples(
    traced: Traced, sites: Sequence[AttentionSite], samples: int, rng: np.random.Generator
) -> Iterator[_Sample]:
    """The cells to compare; see `compare_with_differences`."""
    for site in sites:
        for tensor in _SAMPLED:
            quantity = site.quantities.get(tensor)
            gradient = None if quantity is None else quantity.gradient
            if quantity is None or gradient is None:
                continue
            for cell in _chosen(gradient, samples, rng):

                def moved(by: float, quantity: Any = quantity, cell: Any = cell) -> Change:
                    return list(quantity.perturbed(cell, by))

                yield _Sample(site.id, tensor, cell, gradient, float(quantity.value[cell]), moved)
    gradients = {name: leaf for name, leaf in traced.parameters().items() if leaf.gradient is not None}
    for name in _spread(gradients, _PARAMETERS):
        leaf = gradients[name]
        assert leaf.gradient is not None
        shaped = leaf.gradient.reshape(1, -1, leaf.gradient.shape[-1] if leaf.gradient.ndim > 1 else leaf.gradient.size)
        (cell,) = _chosen(shaped, 1, rng)

        def changed(by: float, leaf: Any = leaf, cell: Any = cell, shape: Any = shaped.shape) -> Change:
            array = leaf.value.copy()
            array.reshape(shape)[cell] += by
            return [(leaf, array)]

        yield _Sample("", name, cell, shaped, float(leaf.value.reshape(shaped.shape)[cell]), changed)


def _spread(names: Mapping[str, Any], count: int) -> list[str]:
    """At most ``count`` of the names, evenly spread."""
    listed = list(names)
    if len(listed) <= count:
        return listed
    return [listed[i] for i in sorted(set(np.linspace(0, len(listed) - 1, count).round().astype(int).tolist()))]


def _chosen(gradient: Array, samples: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """The cell with the largest gradient, and others at random."""
    largest = int(np.argmax(np.nan_to_num(np.abs(gradient), nan=np.inf)))
    others = [int(i) for i in rng.permutation(gradient.size)[:samples] if int(i) != largest]
    cells = [np.unravel_index(i, gradient.shape) for i in [largest, *others][:samples]]
    return [(int(head), int(row), int(column)) for head, row, column in cells]


@dataclass(frozen=True)
class _Sample:
    """One cell of a gradient."""

    site: str
    tensor: str
    cell: tuple[int, int, int]
    gradient: Array
    value: float
    """Of the cell itself."""
    moved: Callable[[float], Change]
    """The arrays to replace so that the cell moves by a number."""


@dataclass(frozen=True)
class _Difference:
    """The differences of one step."""

    eps: float
    plus: float
    minus: float
    left: float
    """(L(x) - L(x - eps)) / eps."""
    right: float
    rounding: float
    """By how much the rounding of the loss may have changed them."""

    @property
    def central(self) -> float:
        return (self.plus - self.minus) / (2.0 * self.eps)


def _compared(traced: Traced, replay: Replay, sample: _Sample, rounding: float) -> Cell:
    """The cell's gradient beside the central difference of the loss that says most."""
    found, largest = float(sample.gradient[sample.cell]), float(np.abs(sample.gradient).max())
    middle = float(traced.loss.values[0])
    if not (np.isfinite(found) and np.isfinite(largest) and np.isfinite(middle)):
        nothing = _Difference(np.nan, middle, middle, np.nan, np.nan, np.nan)
        return _cell(sample, nothing, np.nan, "not_finite", None)
    tolerance = TOLERANCE * largest
    tried: list[_Difference] = []
    for step in _STEPS:
        eps = step * max(1.0, abs(sample.value))
        plus, minus = replay.loss(sample.moved(eps)), replay.loss(sample.moved(-eps))
        tried.append(_Difference(eps, plus, minus, (middle - minus) / eps, (plus - middle) / eps, rounding / eps))
        if abs(tried[-1].central - found) <= tolerance and largest > 0.0:
            return _cell(sample, tried[-1], tried[-1].rounding, "", None)
    best, uncertainty = _most_certain(tried)
    if abs(best.central - found) > _SAFETY * uncertainty:
        # Between two ends where a softmax is saturated the loss looks flat, whatever its slope in the middle.
        near = [each for each in tried if not _bends_within(replay, sample, each.eps)]
        if len(near) < 2:
            return _cell(sample, best, uncertainty, "curvature", None)
        best, uncertainty = _most_certain(near)
    difference = abs(best.central - found)
    kink = _find_kink(traced, replay, sample, best)
    if not np.isfinite(difference):
        return _cell(sample, best, uncertainty, "curvature", kink)
    if difference <= _SAFETY * uncertainty:
        reason: Reason = "kink" if kink else "rounding" if best.rounding >= 0.5 * uncertainty else "curvature"
        return _cell(sample, best, uncertainty, reason, kink)
    return _cell(sample, best, uncertainty, "kink" if kink else "", kink)


def _most_certain(tried: Sequence[_Difference]) -> tuple[_Difference, float]:
    """The difference whose uncertainty is least, and that: how far the next larger step's is from it, and rounding."""
    ordered = sorted(tried, key=lambda each: each.eps)
    known = [
        (abs(larger.central - smaller.central) + smaller.rounding, smaller)
        for smaller, larger in itertools.pairwise(ordered)
    ]
    uncertainty, best = min(known, key=lambda pair: (np.inf if np.isnan(pair[0]) else pair[0], pair[1].eps))
    return best, uncertainty


def _cell(sample: _Sample, best: _Difference, uncertainty: float, reason: Reason, kink: Kink | None) -> Cell:
    found, largest = float(sample.gradient[sample.cell]), float(np.abs(sample.gradient).max())
    scale = max(largest, abs(best.central), np.finfo(float).tiny)
    error = abs(best.central - found) / scale
    return {
        "site": sample.site, "tensor": sample.tensor, "head": sample.cell[0], "row": sample.cell[1],
        "column": sample.cell[2], "gradient": found, "difference": best.central, "left": best.left,
        "right": best.right, "plus": best.plus, "minus": best.minus, "eps": best.eps, "error": error,
        "uncertainty": uncertainty, "largest": largest, "resolved": not reason, "reason": reason, "kink": kink,
        "holds": bool(reason) or bool(error <= TOLERANCE),
    }  # fmt: skip


def _bends_within(replay: Replay, sample: _Sample, eps: float) -> bool:
    """Whether a step is so long that an op such as softmax is past its bend at its end."""
    return any(
        bends_within(call.op.name, call.arrays, there)
        for by in (eps, -eps)
        for call, there in replay.arrays(sample.moved(by)).items()
    )


def _find_kink(traced: Traced, replay: Replay, sample: _Sample, difference: _Difference) -> Kink | None:
    """The first op with a kink inside the step: an element of it is on another side of it there."""
    moved = [replay.arrays(sample.moved(by)) for by in (difference.eps, -difference.eps)]
    for call, there in moved[0].items():
        here = side_of_kink(call.op.name, call.arrays, call.options)
        if here is None:
            continue
        sides: Iterable[Any] = (side_of_kink(call.op.name, arrays, call.options) for arrays in (there, moved[1][call]))
        for side in sides:
            if not np.array_equal(side, here):
                cell = [int(i) for i in np.argwhere(side != here)[0]]
                return {
                    "call": traced.numbers.get(call),
                    "op": traced.name(call.op),
                    "module": call.module,
                    "cell": cell,
                }
    return None
