"""The losses of single tokens, each followed back to the embeddings.

Each token of the target has a loss L_t of its own, and backward from that alone gives ∂L_t/∂x_j for every embedding
x_j. Their mean is the gradient of the loss, which is the mean of the L_t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_attn import unfused
from tinygrad_attn.autograd import grad
from tinygrad_attn.record import Call, Output, Record
from tinygrad_attn.tensor import Tensor

from ...console.working import worked_off
from ..checks.softmax import cross_entropies, softmax

__all__ = ["Embedded", "find_embedded", "looks_up"]

Array = np.ndarray[Any, Any]

_OPS = 300_000
"""About how many ops backward from single tokens may run; of longer texts the tokens of the largest loss are told."""
_LEAST = 8


@dataclass(frozen=True)
class Embedded:
    """The embeddings that a pass read, and the gradients of single tokens' losses."""

    outputs: list[Output]
    """Of the ops that look them up, in order; those of the source first."""
    tokens: list[int]
    """The tokens whose losses were differentiated."""
    gradients: list[list[Array]]
    """For each of them and each output ∂L_t/∂x, (symbols, E)."""
    again: list[Array]
    """Of all tokens' mean loss for each output ∂L/∂x, from a third of the seed and times 3: the same but for rounding,
    which it shows. Empty if only some tokens were followed."""

    def complete(self, count: int) -> bool:
        """Whether these are all of ``count`` tokens, so that their mean is the gradient."""
        return len(self.tokens) == count


def find_embedded(recorded: Record, logits: Tensor, expected: Sequence[int], parameters: set[int]) -> Embedded:
    """The gradients of the tokens' losses at the embeddings.

    Call it while the graph of the recorded pass is still there, and outside `record`.

    Args:
        recorded: the pass.
        logits: (1, T, V), of the pass.
        expected: T ids.
        parameters: the ids of the model's parameters, as tensors.
    """
    calls = [call for call in recorded.calls if not call.during_backward]
    outputs = [Output(call, 0) for call in calls if looks_up(call, parameters) and call.gradients[0] is not None]
    losses = cross_entropies(logits.array[0], expected)
    most = max(_LEAST, _OPS // max(1, len(calls)))
    chosen = sorted(np.argsort(-losses, kind="stable")[:most].tolist()) if outputs and np.isfinite(losses).all() else []
    tensors = [recorded.tensor_of(output) for output in outputs]
    gradients = []
    with unfused():
        for t in worked_off(chosen, "following single tokens' losses", len(chosen)):
            found = grad(logits, tensors, _seed(logits.array, t, expected[t]), retain_graph=True, allow_unused=True)
            gradients.append([_rows(gradient, output) for gradient, output in zip(found, outputs, strict=True)])
        again = []
        if len(chosen) == len(expected):
            seeds = [_seed(logits.array, t, expected[t]).array for t in chosen]
            third = Tensor(np.sum(seeds, axis=0) / (3.0 * len(expected)))
            found = grad(logits, tensors, third, retain_graph=True, allow_unused=True)
            again = [3.0 * _rows(gradient, output) for gradient, output in zip(found, outputs, strict=True)]
    return Embedded(outputs, chosen, gradients, again)


def looks_up(call: Call, parameters: set[int]) -> bool:
    """Whether a call reads rows of a parameter by the ids of symbols."""
    return call.op.name == "embedding" and id(getattr(call.inputs[1], "tensor", None)) in parameters


def _seed(logits: Array, t: int, expected: int) -> Tensor:
    """∂L_t/∂logits: p − 1 at the expected symbol, in row t."""
    seed = np.zeros_like(logits)
    seed[0, t] = softmax(logits[0, t])
    seed[0, t, expected] -= 1.0
    return Tensor(seed)


def _rows(gradient: Tensor | None, output: Output) -> Array:
    array = np.zeros_like(output.value) if gradient is None else gradient.array
    return array.reshape(-1, array.shape[-1])
