"""One row of a block of scores: from scores to weights as more keys come, and backward.

A row holds the scores of a query with some of the keys, in memory that goes on to the end of its last vector. Weights
are left without their common factor, 1 / sum of exponentials, which is known only when all keys have come (Milakov and
Gimelshein, "Online normalizer calculation for softmax", 2018).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.kernels.philox import write_kept
from tinygrad_attn.kernels.runtime.jit import called_kernel, inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import row_at
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.softmax import shift_of

__all__ = ["add_to_row", "differentiate_row", "hide", "keep_elements", "scale_row", "weigh_row"]

_LOG2_E = 1.0 / math.log(2.0)


@inlined_kernel
def _exponent(x: Any, shift: Any) -> Any:
    """log2 of exp(x - shift / log2(e)), rounded once."""
    return simd.fma(x, simd.splat(x, _LOG2_E), -shift)


@inlined_kernel
def _clear(row: Any, start: int, stop: int) -> None:
    for i in range(start, stop, simd.lanes(row)):
        simd.store(row, i, simd.splat(row, 0.0))


@called_kernel
def hide(row: Any, at: int, count: int, mask: Any, mask_at: int, fill: float) -> None:
    """Elements become ``fill`` where the mask, from ``mask_at`` on, is False, and so do those behind the last one."""
    step = simd.lanes(row)
    rest = count % step
    whole = count - rest
    for i in range(0, whole, step):
        x = simd.load(row, at + i)
        simd.store(row, at + i, simd.select(simd.load_mask(mask, mask_at + i, x), x, fill))
    if rest:
        x = simd.load(row, at + whole)
        simd.store(row, at + whole, simd.select(simd.load_mask_part(mask, mask_at + whole, rest, x), x, fill))


@called_kernel
def add_to_row(row: Any, at: int, count: int, terms: Any, terms_at: int) -> None:
    """Add to ``count`` elements the terms from ``terms_at`` on."""
    step = simd.lanes(row)
    rest = count % step
    whole = count - rest
    for i in range(0, whole, step):
        simd.store(row, at + i, simd.load(row, at + i) + simd.load(terms, terms_at + i))
    if rest:
        part = simd.load_part(terms, terms_at + whole, rest, 0.0)
        simd.store(row, at + whole, simd.load(row, at + whole) + part)


@serial_kernel
def keep_elements(out: int, first: int, count: int, key: int, threshold: int) -> None:
    """Write which of ``count`` weights from number ``first`` on dropout keeps, as booleans at an address."""
    write_kept(row_at(np.bool_, out, 0, count), 0, first, count, key, threshold)


@inlined_kernel
def scale_row(x: Any, factor: Any) -> None:
    """All elements of ``x`` times a vector of one number."""
    step, width = simd.lanes(x), x.size
    whole = width - width % step
    for i in range(0, whole, step):
        simd.store(x, i, simd.load(x, i) * factor)
    if whole < width:
        simd.store_part(x, whole, width - whole, simd.load_part(x, whole, width - whole, 0.0) * factor)


@inlined_kernel
def weigh_row(
    scores: Any, at: int, count: int, length: int, tops: Any, row: int, sums: Any, sums_at: int, out: Any, first: bool
) -> None:
    """The first ``count`` scores become exp(score - top), the others up to ``length`` 0.

    The largest score so far, ``tops[row]``, becomes top. If it grows, what was summed of earlier keys shrinks: the
    vector of sums at ``sums_at``, and ``out``; with ``first`` there are no earlier keys.
    """
    step = simd.lanes(scores)
    rest = count % step
    whole = at + count - rest
    highest = simd.load_part(scores, whole, rest, -math.inf)
    for i in range(at, whole, step):
        highest = simd.maximum(highest, simd.load(scores, i))
    before, own = tops[row], simd.reduce_max(highest)
    top = own if own > before else before
    shift = shift_of(scores, top) * _LOG2_E
    total = simd.splat(scores, 0.0)
    if not first:
        total = simd.load(sums, sums_at)
        if top > before:
            factor = simd_math.exp2(_exponent(simd.splat(scores, before), shift))
            total = total * factor
            scale_row(out, factor)
    tops[row] = top
    for i in range(at, whole, step):
        weights = simd_math.exp2(_exponent(simd.load(scores, i), shift))
        simd.store(scores, i, weights)
        total = total + weights
    if rest:
        weights = simd_math.exp2(_exponent(simd.load_part(scores, whole, rest, -math.inf), shift))
        simd.store(scores, whole, weights)
        total = total + weights
        whole += step
    simd.store(sums, sums_at, total)
    _clear(scores, whole, at + length)


@inlined_kernel
def differentiate_row(scores: Any, gradient: Any, at: int, count: int, length: int, top: float, mean: float) -> None:
    """Scores become exp(score - top) again, and what is at the same place of ``gradient``, dP, becomes P (dP - mean).

    From ``count`` to ``length`` both become 0.
    """
    step = simd.lanes(scores)
    rest = count % step
    whole = at + count - rest
    shift = shift_of(scores, top) * _LOG2_E
    for i in range(at, whole, step):
        weights = simd_math.exp2(_exponent(simd.load(scores, i), shift))
        simd.store(scores, i, weights)
        simd.store(gradient, i, weights * (simd.load(gradient, i) - mean))
    if rest:
        weights = simd_math.exp2(_exponent(simd.load_part(scores, whole, rest, -math.inf), shift))
        simd.store(scores, whole, weights)
        simd.store(gradient, whole, weights * (simd.load_part(gradient, whole, rest, 0.0) - mean))
        whole += step
    _clear(scores, whole, at + length)
    _clear(gradient, whole, at + length)
