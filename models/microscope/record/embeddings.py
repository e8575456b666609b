"""The gradient at the embeddings, through everything: how each symbol that is read affects the loss of each token.

How much a symbol matters is told in three ways: by the gradient's size; by ⟨x_j, ∂L_t/∂x_j⟩, by which the loss would
change, to first order, if x_j grew by its own length; and by what happens to the loss when x_j is replaced by zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.record import Call, Output

from .arrays import Store
from .example import Example
from .replay import Replay
from .schema import Token
from .single_tokens import Embedded
from .trace import Traced
from .views import EmbeddedSide, Embeddings

__all__ = ["described_embeddings"]

Array = np.ndarray[Any, Any]

_MOST_ERASED = 64
"""The most symbols that are erased one by one, each of which is a forward pass."""


def described_embeddings(
    traced: Traced, after: set[Call], store: Store, example: Example, tokens: Sequence[Token]
) -> Embeddings | None:
    """The JSON; None if the model looks no embeddings up, or nothing is finite.

    Args:
        traced: the pass.
        after: the calls that depend on the target.
        store: the store of arrays.
        example: what the model read.
        tokens: the prediction after each symbol.
    """
    embedded = traced.embedded
    if not embedded.tokens:
        return None
    read = {"source": [] if example.source is None else example.source["tokens"], "target": [t["read"] for t in tokens]}
    sides: dict[str, EmbeddedSide] = {}
    for name, names in read.items():
        places = [n for n, output in enumerate(embedded.outputs) if (output.call in after) == (name == "target")]
        if sum(embedded.outputs[n].value[..., 0].size for n in places) == len(names) > 0:
            sides[name] = _side(traced, embedded, places, names, store, name)
    return {"tokens": embedded.tokens, "sides": sides} if sides else None


def _side(
    traced: Traced, embedded: Embedded, places: Sequence[int], names: Sequence[str], store: Store, name: str
) -> EmbeddedSide:
    """The symbols of one side."""
    outputs = [embedded.outputs[n] for n in places]
    values = np.concatenate([_flat(output.value) for output in outputs])
    total = np.concatenate([_flat(output.gradient) for output in outputs])  # type: ignore[arg-type]
    each = np.array([np.concatenate([found[n] for n in places]) for found in embedded.gradients])
    return {
        "names": list(names),
        "norms": store.put(f"norms at the {name}'s embeddings", np.linalg.norm(each, axis=-1), "parameter"),
        "effects": store.put(f"effects of the {name}'s embeddings", np.sum(each * values, axis=-1), "parameter"),
        "total_norms": [float(x) for x in np.linalg.norm(total, axis=-1)],
        "total_effects": [float(x) for x in np.sum(total * values, axis=-1)],
        "erased": _erased(traced, outputs) if len(names) <= _MOST_ERASED else None,
    }


def _flat(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])


def _erased(traced: Traced, outputs: Sequence[Output]) -> list[float]:
    """By how much the loss changes if the embedding of one symbol is zeros."""
    replay, before = Replay(traced), float(traced.loss.values[0])
    changes = []
    for output in outputs:
        for row in range(_flat(output.value).shape[0]):
            array = output.value.copy()
            array.reshape(-1, array.shape[-1])[row] = 0.0
            changes.append(replay.loss([(output, array)]) - before)
    return changes
