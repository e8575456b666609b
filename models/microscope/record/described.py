"""The JSON of an attention site: labels, tensors, formulas and steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinygrad_attn.nn import SCORES, Score
from tinygrad_attn.record import gradient_state

from .arrays import Store
from .example import Example
from .formulas import Shown, step_formulas, tensor_formulas
from .schema import Site, SiteTensor, Step, Token
from .sites import AttentionSite, Quantity
from .tape import norm
from .trace import Traced

__all__ = ["described_site"]

_AXES = {
    "Q": ["head", "query", "channel"],
    "K": ["head", "key", "channel"],
    "V": ["head", "key", "channel"],
    "logits": ["head", "query", "symbol"],
    **{name: ["head", "query", "key"] for name in ("scores", "weights", "gaussian", "mixed")},
    **{name: ["head", "query", "channel"] for name in ("context", "joined", "attentional")},
}
_PRIORITIES = {"joined": "decoder", "attentional": "decoder", "logits": "logits"}


def described_site(
    traced: Traced, site: AttentionSite, store: Store, example: Example, tokens: Sequence[Token]
) -> Site:
    """The site's JSON; its arrays go into ``store``.

    Args:
        traced: the pass.
        site: the site.
        store: the store of arrays.
        example: what the model read.
        tokens: the prediction after each symbol.
    """
    read = [token["read"] for token in tokens]
    source = read if example.source is None else example.source["tokens"]
    queries, keys = {"self": (source, source), "causal": (read, read), "cross": (read, source)}[site.role]
    _, rows, columns = site.quantities["scores"].value.shape
    shown = _shown(site)
    formulas = tensor_formulas(shown)
    tensors = {
        name: _tensor(traced, f"{site.id}: {name}", quantity, _AXES[name], formulas.get(name, ("", "")), store)
        for name, quantity in site.quantities.items()
    }
    layer = [part for part in site.id.split(".") if part.isdecimal()]
    return {
        "id": site.id,
        "role": site.role,
        "score": site.score,
        "module": site.module,
        "layer": int(layer[0]) if layer else None,
        "heads": len(site.quantities["weights"].value),
        "scale": site.scale,
        "queries": _labels(queries, rows),
        "keys": _labels(keys, columns),
        "tensors": tensors,
        "mask": None if site.mask is None else store.put(f"{site.id}: mask", site.mask, "site"),
        "weights": {name: store.put(f"{site.id}: {name}", array, "weight") for name, array in site.parameters.items()},
        "recipes": dict(SCORES.get(site.score, Score).recipes),
        "context_at": site.context_at,
        "steps": _steps(shown, tensors),
    }


def _labels(symbols: Sequence[str], count: int) -> list[str]:
    """The symbols as labels; numbers if the axis has another length."""
    return list(symbols) if len(symbols) == count else [str(place) for place in range(count)]


def _shown(site: AttentionSite) -> Shown:
    """What the site's formulas depend on."""
    context, part = site.quantities["context"].gradient, site.joined_part("gradient")
    channels = site.quantities["Q"].value.shape[-1] if "Q" in site.quantities else 0
    usual = channels and math.isclose(site.scale, channels**-0.5)
    return Shown(
        score=site.score,
        masked=site.mask is not None,
        local="mixed" in site.quantities,
        scale=Shown.scale if usual else f"{site.scale:.6g}",
        context_at=site.context_at is not None,
        rest=context is not None and part is not None and not np.array_equal(context, part, equal_nan=True),
        outcomes=site.outcomes,
    )


def _steps(shown: Shown, tensors: dict[str, SiteTensor]) -> list[Step]:
    return [
        {
            "key": key,
            "tensor": tensor,
            "latex": latex,
            "backward": [{"tensor": read, "latex": formula} for read, formula in backward],
            "calls": tensors[tensor]["calls"] if tensor in tensors else [],
        }
        for key, tensor, latex, backward in step_formulas(shown)
    ]


def _tensor(
    traced: Traced, name: str, quantity: Quantity, axes: list[str], formulas: tuple[str, str], store: Store
) -> SiteTensor:
    value, gradient = quantity.value, quantity.gradient
    priority = _PRIORITIES.get(name.rpartition(" ")[2], "site")
    return {
        "axes": axes,
        "shape": list(value.shape),
        "value": store.put(name, value, priority),
        "gradient": None if gradient is None else store.put(f"dL/d {name}", gradient, priority),
        "state": gradient_state(gradient),
        "norm": norm(value),
        "gradient_norm": None if gradient is None else norm(gradient),
        "latex": formulas[0],
        "gradient_latex": formulas[1],
        "calls": [traced.numbers[call] for call in quantity.calls() if call in traced.numbers],
    }
