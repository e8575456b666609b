"""additive_score: v · tanh(q_t + k_j), the attention score of Bahdanau et al. 2015."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.kernels.attention import additive as kernels
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import only_floats
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.pointwise import add, tanh
from tinygrad_attn.ops.reduction import sum
from tinygrad_attn.ops.shape import unsqueeze
from tinygrad_attn.public import public
from tinygrad_attn.rule import once_per_node
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["additive_score"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    batch, queries, length, size = draw.integer(0, 2), draw.integer(0, 3), draw.integer(0, 3), draw.integer(1, 3)
    return Sample((draw.floats((batch, queries, size)), draw.floats((batch, length, size)), draw.floats((size,))))


_query, _keys = np.ones((2, 3, 4)), np.ones((2, 5, 4))


@public("F")
@op(
    r"z_{tj} = v \cdot \tanh(q_t + k_j)",
    samples=_samples,
    errors=[
        ErrorSample((_query[0], _keys, np.ones(4)), {}, ValueError, r"query \(B, T, A\).* \(3, 4\)"),
        ErrorSample((_query, _keys[:1], np.ones(4)), {}, ValueError, r"keys \(B, S, A\).* \(1, 5, 4\)"),
        ErrorSample((_query, _keys, np.ones(3)), {}, ValueError, r"energy \(A,\).* \(3,\)"),
    ],
    symbols={"q": "query", "k": "keys", "v": "energy"},
)
def additive_score(query: Array, keys: Array, energy: Array) -> Array:
    """Score each query against each key of its sequence.

    Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", 2015: there the
    query is W_a s, for a decoder's state s, and the key U_a h_j, for the annotation h_j of the j-th symbol.

    Args:
        query: ``(B, T, A)``.
        keys: ``(B, S, A)``.
        energy: v, ``(A,)``.

    Returns:
        ``(B, T, S)``.

    Raises:
        ValueError: shapes other than these.
        TypeError: other operands than floats.
    """
    only_floats("additive_score", query)
    _check_shapes(query, keys, energy)
    return kernels.additive_scores(query, keys, energy)


def units(query: Tensor, keys: Tensor) -> Tensor:
    """tanh(q_t + k_j), ``(B, T, S, A)``."""
    return tanh(add(unsqueeze(query, 2), unsqueeze(keys, 1)))


@once_per_node
def units_gradient(g: Tensor, query: Tensor, keys: Tensor, energy: Tensor) -> Tensor:
    """The gradient of q_t + k_j for each pair, ``(B, T, S, A)``."""
    h = units(query, keys)
    return unsqueeze(g, -1) * energy * (1.0 - h * h)


_UNITS = r"\quad h_{tj} = \tanh(q_t + k_j)"
additive_score.vjp(
    "query",
    rf"\textstyle\sum_j \bar z_{{tj}}\, v \odot (1 - h_{{tj}}^2), {_UNITS}",
    lambda g, query, keys, energy: sum(units_gradient(g, query, keys, energy), 2),
)
additive_score.vjp(
    "keys",
    rf"\textstyle\sum_t \bar z_{{tj}}\, v \odot (1 - h_{{tj}}^2), {_UNITS}",
    lambda g, query, keys, energy: sum(units_gradient(g, query, keys, energy), 1),
)
additive_score.vjp(
    "energy",
    rf"\textstyle\sum_{{tj}} \bar z_{{tj}}\, h_{{tj}}, {_UNITS}",
    lambda g, query, keys: sum(unsqueeze(g, -1) * units(query, keys), (0, 1, 2)),
)


@additive_score.composed_of
def _additive_score_reference(query: Tensor, keys: Tensor, energy: Tensor) -> Tensor:
    _check_shapes(query, keys, energy)
    return matmul(units(query, keys), energy)


@additive_score.kernel
def _additive_score_gradients(g: Array, query: Array, keys: Array, energy: Array) -> tuple[Array, ...]:
    return kernels.additive_scores_backward(g, query, keys, energy)


def _check_shapes(query: Any, keys: Any, energy: Any) -> None:
    shapes = tuple(np.shape(operand) for operand in (query, keys, energy))
    if (
        tuple(map(len, shapes)) != (3, 3, 1)
        or shapes[0][0] != shapes[1][0]
        or not shapes[0][2] == shapes[1][2] == shapes[2][0]
    ):
        raise ValueError(
            "additive_score: the shapes must be query (B, T, A), keys (B, S, A) and energy (A,), "
            f"they are {shapes[0]}, {shapes[1]} and {shapes[2]}"
        )
