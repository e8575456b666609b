"""embedding: rows of a table by index; placed_embedding: scaled, plus a vector for each position."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.kernels.indices import highest_index
from tinygrad_attn.kernels.scatter import scattered_rows
from tinygrad_attn.op import op
from tinygrad_attn.ops.comparison import eq
from tinygrad_attn.ops.indexing import index_add
from tinygrad_attn.ops.pointwise import add, mul, where
from tinygrad_attn.ops.shape import reshape, unsqueeze
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["embedding", "placed_embedding"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    rows, width = draw.integer(2, 4), draw.integer(0, 4)
    padding_idx = draw.choice([None, 0, -1])
    # The row for padding is not used here: its gradient is 0 on purpose, which finite differences would contradict.
    numbers = draw.integers(draw.shape((0, 2)), int(padding_idx == 0), rows - 1 - int(padding_idx == -1))
    return Sample((numbers, draw.floats((rows, width))), {"padding_idx": padding_idx})


_table = np.ones((3, 2))


def _check(name: str, input: Array, weight: Array, padding_idx: int | None) -> None:
    """Raise unless the table has a row for every index."""
    if input.dtype.kind not in "iu":
        raise TypeError(f"{name}: input must hold integers, it is {input.dtype}")
    if weight.ndim != 2:
        raise ValueError(f"{name}: weight must have two axes (rows, width), its shape is {weight.shape}")
    rows = len(weight)
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise IndexError(f"{name}: padding_idx {padding_idx} is out of range for weight with {rows} rows")
    if input.size and highest_index(input) >= rows:
        wrong = min(int(input.min()), 0) or int(input.max())
        raise IndexError(f"{name}: index {wrong} is out of range for weight with {rows} rows (0 to {rows - 1})")


@public("F")
@op(
    r"z_i = W_{x_i}",
    samples=_samples,
    errors=[
        ErrorSample((np.array([1, 3]), _table), {}, IndexError, "index 3 .* 3 rows"),
        ErrorSample((np.array([-1, 0]), _table), {}, IndexError, "index -1 .* 3 rows"),
        ErrorSample((np.array([0.0]), _table), {}, TypeError, "integers"),
        ErrorSample((np.array([0]), np.ones(3)), {}, ValueError, "two axes"),
        ErrorSample((np.array([0]), _table), {"padding_idx": 3}, IndexError, "padding_idx 3 .* 3 rows"),
        ErrorSample((np.array([0]), _table), {"max_norm": 1.0}, TypeError, "max_norm"),
        ErrorSample((np.array([0]), _table), {"sparse": True}, TypeError, "sparse"),
        ErrorSample((np.array([0]), _table), {"scale_grad_by_freq": True}, TypeError, "scale_grad_by_freq"),
    ],
    symbols={"W": "weight", r"\text{padding}": "padding_idx"},
)
def embedding(input: Array, weight: Array, padding_idx: int | None = None) -> Array:
    """The rows of ``weight`` at the indices in ``input``.

    The gradient of a row is the sum of the gradients of all its uses; the row ``padding_idx`` gets none.

    Args:
        input: integers from 0 to ``V - 1``, of any shape.
        weight: the table, ``(V, D)``.
        padding_idx: a row that is looked up but not trained; counted from the end if negative.

    Returns:
        ``input.shape + (D,)``.

    Raises:
        IndexError: an index, or ``padding_idx``, for which the table has no row.
        TypeError: ``input`` does not hold integers.
        ValueError: ``weight`` does not have two axes.
    """
    _check("embedding", input, weight, padding_idx)
    return weight.take(input, 0)


def _weight_gradient(g: Tensor, input: Tensor, shapes: Any, padding_idx: int | None) -> Tensor:
    rows, width = shapes[1]
    if padding_idx is not None:
        g = where(unsqueeze(eq(input, padding_idx % rows), -1), 0.0, g)
    count = input.numel()
    zeros = Tensor(np.zeros((rows, width), g.dtype))
    return index_add(zeros, 0, reshape(input, (count,)), reshape(g, (count, width)))


def _weight_gradient_kernel(g: Array, input: Array, shapes: Any, padding_idx: int | None) -> Array:
    gradient = scattered_rows(shapes[1], input, g)
    if padding_idx is not None:
        gradient[padding_idx] = 0.0
    return gradient


embedding.vjp(
    "weight",
    r"\bar W_v = \textstyle\sum_{i:\, x_i = v} \bar z_i \;\text{ for } v \ne \text{padding}",
    _weight_gradient,
    kernel=_weight_gradient_kernel,
)


# -- with a scale and positions ----------------------------------------------------------------------------------------


def _placed_samples(draw: Draw) -> Sample:
    sample = _samples(draw)
    numbers, table = sample.operands
    positions = draw.floats(draw.broadcastable((*numbers.shape, table.shape[1])))
    return Sample((numbers, table, positions), {**sample.options, "scale": draw.choice([1.0, 2.5])})


@public("F")
@op(
    r"z_i = s\,W_{x_i} + p_i",
    samples=_placed_samples,
    errors=[
        ErrorSample((np.array([1, 3]), _table, _table), {"scale": 1.0}, IndexError, "index 3 .* 3 rows"),
        ErrorSample(
            (np.array([1, 0]), _table, _table), {"scale": 1.0}, ValueError, r"positions of shape \(3, 2\) .* \(2, 2\)"
        ),
    ],
    symbols={"W": "weight", "p": "positions", "s": "scale", r"\text{padding}": "padding_idx"},
)
def placed_embedding(
    input: Array, weight: Array, positions: Array, /, *, scale: float, padding_idx: int | None = None
) -> Array:
    r"""The input of a Transformer's first layer: rows of ``weight`` times ``scale``, plus a vector for each position.

    Vaswani et al., "Attention Is All You Need", 2017, sections 3.4 and 3.5.

    Args:
        input: integers from 0 to ``V - 1``, ``(..., T)``.
        weight: the table, ``(V, D)``.
        positions: ``(T, D)``, or another shape that broadcasts to ``(..., T, D)``.
        scale: :math:`\sqrt D` in the paper.
        padding_idx: as in `embedding`.

    Returns:
        ``(..., T, D)``.

    Raises:
        IndexError, TypeError: as `embedding`.
        ValueError: ``weight`` does not have two axes, or ``positions`` does not broadcast.
    """
    _check("placed_embedding", input, weight, padding_idx)
    _check_positions(positions, (*input.shape, weight.shape[1]))
    z = weight.take(input, 0)
    if scale != 1.0:
        z *= scale
    z += positions
    return z


def _check_positions(positions: Array | Tensor, shape: tuple[int, ...]) -> None:
    lead = len(shape) - positions.ndim
    if lead < 0 or any(n not in (1, m) for n, m in zip(positions.shape, shape[max(lead, 0) :], strict=False)):
        raise ValueError(f"placed_embedding: positions of shape {positions.shape} do not broadcast to {shape}")


placed_embedding.vjp(
    "weight",
    r"\bar W_v = s \textstyle\sum_{i:\, x_i = v} \bar z_i \;\text{ for } v \ne \text{padding}",
    lambda g, input, shapes, scale, padding_idx: _weight_gradient(g * scale, input, shapes, padding_idx),
)
placed_embedding.vjp("positions", r"\bar z", lambda g: g)


@placed_embedding.composed_of
def _placed_embedding_reference(
    input: Tensor, weight: Tensor, positions: Tensor, scale: float, padding_idx: int | None
) -> Tensor:
    _check_positions(positions, (*input.shape, weight.shape[1]))
    return add(mul(embedding(input, weight, padding_idx), scale), positions)


@placed_embedding.kernel
def _placed_embedding_gradients(
    g: Array, input: Array, weight: Array, scale: float, padding_idx: int | None, needs: tuple[bool, ...]
) -> tuple[None, Array | None, Array]:
    if not needs[1]:
        return None, None, g
    scaled = g if scale == 1.0 else g * scale
    return None, _weight_gradient_kernel(scaled, input, (None, weight.shape), padding_idx), g
