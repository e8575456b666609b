"""A gallery of deliberately wrong derivatives (common mistakes), to see which check catches them.

Each replaces the right derivative inside a ``with``, for all threads. The forward pass stays right, so only a check of
the gradient can find it. For some numbers the wrong derivative has the right value; then no check can.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_attn.contexts import Context, context, undone_by
from tinygrad_attn.op import Op, registered_ops
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.pointwise import add
from tinygrad_attn.ops.reduction import mean, sum
from tinygrad_attn.ops.shape import unsqueeze
from tinygrad_attn.tensor import Tensor

from ...console.errors import CommandError

__all__ = ["GALLERY", "Mistake", "broken_derivative"]

Array = np.ndarray[Any, Any]
Swapped = Context  # which gives a tuple of ops

_one_at_a_time = threading.RLock()


@dataclass(frozen=True)
class Mistake:
    """A wrong derivative of `GALLERY`."""

    op: str
    """The op whose derivative is wrong."""
    shows: str
    """The condition under which it differs from the right one."""
    swap: Callable[[], Swapped]
    """A context that replaces the right derivative and yields the ops with the wrong one."""


@context
def broken_derivative(name: str) -> Iterator[tuple[Op, ...]]:
    """Compute with a wrong derivative of `GALLERY`, inside ``unfused()``.

    Yields:
        The ops with the wrong derivative: it had an effect if one of them ran.

    Raises:
        CommandError: no such name.
    """
    if name not in GALLERY:
        raise CommandError(f"there is no broken derivative {name!r}; there are {', '.join(GALLERY)}")
    with _one_at_a_time, GALLERY[name].swap() as ops:
        yield ops


@context
def _softmax_without_second_term() -> Iterator[tuple[Op, ...]]:
    """dL/de = α ⊙ dL/dα: as if each weight depended on its own score alone."""
    ops = tuple(registered_ops()[name] for name in ("softmax", "masked_softmax"))
    right = [op.rules["input"] for op in ops]

    def restore() -> None:
        for op, rule in zip(ops, right, strict=True):
            op.vjp("input", rule.formula, rule.function, rule.kernel)

    with undone_by(restore):
        for op in ops:
            op.vjp("input", r"z \odot \bar z", lambda g, z: g * z, kernel=True)
        yield ops


@context
def _composed_of(name: str, reference: Callable[..., Tensor], wrong: Op) -> Iterator[tuple[Op, ...]]:
    """Give a composite op another reference, which uses the wrong op."""
    op = registered_ops()[name]
    right = op.reference
    assert right is not None
    with undone_by(lambda: op.composed_of(right)):
        op.composed_of(reference)
        yield (wrong,)


def _additive_without_tanh() -> Swapped:
    """dL/d(q + k) = v dL/de: as if the tanh were not there."""

    def tanh(input: Array) -> Array:
        return np.tanh(input)

    wrong = Op(tanh, r"z = \tanh x", None, (), 1, (), False)
    wrong.vjp("input", r"\bar z", lambda g: g, kernel=True)

    def reference(query: Tensor, keys: Tensor, energy: Tensor) -> Tensor:
        return matmul(wrong(add(unsqueeze(query, 2), unsqueeze(keys, 1))), energy)

    return _composed_of("additive_score", reference, wrong)


def _layer_norm_gamma_outside() -> Swapped:
    """dL/dx = γ ρ (ḡ - mean ḡ - x̂ mean(ḡ ⊙ x̂)): γ belongs inside the means, with ḡ."""

    def normalized(x: Any, dims: tuple[int, ...], eps: float) -> tuple[Any, Any]:
        array = x.array if isinstance(x, Tensor) else x
        rate = 1.0 / np.sqrt(array.var(axis=dims, keepdims=True) + eps)
        return (array - array.mean(axis=dims, keepdims=True)) * rate, rate

    def layer_norm(
        input: Array, weight: Array, bias: Array, /, *, normalized_shape: tuple[int, ...] = (), eps: float = 1e-5
    ) -> Array:
        return normalized(input, _last(normalized_shape), eps)[0] * weight + bias

    wrong = Op(layer_norm, r"z = \hat x \odot w + b", None, (), 1, (), False)

    def for_input(g: Any, input: Any, weight: Any, normalized_shape: tuple[int, ...], eps: float) -> Any:
        dims = _last(normalized_shape)
        normal, rate = (Tensor(array) for array in normalized(input, dims, eps))
        return weight * rate * (g - mean(g, dims, keepdim=True) - normal * mean(g * normal, dims, keepdim=True))

    def for_weight(g: Any, input: Any, normalized_shape: tuple[int, ...], eps: float) -> Any:
        normal = Tensor(normalized(input, _last(normalized_shape), eps)[0])
        return sum(g * normal, tuple(range(g.ndim - len(normalized_shape))))

    wrong.vjp(
        "input",
        r"\rho\, w \odot (\bar z - \operatorname{mean} \bar z - \hat x \odot \operatorname{mean}(\bar z \odot \hat x))",
        for_input,
    )
    wrong.vjp("weight", r"\textstyle\sum_{\text{rows}} \bar z \odot \hat x", for_weight)
    wrong.vjp("bias", r"\textstyle\sum_{\text{rows}} \bar z", lambda g: g)

    def reference(
        input: Tensor, weight: Tensor | None, bias: Tensor | None, normalized_shape: tuple[int, ...], eps: float
    ) -> Tensor:
        ones = np.ones(normalized_shape, input.dtype)
        scale = Tensor(ones) if weight is None else weight
        shift = Tensor(0.0 * ones) if bias is None else bias
        return wrong(input, scale, shift, normalized_shape=normalized_shape, eps=eps)

    return _composed_of("layer_norm", reference, wrong)


def _last(normalized_shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(-len(normalized_shape), 0))


GALLERY = {
    "softmax-without-second-term": Mistake(
        "softmax", "where the sum of weights times their gradients is not 0", _softmax_without_second_term
    ),
    "additive-without-tanh": Mistake("additive_score", "where tanh is not nearly its argument", _additive_without_tanh),
    "layernorm-gamma-outside": Mistake(
        "layer_norm",
        "where γ differs from channel to channel, as after training; a new model's γ is 1 throughout",
        _layer_norm_gamma_outside,
    ),
}
"""By name: softmax for every model that attends, the additive score for Bahdanau's and Luong's concat, layer norm for
the Transformer."""
