"""Rows of a table by their numbers: token to vector."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.kernels.scatter import scatter_add_rows
from tinygrad_attn.op import op
from tinygrad_attn.ops.compare import eq
from tinygrad_attn.ops.elementwise import where
from tinygrad_attn.ops.index import index_add
from tinygrad_attn.ops.shape import reshape, unsqueeze
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["embedding"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    rows, width = draw.integer(2, 4), draw.integer(0, 4)
    padding_idx = draw.choice([None, 0, -1])
    # The row for padding is not used here: by intent its gradient is not what finite differences would find.
    numbers = draw.integers(draw.shape((0, 2)), int(padding_idx == 0), rows - 1 - int(padding_idx == -1))
    return Sample((numbers, draw.floats((rows, width))), {"padding_idx": padding_idx})


_table = np.ones((3, 2))


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
)
def embedding(input: Array, weight: Array, padding_idx: int | None = None) -> Array:
    """The rows of ``weight`` that ``input`` numbers.

    The gradient of a row is the sum of the gradients of all its uses; the row ``padding_idx`` gets none.

    Args:
        input: integers from 0 to ``V - 1``, of any shape.
        weight: the table, ``(V, D)``.
        padding_idx: a row that is looked up but not trained; counted from the end if negative.

    Returns:
        ``input.shape + (D,)``.

    Raises:
        IndexError: a number, or ``padding_idx``, that the table has no row for.
        TypeError: ``input`` does not hold integers.
        ValueError: ``weight`` does not have two axes.
    """
    if input.dtype.kind not in "iu":
        raise TypeError(f"embedding: input must hold integers, it is {input.dtype}")
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight must have two axes (rows, width), its shape is {weight.shape}")
    rows = len(weight)
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise IndexError(f"embedding: padding_idx {padding_idx} is out of range for weight with {rows} rows")
    if input.size:
        lowest, highest = int(input.min()), int(input.max())
        if lowest < 0 or highest >= rows:
            wrong = lowest if lowest < 0 else highest
            raise IndexError(f"embedding: index {wrong} is out of range for weight with {rows} rows (0 to {rows - 1})")
    return np.take(weight, input, axis=0)


def _weight_gradient(g: Tensor, input: Tensor, shapes: Any, padding_idx: int | None) -> Tensor:
    rows, width = shapes[1]
    if padding_idx is not None:
        g = where(unsqueeze(eq(input, padding_idx % rows), -1), 0.0, g)
    count = input.numel()
    zeros = Tensor(np.zeros((rows, width), g.dtype))
    return index_add(zeros, 0, reshape(input, (count,)), reshape(g, (count, width)))


def _weight_gradient_kernel(g: Array, input: Array, shapes: Any, padding_idx: int | None) -> Array:
    gradient = scatter_add_rows(np.zeros(shapes[1], g.dtype), input, g)
    if padding_idx is not None:
        gradient[padding_idx] = 0.0
    return gradient


embedding.vjp(
    "weight",
    r"\bar W_v = \textstyle\sum_{i:\, x_i = v} \bar z_i \;\text{ for } v \ne \text{padding}",
    _weight_gradient,
    kernel=_weight_gradient_kernel,
)
