"""A GRU that attends before each step, over a whole sequence, forward and backward: the decoder of Bahdanau et al.

Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", 2015. Step t reads
the input x_t and, through attention from its previous state h, the values of the source::

    q = W_q h          e_j = v . tanh(q + k_j)         a = softmax(e)          c = sum_j a_j values_j
    gx = W_ih [x_t; c] + b_ih                          gh = W_hh h + b_hh      h' = GRU(gx, gh, h)

The GRU's formulas are in `kernels.recurrent.sequence`. The part of gx that comes from x is one product for all steps,
as are the gradients of all weights. Sequences do not depend on each other: each thread takes some of them through all
steps, with weights that were packed once.

Every array over all steps is by sequence, (B, T, ...), and the kernels take it flat, so that the row of sequence b and
step t has the number b T + t.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from tinygrad_attn.kernels.attention.additive import AdditiveGradients, AdditiveOperands, score_row, score_row_backward
from tinygrad_attn.kernels.gemm.packed import Rows, multiply_packed, pack
from tinygrad_attn.kernels.gemm.product import gemm
from tinygrad_attn.kernels.recurrent.loops import share
from tinygrad_attn.kernels.recurrent.steps import gru_backward_rows, gru_rows
from tinygrad_attn.kernels.runtime.flat import flat
from tinygrad_attn.kernels.runtime.jit import parallel_kernel, serial_kernel
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.softmax import softmax_backward_row, softmax_rows

__all__ = ["Decoded", "DecoderGradients", "attention_gru", "attention_gru_backward"]


class Decoded(NamedTuple):
    """What `attention_gru` computes; the last two are for the backward pass."""

    states: np.ndarray  # (B, T, H), after each step
    contexts: np.ndarray  # (B, T, D)
    weights: np.ndarray  # (B, T, S)
    queries: np.ndarray  # (B, T, A)
    gates: np.ndarray  # (B, T, 4H)


class DecoderGradients(NamedTuple):
    """The gradients of `attention_gru`'s arguments."""

    x: np.ndarray
    h0: np.ndarray
    values: np.ndarray
    keys: np.ndarray
    w_query: np.ndarray
    energy: np.ndarray
    w_ih: np.ndarray
    w_hh: np.ndarray
    b_ih: np.ndarray
    b_hh: np.ndarray


# --- One sequence at one step -----------------------------------------------------------------------------------------


@serial_kernel
def _mix(weights: Any, weights_at: int, values: Any, values_at: int, length: int, size: int, out: Any, at: int) -> None:
    """The sum of ``length`` values of ``size`` elements, each times its weight."""
    step = simd.lanes(values)
    for i in range(0, size, step):
        count = min(step, size - i)
        total = simd.splat(values, 0.0)
        for j in range(length):
            weight = weights[weights_at + j]
            if weight != 0.0:
                value = simd.load_part(values, values_at + j * size + i, count, 0.0)
                total = simd.fma(simd.splat(values, weight), value, total)
        simd.store_part(out, at + i, count, total)


@serial_kernel
def _mix_backward(
    g: Any, at: int, weights: Any, weights_at: int, values: Any, values_at: int, length: int, size: int, out: Any
) -> None:
    """Add to ``out``, where the weights stand, the products of ``g`` with each value whose weight is not zero."""
    step = simd.lanes(values)
    for j in range(length):
        if weights[weights_at + j] == 0.0:
            continue
        total = simd.splat(values, 0.0)
        for i in range(0, size, step):
            count = min(step, size - i)
            value = simd.load_part(values, values_at + j * size + i, count, 0.0)
            total = simd.fma(simd.load_part(g, at + i, count, 0.0), value, total)
        out[weights_at + j] += simd.reduce_sum(total)


# --- Some sequences through all steps ---------------------------------------------------------------------------------


@serial_kernel
def _forward(
    w_query: Any,
    w_context: Any,
    w_hh: Any,
    gx: Any,
    h0: Any,
    values: Any,
    keys: Any,
    energy: Any,
    b_hh: Any,
    no_bias: Any,
    mask: Any,
    taken: Any,
    states: Any,
    contexts: Any,
    weights: Any,
    queries: Any,
    gates: Any,
    gh: Any,
    steps: int,
    length: int,
    size: int,
    value_size: int,
    key_size: int,
    first: int,
    last: int,
) -> None:
    scored = AdditiveOperands(queries, keys, energy, length, key_size)
    old, old_at, old_stride, width, rows = h0, 0, 1, 3 * size, last - first
    for t in range(steps):
        odd, row = t % 2 == 1, first * steps + t
        h_at, h_stride = (old_at + first * old_stride) * size, old_stride * size
        q_at, q_stride = row * key_size, steps * key_size
        before = Rows(old, h_at, h_stride)
        multiply_packed(rows, before, w_query, no_bias, Rows(queries, q_at, q_stride), False, odd)
        for b in range(first, last):
            row = b * steps + t
            values_at, at = b * length * value_size, row * length
            score_row(scored, mask, weights, row, b)
            softmax_rows(weights, weights, length, row, row + 1)
            _mix(weights, at, values, values_at, length, value_size, contexts, row * value_size)
        row = first * steps + t
        c_at, c_stride = row * value_size, steps * value_size
        x_at, x_stride = row * width, steps * width
        context = Rows(contexts, c_at, c_stride)
        multiply_packed(rows, context, w_context, no_bias, Rows(gx, x_at, x_stride), True, odd)
        multiply_packed(rows, before, w_hh, b_hh, Rows(gh, first * width, width), False, odd)
        gru_rows(gx, gh, old, old_at, old_stride, taken, gates, states, t, steps, size, first, last)
        old, old_at, old_stride = states, t, steps


@serial_kernel
def _backward(
    w_query: Any,
    w_context: Any,
    w_hh: Any,
    g_states: Any,
    h0: Any,
    values: Any,
    keys: Any,
    energy: Any,
    no_bias: Any,
    taken: Any,
    states: Any,
    weights: Any,
    queries: Any,
    gates: Any,
    dcontexts: Any,
    dweights: Any,
    dqueries: Any,
    dgx: Any,
    dgh: Any,
    dh: Any,
    dkeys: Any,
    denergy: Any,
    steps: int,
    length: int,
    size: int,
    value_size: int,
    key_size: int,
    first: int,
    last: int,
) -> None:
    """``dcontexts`` and ``dweights`` begin as what arrives there; the latter ends as the gradient of the scores."""
    scored = AdditiveOperands(queries, keys, energy, length, key_size)
    gradients = AdditiveGradients(dqueries, dkeys, denergy)
    width, rows = 3 * size, last - first
    rest = length % simd.lanes(weights)
    for step in range(steps):
        t, odd = steps - 1 - step, step % 2 == 1
        old, old_at, old_stride = states, t - 1, steps
        if t == 0:
            old, old_at, old_stride = h0, 0, 1
        gru_backward_rows(g_states, old, old_at, old_stride, taken, gates, dgx, dgh, t, steps, dh, size, first, last)
        row = first * steps + t
        x_at, x_stride = row * width, steps * width
        c_at, c_stride = row * value_size, steps * value_size
        context = Rows(dcontexts, c_at, c_stride)
        multiply_packed(rows, Rows(dgx, x_at, x_stride), w_context, no_bias, context, True, odd)
        for b in range(first, last):
            row = b * steps + t
            values_at, at = b * length * value_size, row * length
            _mix_backward(dcontexts, row * value_size, weights, at, values, values_at, length, value_size, dweights)
            softmax_backward_row(dweights, weights, dweights, at, at + length - rest, rest)
            score_row_backward(scored, dweights, gradients, row, b)
        row = first * steps + t
        before = Rows(dh, first * size, size)
        query = Rows(dqueries, row * key_size, steps * key_size)
        multiply_packed(rows, query, w_query, no_bias, before, True, odd)
        multiply_packed(rows, Rows(dgh, x_at, x_stride), w_hh, no_bias, before, True, odd)


@parallel_kernel
def _forward_parallel(workers: int, batch: int, w_query: Any, w_context: Any, w_hh: Any, arguments: Any) -> None:
    for worker in numba.prange(workers):
        _forward(w_query, w_context, w_hh, *arguments, batch * worker // workers, batch * (worker + 1) // workers)


@parallel_kernel
def _backward_parallel(workers: int, batch: int, w_query: Any, w_context: Any, w_hh: Any, arguments: Any) -> None:
    for worker in numba.prange(workers):
        _backward(w_query, w_context, w_hh, *arguments, batch * worker // workers, batch * (worker + 1) // workers)


# --- All sequences ----------------------------------------------------------------------------------------------------


def attention_gru(
    x: np.ndarray,
    h0: np.ndarray,
    values: np.ndarray,
    keys: np.ndarray,
    w_query: np.ndarray,
    energy: np.ndarray,
    w_ih: np.ndarray,
    w_hh: np.ndarray,
    b_ih: np.ndarray | None = None,
    b_hh: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> Decoded:
    """Run the decoder over ``T`` steps of ``B`` sequences. The caller checks the shapes.

    Args:
        x: ``(B, T, E)``, float32 or float64, as everything else but the mask.
        h0: ``(B, H)``.
        values: ``(B, S, D)``.
        keys: ``(B, S, A)``.
        w_query: ``(A, H)``.
        energy: v, ``(A,)``.
        w_ih: ``(3H, E + D)``.
        w_hh: ``(3H, H)``.
        b_ih, b_hh: ``(3H,)``, or None for zeros.
        mask: ``(B, S)`` booleans, False where a value may not be attended to. Nothing left gives zeros.
    """
    (batch, steps, width), (_, length, value_size), (key_size, size) = x.shape, values.shape, w_query.shape
    dtype = x.dtype
    gx = gemm(x.reshape(batch * steps, width), w_ih[:, :width].T, bias=b_ih)
    decoded = Decoded(*(np.empty((batch, steps, n), dtype) for n in (size, value_size, length, key_size, 4 * size)))
    inputs = (gx.reshape(-1), flat(h0), flat(values), flat(keys))
    packed = (pack(w_query.T), pack(w_ih[:, width:].T), pack(w_hh.T))
    parameters = (flat(energy), flat(b_hh, dtype), flat(None, dtype))
    masks = (flat(mask, np.bool_), np.ones(batch * steps, np.bool_))
    results = (*(array.reshape(-1) for array in decoded), np.empty(batch * 3 * size, dtype))
    sizes = (steps, length, size, value_size, key_size)
    work = batch * steps * (w_query.size + w_ih.size + w_hh.size)
    _forward_parallel(share(batch, work), batch, *packed, (*inputs, *parameters, *masks, *results, *sizes))
    return decoded


def attention_gru_backward(
    g_states: np.ndarray | None,
    g_contexts: np.ndarray | None,
    g_weights: np.ndarray | None,
    decoded: Decoded,
    x: np.ndarray,
    h0: np.ndarray,
    values: np.ndarray,
    keys: np.ndarray,
    w_query: np.ndarray,
    energy: np.ndarray,
    w_ih: np.ndarray,
    w_hh: np.ndarray,
) -> DecoderGradients:
    """The gradients of `attention_gru` from those of its states, contexts and weights, None for zeros.

    ``decoded`` is what it returned, the rest what it was given.
    """
    (batch, steps, width), (_, length, value_size), (key_size, size) = x.shape, values.shape, w_query.shape
    dtype, rows = x.dtype, batch * steps
    states, contexts, weights, queries, gates = decoded
    if g_states is None:
        g_states = np.zeros_like(states)
    dcontexts = np.zeros_like(contexts) if g_contexts is None else np.array(g_contexts, order="C")
    dweights = np.zeros_like(weights) if g_weights is None else np.array(g_weights, order="C")
    dqueries, dgx, dgh = (np.empty((rows, n), dtype) for n in (key_size, 3 * size, 3 * size))
    dh, dkeys, denergy = (np.zeros(shape, dtype) for shape in (h0.shape, keys.shape, (batch, key_size)))
    inputs = (flat(g_states), flat(h0), flat(values), flat(keys))
    packed = (pack(w_query), pack(w_ih[:, width:]), pack(w_hh))
    parameters = (flat(energy), flat(None, dtype))
    saved = (np.ones(rows, np.bool_), flat(states), flat(weights), flat(queries), flat(gates))
    gradients = tuple(array.reshape(-1) for array in (dcontexts, dweights, dqueries, dgx, dgh, dh, dkeys, denergy))
    sizes = (steps, length, size, value_size, key_size)
    work = rows * (w_query.size + w_ih.size + w_hh.size)
    _backward_parallel(share(batch, work), batch, *packed, (*inputs, *parameters, *saved, *gradients, *sizes))

    before = np.empty_like(states)  # the state that each step started from
    before[:, 0], before[:, 1:] = h0, states[:, :-1]
    before = before.reshape(rows, size)
    dw_ih = np.empty_like(w_ih, order="C")
    gemm(dgx.T, x.reshape(rows, width), dw_ih[:, :width])
    gemm(dgx.T, contexts.reshape(rows, value_size), dw_ih[:, width:])
    return DecoderGradients(
        x=gemm(dgx, w_ih[:, :width]).reshape(x.shape),
        h0=dh,
        values=gemm(weights.swapaxes(1, 2), dcontexts),
        keys=dkeys,
        w_query=gemm(dqueries.T, before),
        energy=np.add.reduce(denergy, axis=0),
        w_ih=dw_ih,
        w_hh=gemm(dgh.T, before),
        b_ih=np.add.reduce(dgx, axis=0),
        b_hh=np.add.reduce(dgh, axis=0),
    )
