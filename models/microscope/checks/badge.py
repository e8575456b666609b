"""The verification badge: three independent checks of the numbers that the page shows.

None of them uses the engine's derivatives. Plain NumPy recomputes every number of an attention site
(`models.microscope.checks.attention`) and every op of the tape (`models.microscope.checks.ops`). Central differences of
the loss, for sampled cells, come from running the recorded forward pass again with one number changed. Identities are
equations that hold for correct derivatives, whatever the numbers are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_attn.nn import SCORES, Score

from ..record.replay import Replay
from ..record.schema import Cell, Check, Identity
from ..record.sites import AttentionSite
from ..record.trace import Traced
from .attention import recompute
from .expressions import depends_on_sums, is_bilinear
from .ops import check_tape

__all__ = ["FLOOR", "check", "describe_worst"]

Array = np.ndarray[Any, Any]

TOLERANCE = 1e-5
"""The tolerance of central differences, relative to the largest element of the gradient."""
FLOOR = 1e-6
"""The smallest divisor of the error: the loss has 16 digits, too few for smaller gradients."""
RECOMPUTED_TOLERANCE = 1e-10
IDENTITY_TOLERANCE = 1e-10
_STEPS = (1e-4, 1e-5, 1e-6)
_SAMPLED = ("Q", "K", "V", "scores", "weights", "context")
_PARAMETERS = 8
_FAILURES = 20


def check(traced: Traced, sites: Sequence[AttentionSite], samples: int = 2, seed: int = 0) -> Check:
    """Verify a traced pass.

    Args:
        traced: the pass.
        sites: its attention sites.
        samples: how many cells of each gradient to compare with central differences, the largest among them.
        seed: of the random choice of the others.
    """
    recomputed, recomputed_worst, failures = _recomputed(sites)
    tape = check_tape(traced.calls)
    failures += tape.failures(RECOMPUTED_TOLERANCE)
    identities = [identity for site in sites for identity in _identities(site)]
    failures += [
        {"kind": "identity", "site": found["site"], "tensor": found["name"], "error": found["worst"]}
        for found in identities
        if not found["holds"]
    ]
    cells = _differences(traced, sites, samples, np.random.default_rng(seed))
    failures += [
        {
            "kind": "difference", "site": cell["site"], "tensor": cell["tensor"],
            "cell": [cell["head"], cell["row"], cell["column"]], "expected": cell["difference"],
            "found": cell["gradient"], "error": cell["error"],
        }
        for cell in cells
        if not cell["holds"]
    ]  # fmt: skip
    failures.sort(key=lambda failure: -np.nan_to_num(failure["error"], nan=np.inf))
    return {
        "ok": not failures,
        "compared": sum(cell["resolved"] for cell in cells),
        "worst": _largest([cell["error"] for cell in cells if cell["resolved"]]),
        "tolerance": TOLERANCE,
        "unresolved": sum(not cell["resolved"] for cell in cells),
        "floor": FLOOR,
        "recomputed": recomputed,
        "recomputed_worst": recomputed_worst,
        "recomputed_tolerance": RECOMPUTED_TOLERANCE,
        "replayed": tape.count,
        "replayed_worst": tape.worst,
        "unknown_ops": sorted(tape.unknown),
        "identities": identities,
        "cells": cells,
        "failing": len(failures),
        "failures": failures[:_FAILURES],
    }


def _recomputed(sites: Sequence[AttentionSite]) -> tuple[int, float, list[dict[str, Any]]]:
    """How many numbers of the sites were recomputed in plain NumPy, the largest error, and the failures."""
    count, largest = 0, 0.0
    failures: list[dict[str, Any]] = []
    for site in sites:
        for (tensor, part), expected in recompute(site).items():
            quantity = site.quantities[tensor]
            found = quantity.value if part == "value" else quantity.gradient
            if found is None:
                continue
            count += found.size
            errors = np.abs(found - expected) / max(float(np.abs(expected).max()), np.finfo(float).tiny)
            worst = float(np.max(errors))
            largest = _larger(largest, worst)
            if not worst <= RECOMPUTED_TOLERANCE:
                cell = np.unravel_index(int(np.argmax(np.nan_to_num(errors, nan=np.inf))), errors.shape)
                failures.append(
                    {
                        "kind": "recomputed", "site": site.id, "tensor": tensor, "part": part,
                        "cell": [int(i) for i in cell], "expected": float(expected[cell]), "found": float(found[cell]),
                        "error": worst,
                    }
                )  # fmt: skip
    return count, largest, failures


def describe_worst(check: Check) -> str:
    """The largest error of a failed check, in one line."""
    worst = check["failures"][0]
    found = f"{worst['kind']} {worst['tensor']}"
    if "call" in worst:
        found += f" of op {worst['call']} of the tape"
    elif worst["site"]:
        found += f" at {worst['site']}"
    if "expected" in worst:
        found += f" in {worst['cell']} is {worst['found']:.6g}, should be {worst['expected']:.6g}"
    return f"{found}, error {worst['error']:.1e}"


def _larger(before: float, error: float) -> float:
    """The larger of two errors; a nan is the largest."""
    return error if np.isnan(error) else max(before, error)


def _largest(errors: Sequence[float]) -> float:
    return float(np.max(errors)) if errors else 0.0


# -- identities --------------------------------------------------------------------------------------------------------


def _identities(site: AttentionSite) -> list[Identity]:
    """The identities that apply to the site; sums are compared relative to the sum of the terms' sizes."""
    values = {name: quantity.value for name, quantity in site.quantities.items()}
    gradients = {name: q.gradient for name, q in site.quantities.items() if q.gradient is not None}
    if not {"scores", "weights", "context", "V"} <= gradients.keys():
        return []
    for_scores = gradients["scores"]
    found: list[Identity] = []

    def add(name: str, latex: str, worst: float, tolerance: float = IDENTITY_TOLERANCE) -> None:
        found.append(
            {
                "site": site.id, "name": name, "latex": latex, "holds": bool(worst <= tolerance), "worst": worst,
                "tolerance": tolerance,
            }
        )  # fmt: skip

    # The terms of a row that cancel are as large as the weights times their gradients.
    terms = np.abs(values["weights"] * gradients["weights"]).sum(axis=-1)
    add("softmax_rows_sum_to_zero", r"\textstyle\sum_j \bar e_{tj} = 0", _relative(for_scores.sum(axis=-1), terms))
    if site.mask is not None:
        masked = ~np.broadcast_to(site.mask, for_scores.shape)
        worst = max(_largest(np.abs(array[masked]).tolist()) for array in (values["weights"], for_scores))
        add("masked_are_zero", r"M_{tj} = 0 \Rightarrow \alpha_{tj} = \bar e_{tj} = 0", worst, 0.0)
    score = SCORES.get(site.score, Score).recipes.get("scores")
    if is_bilinear(score):
        products = [values[name] * gradients[name] for name in ("Q", "K", "scores") if name in gradients]
        sums = np.array([product.sum(axis=(1, 2)) for product in products])
        sizes = np.array([np.abs(product).sum(axis=(1, 2)) for product in products]).max(axis=0)
        latex = (
            r"\langle Q, \bar Q \rangle = \langle K, \bar K \rangle = \langle e, \bar e \rangle"
            r"\quad \text{(} e \text{ is linear in } Q \text{ and in } K \text{)}"
        )
        add("inner_products_agree", latex, _relative(sums.max(axis=0) - sums.min(axis=0), sizes))
    if depends_on_sums(score) and {"Q", "K"} <= gradients.keys():
        difference = gradients["Q"].sum(axis=1) - gradients["K"].sum(axis=1)
        sizes = np.abs(gradients["Q"]).sum(axis=1) + np.abs(gradients["K"]).sum(axis=1)
        add(
            "additive_sums_agree",
            r"\textstyle\sum_t \bar Q_t = \sum_j \bar K_j \quad (e \text{ depends on } Q_t + K_j)",
            _relative(difference, sizes),
        )
    mixed = values.get("mixed", values["weights"])
    totals = np.einsum("htj,htc->hc", mixed, gradients["context"])
    latex = (
        r"\textstyle\sum_j \bar V_j = \sum_t \left(\sum_j \alpha_{tj}\right) \bar c_t = \sum_t \bar c_t"
        if "mixed" not in values
        else r"\textstyle\sum_j \bar V_j = \sum_t \left(\sum_j \beta_{tj}\right) \bar c_t"
    )
    if "mixed" not in values:
        # The weights of a fully masked row are 0; those of every other row sum to 1.
        attending = np.ones(mixed.shape[:2]) if site.mask is None else site.mask.any(axis=-1).astype(float)
        totals = np.einsum("ht,htc->hc", np.broadcast_to(attending, mixed.shape[:2]), gradients["context"])
    sizes = np.abs(gradients["context"]).sum(axis=1)
    add("values_sum_as_outputs", latex, _relative(gradients["V"].sum(axis=1) - totals, sizes))
    return found


def _relative(difference: Array, size: Array) -> float:
    """The largest difference in proportion to its size; exactly equal is 0."""
    found = np.abs(difference)
    largest = max(float(size.max()), np.finfo(float).tiny)
    return float(np.max(found)) / largest


# -- central differences -----------------------------------------------------------------------------------------------


def _differences(traced: Traced, sites: Sequence[AttentionSite], samples: int, rng: np.random.Generator) -> list[Cell]:
    replay = Replay(traced)
    cells: list[Cell] = []
    for site in sites:
        for tensor in _SAMPLED:
            quantity = site.quantities.get(tensor)
            gradient = None if quantity is None else quantity.gradient
            if quantity is None or gradient is None:
                continue
            for cell in _chosen(gradient, samples, rng):

                def moved(by: float, quantity: Any = quantity, cell: Any = cell) -> float:
                    return replay.loss(quantity.perturbed(cell, by))

                cells.append(_compared(site.id, tensor, cell, gradient, quantity.value, moved))
    gradients = {name: leaf for name, leaf in traced.parameters().items() if leaf.gradient is not None}
    for name in _spread(gradients, _PARAMETERS):
        leaf = gradients[name]
        assert leaf.gradient is not None
        shaped = leaf.gradient.reshape(1, -1, leaf.gradient.shape[-1] if leaf.gradient.ndim > 1 else leaf.gradient.size)
        (cell,) = _chosen(shaped, 1, rng)

        def changed(by: float, leaf: Any = leaf, cell: Any = cell, shape: Any = shaped.shape) -> float:
            array = leaf.value.copy()
            array.reshape(shape)[cell] += by
            return replay.loss([(leaf, array)])

        cells.append(_compared("", name, cell, shaped, leaf.value.reshape(shaped.shape), changed))
    return cells


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


def _compared(
    site: str,
    tensor: str,
    cell: tuple[int, int, int],
    gradient: Array,
    value: Array,
    loss: Callable[[float], float],
) -> Cell:
    """The cell's gradient compared with the central difference of the loss.

    A step may cross a kink of relu, so smaller steps are tried before the two count as different.
    """
    found = float(gradient[cell])
    largest = float(np.abs(gradient).max())
    resolved, scale = not largest < FLOOR, max(largest, FLOOR)
    best: Cell | None = None
    for step in _STEPS:
        eps = step * max(1.0, abs(float(value[cell])))
        plus, minus = loss(eps), loss(-eps)
        difference = (plus - minus) / (2.0 * eps)
        error = abs(found - difference) / scale
        if best is None or not error >= best["error"]:
            best = {
                "site": site, "tensor": tensor, "head": cell[0], "row": cell[1], "column": cell[2], "gradient": found,
                "difference": difference, "plus": plus, "minus": minus, "eps": eps, "error": error,
                "resolved": resolved, "holds": bool(error <= TOLERANCE),
            }  # fmt: skip
        if best["holds"]:
            break
    assert best is not None
    return best
