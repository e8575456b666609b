"""By which ways, and how strongly, the loss reaches each state of the encoder.

With attention a state h_j acts as a value, in the weighted sums; as a key, in the scores; and through the encoder's
next states and the decoder's first. Each way is an edge of the graph, or several, whose contributions the record keeps
apart. Without attention there is the last way alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.record import Leaf, Output

from .schema import Paths
from .sites import Place
from .trace import Traced

__all__ = ["find_paths"]

Array = np.ndarray[Any, Any]


def find_paths(traced: Traced, places: Sequence[Place], run: str, tokens: Sequence[str]) -> Paths:
    """The norms of the gradient of each encoder state, by way.

    Args:
        traced: the pass.
        places: its places of attention.
        run: the name of the run.
        tokens: the source's symbols.
    """
    crossing = [place for place in places if place.role == "cross"]
    of_heads = bool(places) and places[0].score == "scaled_dot_product"
    length = len(tokens)
    if of_heads:
        value, score = _through_projections(traced, crossing, length)
        recurrence, start = np.zeros_like(value), np.zeros_like(value)
    else:
        value, score = _through_attention(crossing, length)
        recurrence, start = _through_states(traced, length)
    width = max(array.shape[1] for array in (value, score, recurrence))
    value, score, recurrence, start = (_widened(array, width) for array in (value, score, recurrence, start))
    return {
        "run": run,
        "model": type(traced.model).__name__,
        "tokens": list(tokens),
        "value": _norms(value),
        "score": _norms(score),
        "recurrence": _norms(recurrence),
        "start": _norms(start),
        "total": _norms(value + score + recurrence),
        "loss": float(traced.loss.values[0]),
    }


def _norms(rows: Array) -> list[float]:
    return [float(norm) for norm in np.sqrt((rows * rows).sum(axis=1))]


def _widened(rows: Array, width: int) -> Array:
    return rows if rows.shape[1] == width else np.zeros((len(rows), width))


def _through_attention(places: Sequence[Place], length: int) -> tuple[Array, Array]:
    """What reaches the encoder's states (S, D) as values and as keys."""
    if not places:
        return np.zeros((length, 1)), np.zeros((length, 1))
    (place,) = places
    value = place.quantities["V"].gradient
    assert value is not None
    score = np.zeros(value.shape[1:])
    states = _state_of(place.quantities["V"].parts[0].source)
    key = place.quantities.get("K")
    if key is not None:
        # The keys are the states themselves, or a linear map of them, which sends back along its edge to the states.
        gradient = key.gradient
        source = _state_of(key.parts[0].source)
        if source == states and gradient is not None:
            score = gradient[0]
        else:
            while isinstance(source, Output) and source != states:
                contribution = source.call.contributions.get(0)
                if contribution is None:
                    break
                score = contribution.reshape(length, -1)
                source = _state_of(source.call.inputs[0])
    return value[0], score


def _state_of(source: Output | Leaf | None) -> Output | Leaf | None:
    while isinstance(source, Output) and source.call.op.name in (
        "alias",
        "transpose",
        "unsqueeze",
        "squeeze",
        "reshape",
    ):
        source = source.call.inputs[0]
    return source


def _through_projections(traced: Traced, places: Sequence[Place], length: int) -> tuple[Array, Array]:
    """What reaches the encoder's output (S, E) through the projections to values and to keys of all layers."""
    modules = dict(traced.model.named_modules())
    value, score = np.zeros((length, 1)), np.zeros((length, 1))
    for place in places:
        attention: Any = modules[place.module.partition(".")[2]]
        size = attention.embed_dim
        weights = (
            [attention.in_proj_weight.array[i * size : (i + 1) * size] for i in (1, 2)]
            if attention.in_proj_weight is not None
            else [attention.k_proj_weight.array, attention.v_proj_weight.array]
        )
        for name, weight in zip("KV", weights, strict=True):
            gradient = place.quantities[name].gradient
            assert gradient is not None
            joined = gradient.transpose(1, 0, 2).reshape(length, size) @ weight
            if name == "V":
                value = value + joined
            else:
                score = score + joined
    return value, score


def _through_states(traced: Traced, length: int) -> tuple[Array, Array]:
    """What reaches the states (S, D) of the encoder's last layer from its next states and from the decoder's start, and
    the latter alone; the directions side by side."""
    stacks = [
        call
        for call in traced.calls
        if call.op.name == "stack" and call.module.endswith(".encoder") and len(call.inputs) == length
        and all(isinstance(source, Output) and source.call.step is not None for source in call.inputs)
    ]  # fmt: skip
    directions = 2 if getattr(traced.model, "encoder", None) is not None and _bidirectional(traced) else 1
    recurrences, starts = [], []
    for stack in stacks[-directions:]:
        states = np.asarray(stack.values[0])[:, 0]
        start, recurrence = np.zeros_like(states), np.zeros_like(states)
        for row, source in enumerate(stack.inputs):
            assert isinstance(source, Output)
            for call, position in traced.record.uses(source):
                if call is stack or position not in call.contributions:
                    continue
                recurrence[row] += call.contributions[position][0]
                if call.step is None:  # no step of the encoder: the final state, on its way to the decoder
                    start[row] += call.contributions[position][0]
        recurrences.append(recurrence)
        starts.append(start)
    return np.concatenate(recurrences, axis=1), np.concatenate(starts, axis=1)


def _bidirectional(traced: Traced) -> bool:
    return bool(getattr(getattr(traced.model, "encoder", None), "bidirectional", False))
