"""The additive score of Bahdanau et al., and its derivatives.

A tanh for each query, key and unit is by far the most of the work and the most numbers: they are computed where they
are needed, backward too, and never stored.

Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", 2015.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.jit import called_kernel, inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, launch, read_struct, row_at
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.sums import sum_over

__all__ = [
    "AdditiveGradients",
    "AdditiveOperands",
    "additive_scores",
    "additive_scores_backward",
    "additive_scores_backward_in_numpy",
    "additive_scores_in_numpy",
    "score_row",
    "score_row_backward",
]


# --- In NumPy: what the kernels are held to ---------------------------------------------------------------------------


def additive_scores_in_numpy(query: np.ndarray, keys: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """``scores[b, t, j] = sum_i energy[i] tanh(query[b, t, i] + keys[b, j, i])``."""
    return np.tanh(query[:, :, None] + keys[:, None]) @ energy


def additive_scores_backward_in_numpy(
    g: np.ndarray, query: np.ndarray, keys: np.ndarray, energy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of query, keys and energy from ``g``, that of the scores."""
    units = np.tanh(query[:, :, None] + keys[:, None])
    d = g[..., None] * energy * (1 - units**2)
    return d.sum(2), d.sum(1), np.einsum("btj,btji->i", g, units)


# --- One query --------------------------------------------------------------------------------------------------------


class AdditiveOperands(NamedTuple):
    """What scores are computed from; all arrays are flat. A *row* is the number of a query among those of all
    sequences, a *sequence* that of its keys."""

    query: np.ndarray  # (rows, size)
    keys: np.ndarray  # (sequences, length, size)
    energy: np.ndarray  # (size,)
    length: int
    size: int


class AdditiveGradients(NamedTuple):
    """Flat arrays for the gradients of `AdditiveOperands`."""

    query: np.ndarray  # (rows, size), written
    keys: np.ndarray  # (sequences, length, size), added to
    energy: np.ndarray  # (sequences, size), added to; by sequence, so that no two threads add to the same


@called_kernel
def score_row(operands: Any, mask: Any, scores: Any, row: int, sequence: int) -> None:
    """Score the query of a row against all keys of its sequence, into that row of ``scores``, flat (rows, length).

    ``mask`` is flat (sequences, length). The score of a key whose mask is False is -inf. An empty mask is True
    throughout.
    """
    query, keys, energy, length, size = operands
    query_at, keys_at, at = row * size, sequence * length * size, row * length
    step = simd.lanes(query)
    for j in range(length):
        if mask.size > 0 and not mask[sequence * length + j]:
            scores[at + j] = -math.inf
            continue
        total = simd.splat(query, 0.0)
        for i in range(0, size, step):
            count = min(step, size - i)
            key = simd.load_part(keys, keys_at + j * size + i, count, 0.0)
            unit = simd_math.tanh(simd.load_part(query, query_at + i, count, 0.0) + key)
            total = simd.fma(simd.load_part(energy, i, count, 0.0), unit, total)
        scores[at + j] = simd.reduce_sum(total)


@called_kernel
def score_row_backward(operands: Any, g: Any, gradients: Any, row: int, sequence: int) -> None:
    """The part of a row's query in `AdditiveGradients`, from ``g``, the gradient of the scores, flat (rows, length).

    A key whose score has no gradient, such as a masked one, is not looked at.
    """
    query, keys, energy, length, size = operands
    dquery, dkeys, denergy = gradients
    query_at, keys_at, energy_at, at = row * size, sequence * length * size, sequence * size, row * length
    step = simd.lanes(query)
    for i in range(0, size, step):
        count = min(step, size - i)
        q = simd.load_part(query, query_at + i, count, 0.0)
        v = simd.load_part(energy, i, count, 0.0)
        dq = simd.splat(query, 0.0)
        dv = simd.load_part(denergy, energy_at + i, count, 0.0)
        for j in range(length):
            if g[at + j] == 0.0:
                continue
            g_j = simd.splat(g, g[at + j])
            key_at = keys_at + j * size + i
            unit = simd_math.tanh(q + simd.load_part(keys, key_at, count, 0.0))
            d = g_j * v * (1.0 - unit * unit)
            dq = dq + d
            dv = simd.fma(g_j, unit, dv)
            simd.store_part(dkeys, key_at, count, simd.load_part(dkeys, key_at, count, 0.0) + d)
        simd.store_part(dquery, query_at + i, count, dq)
        simd.store_part(denergy, energy_at + i, count, dv)


# --- All queries ------------------------------------------------------------------------------------------------------


class _Scores(NamedTuple):
    """All operands and gradients of a pass; those that it does not need are None."""

    query: Address  # (B, T, A)
    keys: Address  # (B, S, A)
    energy: Address  # (A,)
    scores: Address  # (B, T, S), backward their gradient
    sequences: int
    queries: int  # of a sequence
    length: int
    size: int
    dquery: Address = None
    dkeys: Address = None
    denergy: Address = None  # (B, A)


@inlined_kernel
def _operands_of(dtype: Any, s: Any) -> Any:
    query = row_at(dtype, s.query, 0, s.sequences * s.queries * s.size)
    keys = row_at(dtype, s.keys, 0, s.sequences * s.length * s.size)
    return AdditiveOperands(query, keys, row_at(dtype, s.energy, 0, s.size), s.length, s.size)


def _make_forward(dtype: Any) -> Any:
    @serial_kernel
    def forward(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Scores, arguments)
        operands = _operands_of(dtype, s)
        scores, no_mask = row_at(dtype, s.scores, 0, last * s.queries * s.length), row_at(np.bool_, 0, 0, 0)
        for row in range(first * s.queries, last * s.queries):
            score_row(operands, no_mask, scores, row, row // s.queries)

    return forward


def _make_backward(dtype: Any) -> Any:
    @serial_kernel
    def backward(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Scores, arguments)
        operands, rows = _operands_of(dtype, s), s.sequences * s.queries
        gradients = AdditiveGradients(
            row_at(dtype, s.dquery, 0, rows * s.size),
            row_at(dtype, s.dkeys, 0, s.sequences * s.length * s.size),
            row_at(dtype, s.denergy, 0, s.sequences * s.size),
        )
        g = row_at(dtype, s.scores, 0, rows * s.length)
        for row in range(first * s.queries, last * s.queries):
            score_row_backward(operands, g, gradients, row, row // s.queries)

    return backward


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
    arguments = Struct(_Scores(query, keys, energy, scores, batch, queries, length, size))
    dtype: Any = query.dtype.type
    launch(kernel_for(_make_forward, dtype), arguments, batch, min(batch, get_num_threads()))
    return scores


def additive_scores_backward(
    g: np.ndarray, query: np.ndarray, keys: np.ndarray, energy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of `additive_scores` for its operands from ``g``, ``(B, T, S)``, that of the scores."""
    (batch, queries, size), length = query.shape, keys.shape[1]
    dquery, dkeys = np.empty(query.shape, query.dtype), np.zeros(keys.shape, keys.dtype)
    denergy = np.zeros((batch, size), energy.dtype)
    fields = _Scores(query, keys, energy, g, batch, queries, length, size, dquery, dkeys, denergy)
    dtype: Any = query.dtype.type
    launch(kernel_for(_make_backward, dtype), Struct(fields), batch, min(batch, get_num_threads()))
    return dquery, dkeys, sum_over(denergy, (0,))
