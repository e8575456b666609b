"""Attention of one query per row over keys and values that rows share: a decoder's step.

A hypothesis of beam search goes on from another one, whose keys it shares up to there. Copying them at every step would
cost more than attending to them. So keys stay where they were written, and each row has a table of *slots*: the key at
position s of row r is ``joined[s, slots[r, s]]``. Going on from another hypothesis copies a row of that table. Keys of
the source are the same for all hypotheses of a sentence, which is their one slot.

`attend_in_numpy` says what the kernel computes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.jit import inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, read_struct, row_at
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["Attend", "attend_call", "attend_in_numpy"]


def attend_in_numpy(
    q: np.ndarray, joined: np.ndarray, slots: np.ndarray, mask: np.ndarray | None, heads: int, scale: float,
    groups: int = 1, slopes: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """The outputs of all heads, concatenated, (R, E).

    Args:
        q: (R, E), the queries of all heads.
        joined: (S, N, 2E / groups), at each position the keys of all heads, then their values, in N slots.
        slots: (R, S), the slot in which each key of a row lies.
        mask: bool (N, S), True where the rows of a slot may attend; or None. Without any such key the output is 0.
        heads: the number of heads, which divides E.
        scale: of the scores.
        groups: how many heads, which follow each other, share their keys and values.
        slopes: (heads,), by which a score is lowered for each key after its own; or None.
    """
    rows, size = q.shape
    count = slots.shape[1]
    shape = (rows, count, heads // groups, size // heads)
    keys, values = (
        np.repeat(part.reshape(shape), groups, 2) for part in np.split(joined[np.arange(count), slots], 2, axis=-1)
    )  # (R, S, heads, E / heads)
    scores = np.einsum("rhd,rshd->rhs", q.reshape(rows, heads, -1), keys) * scale
    if slopes is not None:
        scores = scores - slopes[:, None] * np.arange(count)[::-1]
    if mask is not None:
        scores = np.where(mask[slots[:, 0]][:, None, :count], scores, -np.inf)
    top = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
    total = weights.sum(-1, keepdims=True)
    weights /= np.where(total == 0.0, 1.0, total)
    return np.einsum("rhs,rshd->rhd", weights, values).reshape(rows, size)


class Attend(NamedTuple):
    """The arguments of `attend_call`; strides are in elements."""

    q: Address  # the queries of a row, heads * width elements, lie ``q_row`` apart
    q_row: int
    joined: (
        Address  # a key of all heads, followed by the value, lies at position * position_stride + slot * slot_stride
    )
    position_stride: int
    slot_stride: int
    slots: Address  # int64; the slot of a key at row * slots_row + position * slots_position
    slots_row: int
    slots_position: int
    count: Address  # (1,) int64, the number of keys
    mask: Address  # bool (mask_slots, keys), or None
    mask_slots: int  # 0 without a mask
    out: Address  # (rows, heads * width)
    scratch: Address  # (rows, heads, most keys) for the scores
    most: int
    heads: int
    width: int
    scale: float
    groups: int = 1  # heads that share their keys and values
    slopes: Address = None  # (heads,), or None
    reading: int = 0  # 1 if a row attends to one more key than that before it; ``count`` is of the first


@inlined_kernel
def _product(q: Any, at: int, key: Any, key_at: int, whole: int, rest: int) -> Any:
    """The products of two rows, each from a place on, to be summed: ``whole`` elements in vectors, and ``rest``."""
    total = simd.splat(q, 0.0)
    for i in range(0, whole, simd.lanes(q)):
        total = simd.fma(simd.load(q, at + i), simd.load(key, key_at + i), total)
    if rest:
        x, y = simd.load_part(q, at + whole, rest, 0.0), simd.load_part(key, key_at + whole, rest, 0.0)
        total = simd.fma(x, y, total)
    return total


@serial_kernel
def _weigh(scores: Any, start: int, count: int) -> None:
    """``count`` scores from ``start`` on become weights: their softmax, or zeros if all are -inf."""
    step = simd.lanes(scores)
    rest = count % step
    whole = start + count - rest
    tail = simd.load_part(scores, whole, rest, -math.inf)
    highest = tail
    for i in range(start, whole, step):
        highest = simd.maximum(highest, simd.load(scores, i))
    top = simd.reduce_max(highest)
    shift = simd.splat(scores, 0.0 if top == -math.inf else top)
    tail = simd_math.exp(tail - shift)
    total = tail
    for i in range(start, whole, step):
        grown = simd_math.exp(simd.load(scores, i) - shift)
        simd.store(scores, i, grown)
        total = total + grown
    sum_of_all = simd.reduce_sum(total)
    factor = simd.splat(scores, 0.0 if sum_of_all == 0.0 else 1.0 / sum_of_all)
    for i in range(start, whole, step):
        simd.store(scores, i, simd.load(scores, i) * factor)
    simd.store_part(scores, whole, rest, tail * factor)


@inlined_kernel
def _add_times(out: Any, at: int, weight: Any, value: Any, value_at: int, whole: int, rest: int) -> None:
    """out += weight * value, each from a place on."""
    factor = simd.splat(out, weight)
    for i in range(0, whole, simd.lanes(out)):
        simd.store(out, at + i, simd.fma(factor, simd.load(value, value_at + i), simd.load(out, at + i)))
    if rest:
        x, y = simd.load_part(value, value_at + whole, rest, 0.0), simd.load_part(out, at + whole, rest, 0.0)
        simd.store_part(out, at + whole, rest, simd.fma(factor, x, y))


def _make_attend(dtype: Any) -> Any:
    itemsize = np.dtype(dtype).itemsize

    @serial_kernel
    def attend(arguments: int, first: int, last: int) -> None:
        s = read_struct(Attend, arguments)
        size = s.heads * s.width
        kept = size // s.groups  # elements of a position's keys, and of its values
        slopes = row_at(dtype, s.slopes, 0, s.heads if s.slopes else 0)
        fewest = row_at(np.int64, s.count, 0, 1)[0]
        mask = row_at(np.uint8, s.mask, 0, s.mask_slots * fewest)
        rest = s.width % simd.lanes(row_at(dtype, s.scratch, 0, 0))
        whole = s.width - rest
        for row in range(first, last):
            count = fewest + row * s.reading
            slots = row_at(np.int64, s.slots + row * s.slots_row * 8, 0, s.slots_position * (count - 1) + 1)
            q, out = row_at(dtype, s.q + row * s.q_row * itemsize, 0, size), row_at(dtype, s.out, row, size)
            scores = row_at(dtype, s.scratch, row, s.heads * s.most)
            for i in range(count):
                at = i * s.position_stride + slots[i * s.slots_position] * s.slot_stride
                key = row_at(dtype, s.joined + at * itemsize, 0, kept)
                seen = mask.size == 0 or mask[slots[0] * count + i] != 0
                for head in range(s.heads):
                    shared = head // s.groups * s.width
                    score = simd.reduce_sum(_product(q, head * s.width, key, shared, whole, rest)) * s.scale
                    if slopes.size:
                        score -= slopes[head] * (count - 1 - i)
                    scores[head * s.most + i] = score if seen else -math.inf
            for head in range(s.heads):
                _weigh(scores, head * s.most, count)
            out[:] = 0.0
            for i in range(count):
                at = i * s.position_stride + slots[i * s.slots_position] * s.slot_stride + kept
                value = row_at(dtype, s.joined + at * itemsize, 0, kept)
                for head in range(s.heads):
                    shared = head // s.groups * s.width
                    _add_times(out, head * s.width, scores[head * s.most + i], value, shared, whole, rest)

    return attend


def attend_call(dtype: Any, arguments: Attend) -> tuple[int, Struct]:
    """`attend_in_numpy` as part of a program; arrays of ``dtype``, unless said otherwise."""
    return kernel_for(_make_attend, np.dtype(dtype).type), Struct(arguments)
