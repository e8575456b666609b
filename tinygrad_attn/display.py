"""Tensors as text, and as tables for Jupyter."""

from __future__ import annotations

from html import escape

import numpy as np

from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor

__all__: list[str] = []


@public("Tensor.__repr__")
def _text(x: Tensor) -> str:
    """The numbers, and the op that made them."""
    body = np.array2string(x.array, separator=", ", prefix="tensor(", precision=4, threshold=200, edgeitems=3)
    notes = "" if x.dtype in (default_dtype, np.int64, np.bool_) else f", dtype={x.dtype}"
    if 0 in x.shape:
        notes = f", shape={x.shape}" + notes
    if x.node is not None:
        notes += f", made by {x.node.op.name}"
    elif x._requires_grad:
        notes += ", requires_grad=True"
    return f"tensor({body}{notes})"


@public("Tensor.__format__")
def _formatted(x: Tensor, spec: str) -> str:
    """A number by the format ``spec``, other tensors as text."""
    return format(x.item(), spec) if spec and x.array.size == 1 else _text(x)


@public("Tensor._repr_html_")
def _table(x: Tensor) -> str:
    """A table of the numbers for Jupyter, for one or two axes of moderate size."""
    if not 1 <= x.ndim <= 2 or x.array.size == 0 or max(x.shape) > 24:
        return f"<pre>{escape(_text(x))}</pre>"
    rows = np.atleast_2d(x.array)
    cells = "".join("<tr>" + "".join(f"<td>{escape(f'{v:.4g}')}</td>" for v in row.tolist()) + "</tr>" for row in rows)
    maker = f", made by {x.node.op.name}" if x.node is not None else ""
    return f"<table><caption>{escape(f'{x.shape} {x.dtype}{maker}')}</caption>{cells}</table>"
