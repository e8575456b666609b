"""States in the vocabulary: what a state says if the output layer read it, and what its gradient asks for.

The output layer turns a vector x into a number for each symbol, W x + b. Applied to the state after any layer it tells
which symbols the state argues for already (the "logit lens", nostalgebraist 2020). Applied to −∂L/∂x, the direction in
which a step of gradient descent would move the state, it tells which symbols the gradient asks for, and which it asks
to drop (Katz et al., "Backward Lens: Projecting Language Model Gradients into the Vocabulary Space", 2024).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn import no_grad
from tinygrad_attn.record import Call, Mark, Output
from tinygrad_attn.tensor import Tensor

from ..checks.softmax import softmax
from .example import Example, symbols_of
from .layers import find_passed, gradient_of
from .parameters import makes_logits
from .trace import Traced
from .views import Lens, LensToken, Vocabulary

__all__ = ["described_vocabulary"]

Array = np.ndarray[Any, Any]

_SAYS, _ASKS = 5, 4


class _Output(NamedTuple):
    """The output layer."""

    call: Call
    """The product W x."""
    weight: Array
    """(E, V), as the product has it."""
    bias: Array
    """(V,)."""
    norm: Any
    """The norm that makes its input from the last state, a module; None if there is none."""


class _State(NamedTuple):
    name: str
    sublayer: str
    value: Array
    """(T, E)."""
    gradient: Array


def described_vocabulary(traced: Traced, after: set[Call], example: Example) -> Vocabulary | None:
    """The JSON; None of a model without an announced, linear output layer, or of a pass that is not finite."""
    output = _output(traced) if traced.logits.size else None
    if output is None or not np.isfinite(traced.logits).all():
        return None
    tokenizer = example.run.target if example.run else None
    states: list[Lens] = []
    for state in _states(traced, output, after):
        logits = _read(output, state.value) + output.bias
        asks = -state.gradient @ output.weight
        if not (np.isfinite(logits).all() and np.isfinite(asks).all()):
            return None
        rows = zip(softmax(logits), asks, traced.expected, strict=True)
        tokens = [_token(says, wants, expected, tokenizer) for says, wants, expected in rows]
        states.append({"name": state.name, "sublayer": state.sublayer, "tokens": tokens})
    return {"normed": output.norm is not None, "states": states}


def _token(says: Array, asks: Array, expected: int, tokenizer: Any) -> LensToken:
    """The largest numbers of one token."""

    def named(numbers: Array, order: Array) -> list[tuple[str, float]]:
        ids = [int(i) for i in order]
        return [(symbol, float(numbers[i])) for symbol, i in zip(symbols_of(ids, tokenizer), ids, strict=True)]

    ranked = np.argsort(-asks, kind="stable")
    return {
        "says": named(says, np.argsort(-says, kind="stable")[:_SAYS]),
        "expected": float(says[expected]),
        "asks": named(asks, ranked[:_ASKS]),
        "drops": named(asks, ranked[::-1][:_ASKS]),
        "asks_expected": float(asks[expected]),
    }


def _output(traced: Traced) -> _Output | None:
    """The output layer, if the logits are one product, with or without a bias."""
    calls = makes_logits(traced)
    if len(calls) != 1:
        return None
    (call,) = calls
    x, weight = call.arrays
    count = traced.logits.shape[-1]
    if weight.ndim != 2 or weight.shape[1] != count or x.size // x.shape[-1] != len(traced.logits):
        return None
    product = call.values[0].reshape(-1, count)
    return _Output(call, weight, (traced.logits - product)[0], _final_norm(traced, call))


def _final_norm(traced: Traced, call: Call) -> Any:
    """The module outside all layers whose norm the output layer reads; None if it reads something else."""
    source = call.inputs[0]
    for mark in traced.record.marks:
        if mark.name == "norm" and mark.source == source and "layers" not in mark.module.rpartition(".")[0].split("."):
            path = mark.module.partition(".")[2]
            module = dict(traced.model.named_modules()).get(path)
            return module if module is not None and module is not traced.model else None
    return None


def _read(output: _Output, state: Array) -> Array:
    """The product of the output layer with a state, after the final norm if it is not already normed."""
    if output.norm is not None:
        with no_grad():
            state = output.norm(Tensor(state)).array
    return state @ output.weight


def _states(traced: Traced, output: _Output, after: set[Call]) -> Iterator[_State]:
    """The states of the width that the output layer reads, a row for each token, the first layer's first."""
    width, count = output.weight.shape[0], len(traced.expected)

    def rows(mark: Mark) -> Array | None:
        value = mark.source.value
        fits = value.shape[-1] == width and value.size == width * count and mark.source.call in after
        return value.reshape(count, width) if fits else None

    first = True
    for passed in find_passed(traced):
        read = rows(passed.skip)
        if read is not None and first:
            yield _State("", "embeddings", read, passed.total.reshape(count, width))
            first = False
        made = None if passed.output is None else rows(passed.output)
        if made is not None and passed.output is not None:
            name = ".".join(passed.branch.module.split(".")[-2:])
            gradient = gradient_of(passed.output).reshape(count, width)
            yield _State(name, str(passed.branch.details.get("sublayer", "")), made, gradient)
    if first:  # no layers: what the output layer reads itself
        source = output.call.inputs[0]
        arrived = source.gradient if isinstance(source, Output) else None
        value = output.call.arrays[0].reshape(count, width)
        yield _State("", "output", value, np.zeros_like(value) if arrived is None else arrived.reshape(count, width))
