"""The additive score of Bahdanau et al., ``score_j = v . tanh(q + k_j)``, and its derivatives.

A tanh for each query, key and unit is by far the most of the work and the most numbers: they are computed where they
are needed, backward too, and never stored.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from tinygrad_attn.kernels.runtime.flat import flat
from tinygrad_attn.kernels.runtime.jit import parallel_kernel, serial_kernel
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["additive_scores", "additive_scores_backward", "score_row", "score_row_backward"]


@serial_kernel
def score_row(
    query: Any,
    query_at: int,
    keys: Any,
    keys_at: int,
    energy: Any,
    mask: Any,
    mask_at: int,
    length: int,
    size: int,
    scores: Any,
    at: int,
) -> None:
    """Score one query against the ``length`` keys of its sequence, each of ``size`` elements; all arrays are flat.

    The score of a key whose mask is False is -inf. An empty mask is True throughout.
    """
    step = simd.lanes(query)
    for j in range(length):
        if mask.size > 0 and not mask[mask_at + j]:
            scores[at + j] = -math.inf
            continue
        total = simd.splat(query, 0.0)
        for i in range(0, size, step):
            count = min(step, size - i)
            key = simd.load_part(keys, keys_at + j * size + i, count, 0.0)
            unit = simd_math.tanh(simd.load_part(query, query_at + i, count, 0.0) + key)
            total = simd.fma(simd.load_part(energy, i, count, 0.0), unit, total)
        scores[at + j] = simd.reduce_sum(total)


@serial_kernel
def score_row_backward(
    g: Any,
    at: int,
    query: Any,
    query_at: int,
    keys: Any,
    keys_at: int,
    energy: Any,
    length: int,
    size: int,
    dquery: Any,
    dkeys: Any,
    denergy: Any,
    denergy_at: int,
) -> None:
    """From the gradient ``g`` of the scores: write ``dquery``, where the query stands, and add to ``dkeys``, where the
    keys stand, and to ``denergy``. A key whose score has no gradient, such as a masked one, is not looked at."""
    step = simd.lanes(query)
    for i in range(0, size, step):
        count = min(step, size - i)
        q = simd.load_part(query, query_at + i, count, 0.0)
        v = simd.load_part(energy, i, count, 0.0)
        dq = simd.splat(query, 0.0)
        dv = simd.load_part(denergy, denergy_at + i, count, 0.0)
        for j in range(length):
            if g[at + j] == 0.0:
                continue
            g_j = simd.splat(g, g[at + j])
            place = keys_at + j * size + i
            unit = simd_math.tanh(q + simd.load_part(keys, place, count, 0.0))
            d = g_j * v * (1.0 - unit * unit)
            dq = dq + d
            dv = simd.fma(g_j, unit, dv)
            simd.store_part(dkeys, place, count, simd.load_part(dkeys, place, count, 0.0) + d)
        simd.store_part(dquery, query_at + i, count, dq)
        simd.store_part(denergy, denergy_at + i, count, dv)


@parallel_kernel
def _scores_parallel(
    batch: int, queries: int, query: Any, keys: Any, energy: Any, no_mask: Any, length: int, size: int, scores: Any
) -> None:
    for b in numba.prange(batch):
        for row in range(b * queries, (b + 1) * queries):
            keys_at = b * length * size
            score_row(query, row * size, keys, keys_at, energy, no_mask, 0, length, size, scores, row * length)


@parallel_kernel
def _scores_backward_parallel(
    batch: int,
    queries: int,
    g: Any,
    query: Any,
    keys: Any,
    energy: Any,
    length: int,
    size: int,
    dquery: Any,
    dkeys: Any,
    denergy: Any,
) -> None:
    for b in numba.prange(batch):
        for row in range(b * queries, (b + 1) * queries):
            at, keys_at = row * size, b * length * size
            operands = (query, at, keys, keys_at, energy, length, size)
            score_row_backward(g, row * length, *operands, dquery, dkeys, denergy, b * size)


def additive_scores(query: np.ndarray, keys: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """``scores[b, t, j] = sum_i energy[i] tanh(query[b, t, i] + keys[b, j, i])``.

    Args:
        query: ``(B, T, A)``, float32 or float64, as the others.
        keys: ``(B, S, A)``.
        energy: ``(A,)``.

    Returns:
        ``(B, T, S)``.
    """
    (batch, queries, size), length = query.shape, keys.shape[1]
    scores = np.empty((batch, queries, length), query.dtype)
    operands = (flat(query), flat(keys), flat(energy), np.empty(0, np.bool_))
    _scores_parallel(batch, queries, *operands, length, size, scores.reshape(-1))
    return scores


def additive_scores_backward(
    g: np.ndarray, query: np.ndarray, keys: np.ndarray, energy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of `additive_scores` for its operands from ``g``, ``(B, T, S)``, that of the scores."""
    (batch, queries, size), length = query.shape, keys.shape[1]
    dquery, dkeys = np.empty(query.shape, query.dtype), np.zeros(keys.shape, keys.dtype)
    denergy = np.zeros((batch, size), energy.dtype)  # by sequence, so that no two threads add to the same
    operands = (flat(g), flat(query), flat(keys), flat(energy), length, size)
    gradients = (dquery.reshape(-1), dkeys.reshape(-1), denergy.reshape(-1))
    _scores_backward_parallel(batch, queries, *operands, *gradients)
    return dquery, dkeys, np.add.reduce(denergy, axis=0)
