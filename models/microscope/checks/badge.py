"""The verification badge: three independent checks of the numbers that the page shows.

None of them uses the engine's derivatives. Plain NumPy recomputes every number of an attention site
(`models.microscope.checks.attention`) and every op of the tape (`models.microscope.checks.ops`). Central differences of
the loss, for sampled cells, come from running the recorded forward pass again with one number changed
(`models.microscope.checks.differences`). Identities are equations that hold for correct derivatives, whatever the
numbers are (`models.microscope.checks.identities`).

A red badge means a wrong number. Errors are told in proportion to the terms that cancel in a number, what a difference
cannot resolve is counted with its reason, and a pass that is not finite has a state of its own, with its source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..record.schema import Cell, Check, Identity
from ..record.sites import AttentionSite
from ..record.trace import Traced
from ..record.uses import ParameterUses
from .attention import recompute
from .differences import TOLERANCE, compare_with_differences
from .embeddings import find_embedding_identities
from .finite import describe_not_finite, find_not_finite
from .identities import find_identities
from .layers import find_layer_identities
from .ops import check_tape
from .rounding import relative_error, value_of
from .uses import find_use_identities

__all__ = ["RECOMPUTED_TOLERANCE", "check", "compare_recomputed", "describe_worst"]

Array = np.ndarray[Any, Any]
Failure = dict[str, Any]

RECOMPUTED_TOLERANCE = 1e-10
_FAILURES = 20


def check(
    traced: Traced, sites: Sequence[AttentionSite], parameters: Sequence[ParameterUses] = (), samples: int = 2,
    seed: int = 0, witnessed: Sequence[Identity] = (),
) -> Check:  # fmt: skip
    """Verify a traced pass.

    Args:
        traced: the pass.
        sites: its attention sites.
        parameters: its parameters with their uses.
        samples: how many cells of each gradient to compare with central differences, the largest among them.
        seed: of the random choice of the others.
        witnessed: further comparisons that a witness outside has made.
    """
    not_finite = find_not_finite(traced)
    spoilt = not_finite is not None and not_finite["reaches"]
    witnesses = [recompute(site) for site in sites]
    count, largest, failures = compare_recomputed(sites, witnesses, spoilt)
    tape = check_tape(traced.calls)
    identities = [
        each for site, witness in zip(sites, witnesses, strict=True) for each in find_identities(site, witness)
    ]
    identities += [*find_use_identities(parameters), *find_embedding_identities(traced), *find_layer_identities(traced)]
    identities += witnessed
    cells = compare_with_differences(traced, sites, tape.rounding, samples, np.random.default_rng(seed))
    failures += [*tape.failures(RECOMPUTED_TOLERANCE), *_failing(identities, cells)]
    reasons = Counter(cell["reason"] for cell in cells if not cell["resolved"])
    return {
        "state": "bad" if failures else "not_finite" if spoilt else "good",
        "ok": not failures and not spoilt,
        "not_finite": not_finite,
        "compared": sum(cell["resolved"] for cell in cells),
        "worst": float(np.max([cell["error"] for cell in cells if cell["resolved"]], initial=0.0)),
        "tolerance": TOLERANCE,
        "unresolved": sum(reasons.values()),
        "unresolved_because": dict(sorted(reasons.items())),
        "rounding": tape.rounding,
        "recomputed": count,
        "recomputed_worst": largest,
        "recomputed_tolerance": RECOMPUTED_TOLERANCE,
        "replayed": tape.count,
        "replayed_worst": tape.worst,
        "unknown_ops": sorted(tape.unknown),
        "identities": identities,
        "cells": cells,
        "failing": len(failures),
        "failures": _worst(failures),
    }


def compare_recomputed(
    sites: Sequence[AttentionSite], witnesses: Sequence[Mapping[tuple[str, str], Any]], spoilt: bool
) -> tuple[int, float, list[Failure]]:
    """How many numbers of the sites were recomputed in plain NumPy, the largest error, and the failures.

    Of a pass that is not finite (``spoilt``) only the numbers that are finite are compared.
    """
    count, largest = 0, 0.0
    failures: list[Failure] = []
    for site, witness in zip(sites, witnesses, strict=True):
        for (tensor, part), expected in witness.items():
            quantity = site.quantities[tensor]
            found = quantity.value if part == "value" else quantity.gradient
            if found is None:
                continue
            numbers = value_of(expected)
            errors = relative_error(found, expected)
            if spoilt:
                finite = np.isfinite(found) & np.isfinite(numbers)
                errors = np.where(finite, errors, 0.0)
                count += int(finite.sum())
            else:
                count += found.size
            worst = float(np.max(errors, initial=0.0))
            largest = worst if np.isnan(worst) else max(largest, worst)
            if not worst <= RECOMPUTED_TOLERANCE:
                cell = np.unravel_index(int(np.argmax(np.nan_to_num(errors, nan=np.inf))), errors.shape)
                failures.append(
                    {
                        "kind": "recomputed", "site": site.id, "tensor": tensor, "part": part,
                        "cell": [int(i) for i in cell], "expected": float(numbers[cell]), "found": float(found[cell]),
                        "error": worst,
                    }
                )  # fmt: skip
    return count, largest, failures


def _failing(identities: Sequence[Identity], cells: Sequence[Cell]) -> list[Failure]:
    """The identities that do not hold, and the cells that differ from their differences."""
    failures: list[Failure] = [
        {"kind": "identity", "site": found["site"], "tensor": found["name"], "error": found["worst"]}
        for found in identities
        if not found["holds"]
    ]
    failures += [
        {
            "kind": "difference", "site": cell["site"], "tensor": cell["tensor"],
            "cell": [cell["head"], cell["row"], cell["column"]], "expected": cell["difference"],
            "found": cell["gradient"], "error": cell["error"],
        }
        for cell in cells
        if not cell["holds"]
    ]  # fmt: skip
    return failures


def _worst(failures: Sequence[Failure]) -> list[Failure]:
    """The worst failures: in turns the next of each kind, first of those that show the wrong op itself."""
    ordered: list[tuple[int, int, Failure]] = []
    for rank, kind in enumerate(("replayed", "recomputed", "difference", "identity")):
        those = [failure for failure in failures if failure["kind"] == kind]
        those.sort(key=lambda failure: -np.nan_to_num(failure["error"], nan=np.inf))
        ordered += [(turn, rank, failure) for turn, failure in enumerate(those)]
    return [failure for _, _, failure in sorted(ordered, key=lambda each: each[:2])][:_FAILURES]


def describe_worst(check: Check) -> str:
    """The largest error of a failed check, or the source of what is not finite, in one line."""
    if check["state"] == "not_finite" and check["not_finite"] is not None:
        return describe_not_finite(check["not_finite"])
    worst = check["failures"][0]
    found = f"{worst['kind']} {worst['tensor']}"
    if "call" in worst:
        found += f" of op {worst['call']} of the tape"
    elif worst["site"]:
        found += f" at {worst['site']}"
    if "expected" in worst:
        found += f" in {worst['cell']} is {worst['found']:.6g}, should be {worst['expected']:.6g}"
    return f"{found}, error {worst['error']:.1e}"
