"""Recomputes an attention site in plain NumPy, from its formulas and without the engine.

Every number is computed from the recorded numbers before it: scores from Q and K, dL/dscores from dL/dweights and the
weights, and so on. So a failure is at the formula that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_attn.nn import SCORES, Score

from ..record.sites import AttentionSite
from .rounding import Rounded, rounded, value_of
from .softmax import softmax

__all__ = ["recompute"]

Array = np.ndarray[Any, Any]


def recompute(site: AttentionSite) -> dict[tuple[str, str], Any]:
    """All tensors that follow from Q, K, V and dL/dcontext, by name and "value" or "gradient".

    Those that depend on the score are computed by `Score.witness`. Gradients that never arrived are left out, and so
    are those that would follow from them. Each is a `Rounded`, which knows the terms that may have cancelled in it, or
    a plain array if the score's witness uses functions that `Rounded` does not know.
    """
    values: dict[str, Any] = {name: rounded(quantity.value) for name, quantity in site.quantities.items()}
    gradients: dict[str, Any] = {
        name: None if quantity.gradient is None else rounded(quantity.gradient)
        for name, quantity in site.quantities.items()
    }
    found: dict[tuple[str, str], Any] = {}
    score, operands = _witness(site)
    scores = _witnessed(score.witness, *operands)
    if scores is not None:
        found["scores", "value"] = scores
    found["weights", "value"] = softmax(values["scores"], site.mask)
    if "gaussian" in values:
        found["mixed", "value"] = values["weights"] * values["gaussian"]
    mixed = values.get("mixed", values["weights"])
    found["context", "value"] = np.einsum("htj,hjc->htc", mixed, values["V"])

    for_context, for_scores = gradients["context"], gradients["scores"]
    if for_context is None or for_scores is None:
        return found
    found["V", "gradient"] = np.einsum("htj,htc->hjc", mixed, for_context)
    for_mixed = np.einsum("htc,hjc->htj", for_context, values["V"])
    if "gaussian" in values:
        found["mixed", "gradient"] = for_mixed
        found["gaussian", "gradient"] = for_mixed * values["weights"]
        found["weights", "gradient"] = for_mixed * values["gaussian"]
    else:
        found["weights", "gradient"] = for_mixed
    for_weights = gradients["weights"]
    assert for_weights is not None
    mean = np.sum(values["weights"] * for_weights, axis=-1, keepdims=True)
    found["scores", "gradient"] = values["weights"] * (for_weights - mean)
    through_scores = _witnessed(score.witness_gradients, for_scores, *operands) or {}
    found.update({(name, "gradient"): array for name, array in through_scores.items()})
    return found


def _witnessed(witness: Callable[..., Any], *operands: Any) -> Any:
    """The result of a score's witness, computed again on plain arrays if it cannot use `Rounded` ones."""
    try:
        return witness(*operands)
    except (TypeError, AttributeError):
        return witness(*map(_plain, operands))


def _plain(operand: Any) -> Any:
    return {k: value_of(v) for k, v in operand.items()} if isinstance(operand, dict) else value_of(operand)


def _witness(site: AttentionSite) -> tuple[type[Score], tuple[Rounded, Rounded | None, dict[str, Any]]]:
    """The score, and the arguments of its witness: Q, K and parameters; the base `Score` if Q is not announced."""
    keys = site.quantities.get("K")
    score = SCORES.get(site.score, Score) if "Q" in site.quantities else Score
    query = rounded(site.quantities["Q" if "Q" in site.quantities else "scores"].value)
    parameters = {name: rounded(array) for name, array in site.parameters.items()}
    return score, (query, None if keys is None else rounded(keys.value), {**parameters, "s": site.scale})
