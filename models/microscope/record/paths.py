"""The paths by which the gradient of the loss reaches each encoder state, and their norms.

With attention, a state h_j affects the loss as a value, in the weighted sums; as a key, in the scores; and through the
encoder's next states and the decoder's first. Each path is one or several edges of the graph, whose contributions the
record keeps separately. Without attention there is only the last path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn import nn
from tinygrad_attn.record import Output

from .schema import Paths
from .sites import AttentionSite
from .trace import Traced

__all__ = ["find_paths"]

Array = np.ndarray[Any, Any]


def find_paths(traced: Traced, sites: Sequence[AttentionSite], run: str, tokens: Sequence[str]) -> Paths | None:
    """The norms of the gradient of each encoder state, by path.

    None if a site attends to a tensor that is computed from the states by other ops than those handled here.

    Args:
        traced: the pass.
        sites: its attention sites.
        run: the name of the run.
        tokens: the source's symbols.
    """
    length = len(tokens)
    modules = dict(traced.model.named_modules())
    value, score = np.zeros((length, 1)), np.zeros((length, 1))
    projecting = False
    for site in sites:
        if site.role != "cross":
            continue
        module = modules[site.module.partition(".")[2]]
        projecting = isinstance(module, nn.MultiheadAttention)
        found = (
            _through_projections(module, site)
            if isinstance(module, nn.MultiheadAttention)
            else _through_attention(traced, site)
        )
        if found is None:
            return None
        value, score = value + found[0], score + found[1]
    recurrence, start = np.zeros((length, 1)), np.zeros((length, 1))
    if not projecting:
        recurrence, start = _through_states(traced, length)
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


def _through_attention(traced: Traced, site: AttentionSite) -> tuple[Array, Array] | None:
    """The gradients of the encoder's states (S, D) as values and as keys of a site that attends to them."""
    values, keys = site.quantities["V"], site.quantities.get("K")
    value = values.gradient
    assert value is not None
    if len(value) > 1:
        return None
    score = np.zeros(value.shape[1:])
    states = traced.maker(values.origins()[0])
    if keys is not None and keys.gradient is not None:
        # The keys are the states themselves, or a linear map of them, whose contribution to the states is recorded.
        score = keys.gradient[0]
        source = traced.maker(keys.origins()[0])
        while source != states:
            if not isinstance(source, Output) or 0 not in source.call.contributions:
                return None
            contribution = source.call.contributions[0]
            if contribution.size % len(score):
                return None
            score = contribution.reshape(len(score), -1)
            source = traced.maker(source.call.inputs[0])
    return value[0], score


def _through_projections(attention: nn.MultiheadAttention, site: AttentionSite) -> tuple[Array, Array]:
    """The gradients of the encoder's output (S, E) through the projections to values and to keys."""
    size = attention.embed_dim
    weights = (
        [attention.in_proj_weight.array[i * size : (i + 1) * size] for i in (1, 2)]
        if attention.in_proj_weight is not None
        else [attention.k_proj_weight.array, attention.v_proj_weight.array]
    )
    found = []
    for name, weight in zip("KV", weights, strict=True):
        gradient = site.quantities[name].gradient
        assert gradient is not None
        found.append(gradient.transpose(1, 0, 2).reshape(gradient.shape[1], size) @ weight)
    return found[1], found[0]


def _through_states(traced: Traced, length: int) -> tuple[Array, Array]:
    """The gradient of the states (S, D) of the encoder's last layer from its next states and the decoder's start.

    Also the part from the decoder's start alone. Both directions are concatenated.
    """
    stacks = [
        call
        for call in traced.calls
        if call.op.name == "stack" and call.module.endswith(".encoder") and len(call.inputs) == length
        and all(isinstance(source, Output) and source.call.step is not None for source in call.inputs)
    ]  # fmt: skip
    if not stacks:
        return np.zeros((length, 1)), np.zeros((length, 1))
    directions = 2 if _bidirectional(traced) else 1
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
