"""Attention of all heads of one projection, where they lie: `kernels.attention.tiled` with everything but addresses
prepared for projections of the same sizes.

D is the size of all heads together, d = D / heads of one, and C = D / groups that of all heads of keys; a projection
holds queries, keys and values one after the other, ``(B, L, D + 2C)``, or queries alone, ``(B, L, D)``, beside a memory
of keys and values, ``(B, S, 2C)``. The first two axes may be exchanged.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.attention.blocks import make_backward, make_forward
from tinygrad_attn.kernels.attention.tiled import Dropout, PreparedPass, flat_mask, prepare
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED
from tinygrad_attn.kernels.runtime.threads import get_num_threads

__all__ = ["Heads", "heads_of", "projected_attention", "projected_attention_backward", "queries_keys_values"]

Array = np.ndarray[Any, Any]


class Heads(NamedTuple):
    """How projections are divided into heads."""

    heads: int
    groups: int  # heads that follow each other and share the keys and values of one head
    batch_first: bool

    @property
    def shared(self) -> int:
        """The heads of keys and of values."""
        return self.heads // self.groups


def heads_of(projected: Array, heads: int, batch_first: bool) -> Array:
    """(B, L, heads · d) as (B, heads, L, d)."""
    split = projected.reshape(*projected.shape[:2], heads, projected.shape[-1] // heads)
    return split.transpose((0, 2, 1, 3) if batch_first else (1, 2, 0, 3))


def queries_keys_values(projected: Array, memory: Array | None, kind: Heads) -> tuple[Array, Array, Array]:
    """(B, heads, L, d), and twice (B, heads / groups, L or S, d), where they lie."""
    heads, shared, batch_first = kind.heads, kind.shared, kind.batch_first
    if memory is None:
        every = heads_of(projected, heads + 2 * shared, batch_first)
        return every[:, :heads], every[:, heads : heads + shared], every[:, heads + shared :]
    pairs = heads_of(memory, 2 * shared, batch_first)
    return heads_of(projected, heads, batch_first), pairs[:, :shared], pairs[:, shared:]


class _Plan(NamedTuple):
    prepared: PreparedPass
    queries: tuple[int, int, int]  # B, heads and L
    keys_at: int  # bytes from where the projection begins, or the memory
    values_at: int


@functools.lru_cache(maxsize=MOST_PREPARED)
def _plan(
    make: Any,
    dtype: Any,
    shapes: tuple[tuple[int, ...], tuple[int, ...] | None],
    kind: Heads,
    places: tuple[tuple[int, ...], ...],
    options: tuple[bool, float],
    threads: int,
) -> _Plan | None:
    """What calls with operands of these shapes have in common; None if there is nothing to attend to, or with."""
    projected = np.empty(shapes[0], dtype)
    memory = None if shapes[1] is None else np.empty(shapes[1], dtype)
    if not projected.size or not (memory is None or memory.size):
        return None
    q, k, v = queries_keys_values(projected, memory, kind)
    width = q.shape[-1]
    joined = heads_of(np.empty((*shapes[0][:2], kind.heads * width), dtype), kind.heads, kind.batch_first)
    causal, p = options
    if causal and k.shape[2] > q.shape[2]:
        return None
    operands = (q, k, v, joined, *([None] * 4 if make is make_forward else (joined, q, k, v)))
    strides = tuple([(0, 0, 0) if each is None else each.strides[:3] for each in operands])
    sizes = (*q.shape, k.shape[1], *v.shape[2:])
    prepared = prepare(make, np.dtype(dtype), sizes, strides, places, (causal, 1.0 / math.sqrt(width), p), threads)
    start = data_address(projected if memory is None else memory)
    return _Plan(prepared, q.shape[:3], data_address(k) - start, data_address(v) - start)


class _Masks(NamedTuple):
    kept: tuple[Array | None, Array | None]  # the elements
    places: tuple[tuple[int, ...], tuple[int, ...]]


_NO_MASK = (0, 0, 0, 0)
_NO_MASKS = _Masks((None, None), (_NO_MASK, _NO_MASK))


def _masks(mask: Array | None, bias: Array | None, keys: int) -> _Masks:
    if mask is None and bias is None:
        return _NO_MASKS
    flat = [(None, *_NO_MASK) if each is None else flat_mask(each, keys) for each in (mask, bias)]
    return _Masks((flat[0][0], flat[1][0]), (tuple(flat[0][1:]), tuple(flat[1][1:])))


def _launch(plan: _Plan, addresses: tuple[int, ...], masks: _Masks, scales: tuple[Array, Array], key: int) -> None:
    """Run the kernel on eight operands."""
    others = [0 if each is None else data_address(each) for each in (*masks.kept, *scales)]
    plan.prepared.run((*addresses, *others), key)


def _of(projected: Array, memory: Array | None) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    return projected.shape, None if memory is None else memory.shape


def _lie_in_order(*arrays: Array | None) -> bool:
    return all(array is None or array.flags.c_contiguous for array in arrays)


def projected_attention(
    projected: Array, memory: Array | None, masks: tuple[Array | None, Array | None], kind: Heads, causal: bool,
    dropout: Dropout,
) -> tuple[Array, Array, Array] | None:  # fmt: skip
    """The outputs of all heads, ``(B, L, D)``, and what `kernels.attention.tiled.attention` returns.

    None where `kernels.attention.tiled` is to be given the heads one by one: where operands do not lie in order, and
    where there is nothing to attend to.

    Args:
        projected, memory: see above; of one dtype, float32 or float64.
        masks: the mask and the bias, as there.
        kind: how the projections are divided.
        causal: query i attends to keys 0 to i only.
        dropout: of the weights.
    """
    if not _lie_in_order(projected, memory):
        return None
    shapes = _of(projected, memory)
    found = _masks(*masks, (projected if memory is None else memory).shape[1 if kind.batch_first else 0])
    options = causal, dropout.p
    plan = _plan(make_forward, projected.dtype, shapes, kind, found.places, options, get_num_threads())
    if plan is None:
        return None
    share = 1 if memory is not None else 1 + 2 * kind.shared / kind.heads
    z = np.empty((*projected.shape[:2], round(projected.shape[2] / share)), projected.dtype)
    tops, factors = np.empty(plan.queries, projected.dtype), np.empty(plan.queries, projected.dtype)
    start = data_address(projected)
    other = start if memory is None else data_address(memory)
    addresses = (start, other + plan.keys_at, other + plan.values_at, data_address(z), 0, 0, 0, 0)
    _launch(plan, addresses, found, (tops, factors), dropout.key)
    return z, tops, factors


def projected_attention_backward(
    g: Array, operands: tuple[Array, Array | None], attended: tuple[Array, Array, Array],
    masks: tuple[Array | None, Array | None], kind: Heads, causal: bool, dropout: Dropout,
) -> tuple[Array, Array | None] | None:  # fmt: skip
    """The gradients of the projection and of the memory; or None, as forward.

    Args:
        g: of the outputs.
        operands: the projection and the memory.
        attended: what forward returned.
        masks, kind, causal, dropout: as forward.
    """
    projected, memory = operands
    z, *scales = attended
    if not _lie_in_order(g, projected, memory, *attended):
        return None
    found = _masks(*masks, (projected if memory is None else memory).shape[1 if kind.batch_first else 0])
    options = causal, dropout.p
    plan = _plan(make_backward, projected.dtype, _of(*operands), kind, found.places, options, get_num_threads())
    if plan is None:
        return None
    for_projected = np.empty(projected.shape, projected.dtype)
    for_memory = None if memory is None else np.empty(memory.shape, memory.dtype)
    start, to = data_address(projected), data_address(for_projected)
    other, to_other = start, to
    if memory is not None and for_memory is not None:
        other, to_other = data_address(memory), data_address(for_memory)
    keys_at, values_at = plan.keys_at, plan.values_at
    inputs = (start, other + keys_at, other + values_at, data_address(z), data_address(g))
    _launch(plan, (*inputs, to, to_other + keys_at, to_other + values_at), found, (scales[0], scales[1]), dropout.key)
    return for_projected, for_memory
