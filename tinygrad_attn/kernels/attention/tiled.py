"""Scaled dot-product attention of every head in one kernel, forward and backward, without a matrix of all weights.

For one head of one sequence, with queries Q (L, d), keys K (S, d) and values V (S, e)::

    P = softmax(scale Q Kᵀ),    O = P V

and backward, from G, the gradient of O::

    dV = Pᵀ G,    dP = G Vᵀ,    dS = scale P (dP - rowsum(P dP)),    dQ = dS K,    dK = dSᵀ Q

where rowsum(P dP) = rowsum(O G). A block of queries meets one block of keys after the other. Forward its outputs are
sums of values with weights exp(score - the largest so far), scaled down whenever that grows and divided by the sum of
the weights at the end. Backward computes the weights again from what forward keeps of each row: its largest score and
the reciprocal of its sum of exponentials. So memory grows with L + S, not with L S.

Dao et al., "FlashAttention", 2022; Dao, "FlashAttention-2", 2023.

Queries, keys and values are read where they lie, with any strides except along the last axis, so that the heads of a
(batch, length, 3 · heads · d) projection need not be copied out of it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.attention import bfloat16
from tinygrad_attn.kernels.attention.blocks import make_backward, make_forward
from tinygrad_attn.kernels.attention.rows import keep_elements
from tinygrad_attn.kernels.attention.task import Task, attend_shares
from tinygrad_attn.kernels.gemm.panels import packed_size, packer_for, panel_product_for
from tinygrad_attn.kernels.gemm.parts import SIDE
from tinygrad_attn.kernels.gemm.plan import tile_shape
from tinygrad_attn.kernels.philox import threshold_of
from tinygrad_attn.kernels.runtime.addresses import data_address, data_addresses
from tinygrad_attn.kernels.runtime.calls import address_of
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Job, Prepared
from tinygrad_attn.kernels.runtime.structs import Struct, kernel_for
from tinygrad_attn.kernels.runtime.threads import get_num_threads

__all__ = [
    "Dropout",
    "adjoining",
    "attention",
    "attention_backward",
    "attention_in_numpy",
    "flat_mask",
]

_SERIAL_WORK = 80**3  # multiplications up to which waking the threads costs more than they save
# Queries and keys of a block, and keys where a causal mask cuts through: scores of 64 KB, and as much of their
# gradients, stay in the second-level cache, and products are long enough to be worth their start.
_QUERIES, _KEYS, _CORNER = 64, 256, 32
_FEW_KEYS = 64  # up to which packing rows costs more than it saves in reading them
_LINE = 64  # bytes: of a vector and of a cache line
# Fields of `Task`, in the order of what `flat_mask` returns after the elements.
_MASKS = (
    ("mask_size", "mask_batch", "mask_head", "mask_query"),
    ("bias_size", "bias_batch", "bias_head", "bias_query"),
)


class Dropout(NamedTuple):
    """Weights become 0 with probability ``p``, and are divided by 1 - p if not. Which of them the key decides, and a
    weight's place in (B, H, L, S): the same backward as forward, and by `kernels.dropout.drop` of all weights."""

    p: float  # 0 <= p < 1
    key: int


# --- In NumPy: what the kernels are held to ---------------------------------------------------------------------------


def attention_in_numpy(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    g: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    causal: bool = False,
    scale: float,
    kept: np.ndarray | float = 1.0,
    bias: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """O, dQ, dK and dV of every head, with all weights in one matrix; arguments as of `attention_backward`.

    ``kept`` is what dropout multiplies the weights by. Heads that share keys and values each get a copy.
    """
    batch, shared = k.shape[:2]
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    scores = scale * q @ k.swapaxes(-1, -2) + bias
    seen = np.broadcast_to(True if mask is None else mask, scores.shape)
    if causal:
        seen = seen & np.tri(*scores.shape[-2:], dtype=np.bool_)
    scores = np.where(seen, scores, -np.inf)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(scores - np.where(np.isinf(top), 0.0, top))
    total = p.sum(-1, keepdims=True)
    p /= np.where(total == 0.0, 1.0, total)  # a query that sees nothing has no weights
    dp = kept * (g @ v.swapaxes(-1, -2))
    ds = scale * p * (dp - (p * dp).sum(-1, keepdims=True))
    dk, dv = ds.swapaxes(-1, -2) @ q, (kept * p).swapaxes(-1, -2) @ g
    dk, dv = (x.reshape(batch, shared, -1, *x.shape[2:]).sum(2) for x in (dk, dv))
    return (kept * p) @ v, ds @ k, dk, dv


# --- Any shape --------------------------------------------------------------------------------------------------------


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    out: np.ndarray,
    mask: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    *,
    causal: bool = False,
    scale: float,
    dropout: Dropout | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Write softmax(scale q kᵀ) v to ``out``, for every head of every sequence.

    Args:
        q: (B, H, L, d), float32 or float64. Any strides, as for all the others; a last axis that does not adjoin is
            copied, and in ``out`` not allowed.
        k: (B, H / G, S, d): G heads that follow each other share keys and values.
        v: (B, H / G, S, e).
        out: (B, H, L, e), must not overlap an input.
        mask: bool, broadcasts to (B, H, L, S); True where a query may attend to a key. Not expanded but along S.
        bias: of q's dtype, broadcasts to (B, H, L, S), added to the scores. Not expanded but along S.
        causal: let query i attend to keys 0 to i only.
        scale: of the scores.
        dropout: of the weights.

    Returns:
        Of each row of scores, (B, H, L), the largest and 1 / sum of exponentials, for `attention_backward`; -inf and 0
        where there is nothing to attend to, which gives zeros.
    """
    tops, factors = np.empty((2, *q.shape[:3]), q.dtype)
    if out.size == 0 or k.size == 0:
        out[...] = 0.0
        tops[...], factors[...] = -math.inf, 0.0
        return tops, factors
    operands = (adjoining(q), adjoining(k), adjoining(v), out, None, None, None, None)
    _attend(make_forward, operands, (mask, bias), (tops, factors), causal, scale, dropout)
    return tops, factors


def attention_backward(
    g: np.ndarray,
    inputs: tuple[np.ndarray, np.ndarray, np.ndarray],
    attended: tuple[np.ndarray, np.ndarray, np.ndarray],
    gradients: tuple[np.ndarray, np.ndarray, np.ndarray],
    mask: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    *,
    causal: bool = False,
    scale: float,
    dropout: Dropout | None = None,
) -> None:
    """Write the gradients of q, k and v to ``gradients``, from ``g``, that of ``out``, (B, H, L, e).

    ``inputs`` are q, k and v. ``attended`` is ``out`` as `attention` left it, and the two arrays that it returned; all
    else was given to it.
    ``gradients`` are arrays of the shapes of q, k and v, of any strides but with a last axis that adjoins.
    """
    out, scales = attended[0], attended[1:]
    q, k, v = inputs
    _, dk, dv = gradients
    if g.size == 0 or k.size == 0:
        for gradient in gradients:
            gradient[...] = 0.0
        return
    if causal and k.shape[2] > q.shape[2]:  # keys that no query may attend to
        dk[:, :, q.shape[2] :], dv[:, :, q.shape[2] :] = 0.0, 0.0
    operands = (*map(adjoining, (q, k, v, out, g)), *gradients)
    _attend(make_backward, operands, (mask, bias), scales, causal, scale, dropout)


_NO_MASK = (0, 0, 0, 0)
_NO_MASKS = (None, None), (_NO_MASK, _NO_MASK)


def _attend(
    make: Any,
    operands: tuple[np.ndarray | None, ...],
    masks: tuple[np.ndarray | None, np.ndarray | None],
    scales: tuple[np.ndarray, np.ndarray],
    causal: bool,
    scale: float,
    dropout: Dropout | None,
) -> None:
    """Run a kernel of `kernels.attention.blocks` on the first fields of its `Task`; ``masks`` are bool and of floats,
    ``scales`` tops and factors."""
    q, k, v, *_ = operands
    assert q is not None and k is not None and v is not None
    masked = masks[0] is not None or masks[1] is not None
    elements, places = _flat_masks(masks, v.shape[2]) if masked else _NO_MASKS
    p, key = (0.0, 0) if dropout is None else dropout
    shapes, strides = (q.shape, k.shape, v.shape), tuple([None if each is None else each.strides for each in operands])
    dtype: Any = q.dtype.type
    prepared = _prepared(make, dtype, shapes, strides, places, (causal, scale, p), get_num_threads())
    prepared.run(data_addresses((*operands, *elements, *scales)), key)


def _flat_masks(masks: tuple[np.ndarray | None, np.ndarray | None], keys: int) -> tuple[Any, Any]:
    """The elements of both masks, and how they lie."""
    flat = [(None, *_NO_MASK) if mask is None else flat_mask(mask, keys) for mask in masks]
    return (flat[0][0], flat[1][0]), (flat[0][1:], flat[1][1:])


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared(make: Any, dtype: Any, shapes: Any, strides: Any, masks: Any, options: Any, threads: int) -> PreparedPass:
    """`prepare`, by the shapes of q, k and v and the strides of all operands as they are, which costs least."""
    q, k, v = shapes
    steps = tuple([(0, 0, 0) if each is None else each[:3] for each in strides])
    return prepare(make, np.dtype(dtype), (*q, k[1], *v[2:]), steps, masks, options, threads)


class PreparedPass(NamedTuple):
    """What a forward or backward pass needs that others of the same sizes need, too."""

    prepared: Prepared  # of a `Task`
    scratch_bytes: int

    def run(self, addresses: Iterable[int], key: int) -> None:
        """Run the kernel, given the fields of its `Task` before the scratch memory, and dropout's key."""
        scratch = np.empty(self.scratch_bytes, np.uint8)
        start = data_address(scratch)
        self.prepared.launch((*addresses, start + -start % _LINE, key))


@functools.lru_cache(maxsize=MOST_PREPARED)
def prepare(
    make: Any,
    dtype: np.dtype[Any],
    sizes: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    masks: tuple[tuple[int, ...], ...],
    options: tuple[bool, float, float],
    threads: int,
) -> PreparedPass:
    """Everything but addresses and dropout's key.

    Args:
        make: of `kernels.attention.blocks`.
        dtype: of all operands.
        sizes: B, H, L, d, H / G, S and e.
        strides: of each operand, in bytes from batch to batch, head to head and row to row.
        masks: of the bool and the float mask, how many elements it has, and how many lie from batch to batch, head to
            head and query to query.
        options: causal, the scale, and the probability of dropout.
        threads: how many there are.
    """
    (batch, heads, queries, width, shared, keys, value_width), (causal, scale, p) = sizes, options
    itemsize, forward, group = dtype.itemsize, make is make_forward, heads // shared
    kind: Any = dtype.type
    on_tiles, items = bfloat16.pays(dtype, (queries, keys, width, value_width), scale), kernel_for(make, kind)
    cut = _cut(forward, (queries, keys, width, value_width), itemsize, items if on_tiles else 0)
    if on_tiles:
        items = address_of(bfloat16.attend_on_tiles if forward else bfloat16.differentiate_on_tiles)
    item_count = batch * (heads * cut["blocks"] if forward else shared)
    many = batch * heads * queries * keys * (width + value_width) > _SERIAL_WORK
    workers = min(threads, item_count) if many else 1
    masked: dict[str, int] = {}
    for names, places in zip(_MASKS, masks, strict=True):
        masked |= zip(names, places, strict=True)
    constants = {
        "strides": np.array(strides, np.int64),
        "items": items,
        "item_count": item_count,
        "product": panel_product_for(itemsize),
        "pack": packer_for(itemsize),
        "causal": causal,
        "scale": scale,
        "batch": batch,
        "heads": heads,
        "group": group,
        **masked,
        "keep": address_of(keep_elements) if p else 0,
        "threshold": threshold_of(p),
        "kept_scale": 1.0 / (1.0 - p),
        "workers": workers,
        **cut,
    }
    prepared = Prepared(Job(address_of(attend_shares), Task, constants, workers, workers))
    return PreparedPass(prepared, workers * cut["scratch_size"] + _LINE)


def _cut(forward: bool, sizes: tuple[int, int, int, int], itemsize: int, ordinary: int) -> dict[str, Any]:
    """The fields of `Task` that say how a head is cut into blocks, and where the parts of scratch memory begin.

    ``ordinary`` is the kernel that those on tiles need besides; without tiles it is 0.
    """
    queries, keys, width, value_width = sizes
    panel, lanes = tile_shape(itemsize).columns, SIDE if ordinary else _LINE // itemsize
    most_queries, most_keys = bfloat16.BLOCKS[forward] if ordinary else (_QUERIES, _KEYS)
    blocks, stride = -(-queries // most_queries), -(-min(most_keys, keys) // lanes) * lanes
    rows, key_block = -(-queries // blocks), most_keys // panel * panel
    all_rows = -(-rows // SIDE) * SIDE if ordinary else rows
    parts = {"query": rows * width, "scores": all_rows * stride, "sums": rows * _LINE // itemsize}
    parts["kept"] = rows * stride // itemsize + 1  # a byte for each weight
    parts["across"] = packed_size(width, keys, itemsize)
    if forward:
        parts["values"] = packed_size(keys, value_width, itemsize)
    else:
        parts |= {"gradient": rows * value_width, "dscores": all_rows * stride, "means": rows}
        parts["values"] = packed_size(value_width, keys, itemsize)
        parts["keys_down"] = packed_size(keys, width, itemsize)
        parts["query_panels"] = packed_size(rows, width, itemsize)
        parts["gradient_panels"] = packed_size(rows, value_width, itemsize)
    places, end = _places({name: elements * itemsize for name, elements in parts.items()})
    on_tiles: dict[str, Any] = {}
    if ordinary:
        split, end = _places(bfloat16.sizes_of_parts(forward, rows, key_block, sizes), end)
        on_tiles["parts"] = Struct(bfloat16.Parts(ordinary, **split))
    return {
        "itemsize": itemsize,
        "panel": panel,
        "queries": queries,
        "keys": keys,
        "width": width,
        "value_width": value_width,
        "blocks": blocks,
        "key_block": key_block,
        "corner": max(_CORNER // panel, 1) * panel,
        "stride": stride,
        "direct": keys <= _FEW_KEYS,
        "scratch_size": end,
        **places,
        **on_tiles,
    }


def _places(sizes: dict[str, int], start: int = 0) -> tuple[dict[str, int], int]:
    """Where, from ``start`` on, parts of so many bytes begin, each in a cache line of its own, and where they end."""
    lines = [-(-size // _LINE) * _LINE for size in sizes.values()]
    *starts, end = itertools.accumulate(lines, initial=start)
    return dict(zip(sizes, starts, strict=True)), end


def adjoining(array: np.ndarray) -> np.ndarray:
    return array if array.strides[-1] == array.itemsize else np.ascontiguousarray(array)


def flat_mask(mask: np.ndarray | None, keys: int) -> tuple[np.ndarray, int, int, int, int]:
    """The elements of a mask that broadcasts to (B, H, L, S), their number, and how many of them lie from batch to
    batch, head to head and query to query, 0 along an axis that is broadcast; those of a row of keys adjoin."""
    if mask is None:
        return _everything(keys), keys, 0, 0, 0
    if mask.shape[-1:] != (keys,) or not mask.flags.c_contiguous:
        mask = np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:-1], keys)))
    mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    strides = (0 if n == 1 else s // mask.itemsize for n, s in zip(mask.shape[:3], mask.strides[:3], strict=True))
    batch, head, query = strides
    return mask.reshape(-1), mask.size, batch, head, query


@functools.lru_cache(maxsize=64)
def _everything(keys: int) -> np.ndarray:
    """A row of a mask that is True throughout."""
    return np.ones(keys, np.bool_)
