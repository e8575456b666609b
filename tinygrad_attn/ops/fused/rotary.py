"""rotary: pairs of elements turned by an angle that grows with the position."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tinygrad_attn.kernels.rotary import rotate
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import floating, only_floats
from tinygrad_attn.ops.dims import one_dim
from tinygrad_attn.ops.joining import cat, chunk, split
from tinygrad_attn.ops.pointwise import add, mul, neg
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["rotary", "rotary_tables"]

Array = np.ndarray[Any, Any]


@functools.lru_cache(maxsize=8)  # all layers turn by the same one; a long text's takes a megabyte
def rotary_tables(length: int, width: int, start: int, base: float, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """cos θ and sin θ, (length, width / 2), rounded from float64."""
    positions = np.arange(start, start + length, dtype=np.float64)[:, None]
    angles = positions * base ** (-np.arange(0, width, 2) / max(width, 1))
    tables = np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
    for table in tables:
        table.flags.writeable = False
    return tables


def _samples(draw: Draw) -> Sample:
    shape = (*draw.shape((0, 2)), draw.integer(0, 3), *draw.shape((0, 1)), 2 * draw.integer(0, 3))
    options = {"start": draw.integer(0, 5), "base": draw.choice([10000.0, 3.0])}
    options["dim"] = draw.integer(-len(shape), -2)
    if options["dim"] == -3 and draw.boolean():
        options["heads"] = draw.integer(0, shape[-2])
    return Sample((draw.floats(shape),), options)


@op(
    r"z = x \odot \cos\theta + \operatorname{rot}(x) \odot \sin\theta, \quad \operatorname{rot}(x_1, x_2) = "
    r"(-x_2, x_1), \quad \theta_{p i} = p\,b^{-2 i / d}",
    samples=_samples,
    errors=[
        ErrorSample((np.ones((2, 3)),), {}, ValueError, r"even, .* \(2, 3\)"),
        ErrorSample((np.ones(2),), {}, ValueError, r"an axis of positions .* \(2,\)"),
        ErrorSample((np.ones((2, 2)),), {"dim": -1}, ValueError, "dim -1 is the axis"),
        ErrorSample((np.ones((2, 2)),), {"dim": 2}, IndexError, "dim 2"),
        ErrorSample((np.ones((2, 2)),), {"start": -1}, ValueError, "start must be at least 0, got -1"),
        ErrorSample((np.ones((2, 2)),), {"base": 0.0}, ValueError, "base must be above 0, got 0.0"),
        ErrorSample((np.ones((2, 2)),), {"heads": 1}, ValueError, "heads needs .* dim -3, dim is -2"),
        ErrorSample((np.ones((2, 3, 2)),), {"dim": -3, "heads": 4}, ValueError, "heads must be from 0 to 3, got 4"),
        ErrorSample((np.ones((2, 2), int),), {}, TypeError, "int64"),
    ],
    symbols={r"\theta": ("start", "dim", "base", "heads"), "p": ("start", "dim", "heads"), "b": "base"},
)
def _rotary(input: Array, *, start: int = 0, base: float = 10000.0, dim: int = -2, heads: int | None = None) -> Array:
    """`rotary` as an op; θ is 0 for all but the first ``heads`` of the axis after that of positions."""
    only_floats("rotary", input)
    return _as_rows(input, start, base, dim, heads)


def _as_rows(input: Array, start: int, base: float, dim: int, heads: int | None, *, back: bool = False) -> Array:
    axis = _position_axis(input, start, base, dim, heads)
    length, width = input.shape[axis], input.shape[-1]
    if not input.size:
        return np.empty(input.shape, input.dtype)
    rows = input.reshape(-1, length, int(np.prod(input.shape[axis + 1 : -1], dtype=int)), width)
    return rotate(rows, *rotary_tables(length, width, start, base, input.dtype), heads, back=back).reshape(input.shape)


def _position_axis(input: Array | Tensor, start: int, base: float, dim: int, heads: int | None) -> int:
    """``dim``, counted from the front; raises unless all arguments fit."""
    if input.ndim < 2:
        raise ValueError(f"rotary: input must have an axis of positions before its last, its shape is {input.shape}")
    if input.shape[-1] % 2:
        raise ValueError(f"rotary: the last axis must be even, for it is rotated in pairs: its shape is {input.shape}")
    if start < 0:
        raise ValueError(f"rotary: start must be at least 0, got {start}")
    if not 0.0 < base < float("inf"):
        raise ValueError(f"rotary: base must be above 0, got {base}")
    axis = one_dim("rotary", dim, input.ndim)
    if axis == input.ndim - 1:
        raise ValueError(f"rotary: dim {dim} is the axis whose pairs are rotated, not that of positions")
    if heads is not None:
        if axis != input.ndim - 3:
            raise ValueError(f"rotary: heads needs the positions at dim -3, dim is {dim}")
        if not 0 <= heads <= input.shape[-2]:
            raise ValueError(f"rotary: heads must be from 0 to {input.shape[-2]}, got {heads}")
    return axis


def _turned(x: Tensor, start: int, base: float, dim: int, heads: int | None, sign: float = 1.0) -> Tensor:
    """x ⊙ cos θ + rot(x) ⊙ sin θ, in primitives; for a sign of -1 turned back."""
    axis = _position_axis(x, start, base, dim, heads)
    if heads is not None:
        turned, kept = split(x, [heads, x.shape[-2] - heads], -2)
        return cat([_turned(turned, start, base, dim, None, sign), kept], -2)
    tables = rotary_tables(x.shape[axis], x.shape[-1], start, base, x.dtype)
    shape = (x.shape[axis], *(1,) * (x.ndim - axis - 2), x.shape[-1])
    cos, sin = (Tensor(np.concatenate([table, table], -1).reshape(shape)) for table in tables)
    first, second = chunk(x, 2, -1)
    return add(mul(x, cos), mul(cat([neg(second), first], -1), mul(sin, sign)))


# A rotation's transpose is the rotation back.
_rotary.vjp(
    "input",
    r"\bar z \odot \cos\theta - \operatorname{rot}(\bar z) \odot \sin\theta",
    lambda g, start, base, dim, heads: _turned(g, start, base, dim, heads, -1.0),
    lambda g, start, base, dim, heads: _as_rows(g, start, base, dim, heads, back=True),
)


@_rotary.composed_of
def _reference(input: Tensor, start: int, base: float, dim: int, heads: int | None) -> Tensor:
    return _turned(floating("rotary", "input", input), start, base, dim, heads)


@public("F")
def rotary(input: Any, start: int = 0, base: float = 10000.0, dim: int = -2, heads: int | None = None) -> Tensor:
    r"""Turn the pairs of elements of the last axis by angles that grow with the position.

    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021. Element i < d/2 of a vector at
    position p and element i + d/2 are turned together, by the angle :math:`p\,b^{-2i/d}`: the halves of GPT-NeoX and
    Hugging Face's models, not the neighbours of the paper, which differ by a permutation of the axis. The product of a
    query at p and a key at q, both turned, depends on p − q alone.

    Args:
        input: ``(..., T, d)``, d even; floats.
        start: the position of the first vector.
        base: b.
        dim: the axis of the positions, -3 for ``(B, T, heads, d)``.
        heads: with ``dim`` -3, turn the first so many heads alone, as queries and keys that lie before the values.

    Returns:
        The shape of ``input``.

    Raises:
        ValueError: d is odd, there is no axis of positions, a negative ``start``, a ``base`` that is not above 0, or
            more ``heads`` than there are.
        IndexError: ``input`` has no axis ``dim``.
        TypeError: the input holds no floats.
    """
    return _rotary(floating("rotary", "input", input), start=start, base=base, dim=dim, heads=heads)
