"""Wrong derivatives on purpose: the mistakes people make, to see what catches them.

Each is swapped in for as long as a ``with`` lasts, for all threads. The forward pass stays right: only a check of the
gradient tells.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_attn.op import Op, registered_ops
from tinygrad_attn.ops.elementwise import add
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.reduce import mean, sum
from tinygrad_attn.ops.shape import unsqueeze
from tinygrad_attn.tensor import Tensor

from ..errors import CommandError

__all__ = ["GALLERY", "broken_derivative"]

Array = np.ndarray[Any, Any]

_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def broken_derivative(name: str) -> Iterator[None]:
    """Compute with a wrong derivative of `GALLERY`, inside ``unfused()``.

    Raises:
        CommandError: no such name.
    """
    if name not in GALLERY:
        raise CommandError(f"there is no broken derivative {name!r}; there are {', '.join(GALLERY)}")
    with _one_at_a_time, GALLERY[name]():
        yield


@contextlib.contextmanager
def _softmax_without_second_term() -> Iterator[None]:
    """dL/de = α ⊙ dL/dα: as if each weight depended on its own score alone."""
    ops = [registered_ops()[name] for name in ("softmax", "masked_softmax")]
    right = [op.rules["input"] for op in ops]
    for op in ops:
        op.vjp("input", r"z \odot \bar z", lambda g, z: g * z, kernel=True)
    try:
        yield
    finally:
        for op, rule in zip(ops, right, strict=True):
            op.vjp("input", rule.formula, rule.function, rule.kernel)


@contextlib.contextmanager
def _composed_of(name: str, reference: Callable[..., Tensor]) -> Iterator[None]:
    """Another reference for a composite op."""
    op = registered_ops()[name]
    right = op.reference
    assert right is not None
    op.composed_of(reference)
    try:
        yield
    finally:
        op.composed_of(right)


def _additive_without_tanh() -> contextlib.AbstractContextManager[None]:
    """dL/d(q + k) = v dL/de: as if the tanh were not there."""

    def tanh(input: Array) -> Array:
        return np.tanh(input)

    wrong = Op(tanh, r"z = \tanh x", None, (), 1, (), False)
    wrong.vjp("input", r"\bar z", lambda g: g, kernel=True)

    def reference(query: Tensor, keys: Tensor, energy: Tensor) -> Tensor:
        return matmul(wrong(add(unsqueeze(query, 2), unsqueeze(keys, 1))), energy)

    return _composed_of("additive_score", reference)


def _layer_norm_gamma_outside() -> contextlib.AbstractContextManager[None]:
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

    return _composed_of("layer_norm", reference)


def _last(normalized_shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(-len(normalized_shape), 0))


GALLERY: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "softmax-without-second-term": _softmax_without_second_term,
    "additive-without-tanh": _additive_without_tanh,
    "layernorm-gamma-outside": _layer_norm_gamma_outside,
}
"""By name: softmax for every model that attends, the additive score for Bahdanau's and Luong's concat, layer norm for
the Transformer."""
