"""Identities: equations between the numbers of a site that hold for right derivatives, whatever the numbers are.

Each compares two sums, in proportion to the terms that they were added from: where terms cancel, so do their roundings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tinygrad_attn.nn import SCORES, Score

from ..record.schema import Identity
from ..record.sites import AttentionSite
from .equations import equation
from .expressions import depends_on_sums, is_bilinear
from .rounding import terms_of

__all__ = ["find_identities"]

Array = np.ndarray[Any, Any]

_TOLERANCE = 1e-10


def find_identities(site: AttentionSite, recomputed: Mapping[tuple[str, str], Any]) -> list[Identity]:
    """The identities that apply to the site; none if a gradient is missing or a number is not finite.

    Args:
        site: the site.
        recomputed: the result of `models.microscope.checks.attention.recompute`, for the terms of its numbers.
    """
    values = {name: quantity.value for name, quantity in site.quantities.items()}
    gradients = {name: q.gradient for name, q in site.quantities.items() if q.gradient is not None}
    numbers = [*values.values(), *gradients.values()]
    if not {"scores", "weights", "context", "V"} <= gradients.keys() or not all(np.isfinite(x).all() for x in numbers):
        return []
    terms = {name: terms_of(array) for (name, part), array in recomputed.items() if part == "gradient"}
    found = [_softmax_rows(values, gradients), *_masked(site, values, gradients)]
    score = SCORES.get(site.score, Score).recipes.get("scores")
    if is_bilinear(score) and {"Q", "K"} <= terms.keys():
        found.append(_inner_products(values, gradients, {**terms, "e": terms_of(recomputed["scores", "value"])}))
    if depends_on_sums(score) and {"Q", "K"} <= terms.keys():
        found.append(_additive_sums(gradients, terms))
    found.append(_values_sum(site, values, gradients))
    return [equation(site.id, *compared) for compared in found]


Compared = tuple[str, str, float, float]
"""The name of an identity, its LaTeX, the largest difference, and the tolerance."""


def _softmax_rows(values: Mapping[str, Array], gradients: Mapping[str, Array]) -> Compared:
    # The terms of a row that cancel are as large as the weights times their gradients.
    terms = np.abs(values["weights"] * gradients["weights"]).sum(axis=-1)
    worst = _relative(gradients["scores"].sum(axis=-1), terms)
    return "softmax_rows_sum_to_zero", r"\textstyle\sum_j \bar e_{tj} = 0", worst, _TOLERANCE


def _masked(site: AttentionSite, values: Mapping[str, Array], gradients: Mapping[str, Array]) -> Iterator[Compared]:
    if site.mask is not None:
        masked = ~np.broadcast_to(site.mask, values["weights"].shape)
        worst = max(float(np.abs(each[masked]).max(initial=0.0)) for each in (values["weights"], gradients["scores"]))
        yield "masked_are_zero", r"M_{tj} = 0 \Rightarrow \alpha_{tj} = \bar e_{tj} = 0", worst, 0.0


def _inner_products(
    values: Mapping[str, Array], gradients: Mapping[str, Array], terms: Mapping[str, Array]
) -> Compared:
    sums = np.array([(values[name] * gradients[name]).sum(axis=(1, 2)) for name in ("Q", "K", "scores")])
    products = [np.abs(values[name]) * terms[name] for name in ("Q", "K")]
    products.append(terms["e"] * np.abs(gradients["scores"]))
    sizes = np.array([product.sum(axis=(1, 2)) for product in products]).max(axis=0)
    latex = (
        r"\langle Q, \bar Q \rangle = \langle K, \bar K \rangle = \langle e, \bar e \rangle"
        r"\quad \text{(} e \text{ is linear in } Q \text{ and in } K \text{)}"
    )
    return "inner_products_agree", latex, _relative(sums.max(axis=0) - sums.min(axis=0), sizes), _TOLERANCE


def _additive_sums(gradients: Mapping[str, Array], terms: Mapping[str, Array]) -> Compared:
    difference = gradients["Q"].sum(axis=1) - gradients["K"].sum(axis=1)
    latex = r"\textstyle\sum_t \bar Q_t = \sum_j \bar K_j \quad (e \text{ depends on } Q_t + K_j)"
    worst = _relative(difference, terms["Q"].sum(axis=1) + terms["K"].sum(axis=1))
    return "additive_sums_agree", latex, worst, _TOLERANCE


def _values_sum(site: AttentionSite, values: Mapping[str, Array], gradients: Mapping[str, Array]) -> Compared:
    if "mixed" in values:
        totals = np.einsum("htj,htc->hc", values["mixed"], gradients["context"])
        latex = r"\textstyle\sum_j \bar V_j = \sum_t \left(\sum_j \beta_{tj}\right) \bar c_t"
    else:
        # The weights of a fully masked row are 0; those of every other row sum to 1.
        shape = values["weights"].shape[:2]
        attending = (
            np.ones(shape) if site.mask is None else np.broadcast_to(site.mask.any(axis=-1), shape).astype(float)
        )
        totals = np.einsum("ht,htc->hc", attending, gradients["context"])
        latex = r"\textstyle\sum_j \bar V_j = \sum_t \left(\sum_j \alpha_{tj}\right) \bar c_t = \sum_t \bar c_t"
    sizes = np.abs(gradients["context"]).sum(axis=1)
    return "values_sum_as_outputs", latex, _relative(gradients["V"].sum(axis=1) - totals, sizes), _TOLERANCE


def _relative(difference: Array, size: Array) -> float:
    """The largest difference in proportion to the largest size; exactly equal is 0."""
    return float(np.abs(difference).max(initial=0.0)) / max(float(size.max(initial=0.0)), 1e-290)
