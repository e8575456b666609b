"""A GRU that attends before each step, over a whole sequence, forward and backward: the decoder of Bahdanau et al.

Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", 2015. Step t reads
the input x_t and, through attention from its previous state h, the values of the source. `run` says in NumPy what the
kernels compute.

It is the GRU's loop with a kernel called in every step, which computes the context and adds its part to gx. The part of
gx that comes from x is one product for all steps, as are the gradients of all weights.

Every array over all steps is by sequence, (B, T, ...), so that the row of sequence b and step t has the number b T + t.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.attention.additive import (
    AdditiveGradients,
    AdditiveOperands,
    score_row,
    score_row_backward,
)
from tinygrad_attn.kernels.gemm.operands import Extent, Matrix
from tinygrad_attn.kernels.gemm.packed import pack
from tinygrad_attn.kernels.gemm.product import gemm
from tinygrad_attn.kernels.recurrent import gru
from tinygrad_attn.kernels.recurrent.sequence import Layout, launch_loop
from tinygrad_attn.kernels.runtime.calls import call
from tinygrad_attn.kernels.runtime.jit import called_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, read_struct, row_at
from tinygrad_attn.kernels.simd import vectors as simd
from tinygrad_attn.kernels.softmax import softmax_backward_row, softmax_row
from tinygrad_attn.kernels.together import multiply_and_sum

__all__ = ["Decoded", "DecoderGradients", "DecoderOperands", "attention_gru", "attention_gru_backward", "run"]

Array = np.ndarray[Any, Any]


class DecoderOperands(NamedTuple):
    """What the decoder is computed from: float32 or float64, all of one dtype."""

    x: Array  # (B, T, E)
    h0: Array  # (B, H)
    values: Array  # (B, S, D)
    keys: Array  # (B, S, A)
    w_query: Array  # (A, H)
    energy: Array  # v, (A,)
    w_ih: Array  # (3H, E + D)
    w_hh: Array  # (3H, H)
    b_ih: Array | None = None  # (3H,), None for zeros
    b_hh: Array | None = None  # (3H,), None for zeros


class Decoded(NamedTuple):
    """What `attention_gru` computes; the last two are for the backward pass."""

    states: Array  # (B, T, H), after each step
    contexts: Array  # (B, T, D)
    weights: Array  # (B, T, S)
    queries: Array  # (B, T, A)
    gates: Array  # (B, T, 4H)


class DecoderGradients(NamedTuple):
    """The gradients of `DecoderOperands`."""

    x: Array
    h0: Array
    values: Array
    keys: Array
    w_query: Array
    energy: Array
    w_ih: Array
    w_hh: Array
    b_ih: Array
    b_hh: Array


def run(operands: DecoderOperands, mask: Array) -> list[Array]:
    """In NumPy: the states, contexts and weights."""
    x, h, values, keys, w_query, energy, w_ih, w_hh, b_ih, b_hh = operands
    steps = []
    for t in range(x.shape[1]):
        scores = np.where(mask, np.tanh((h @ w_query.T)[:, None] + keys) @ energy, -np.inf)
        exponentials = np.exp(scores - np.maximum(scores.max(-1, keepdims=True), -1e300)) * mask
        weights = exponentials / np.maximum(exponentials.sum(-1, keepdims=True), 1e-300)
        context = np.einsum("bs,bsd->bd", weights, values)
        (h,) = gru.step(np.concatenate([x[:, t], context], -1) @ w_ih.T + b_ih, h @ w_hh.T + b_hh, h)
        steps.append((h, context, weights))
    return [np.stack(of_steps, 1) for of_steps in zip(*steps, strict=True)]


# --- In kernels -------------------------------------------------------------------------------------------------------


class _Attention(NamedTuple):
    """What attention works on in every step. Each product is with weights that were packed, transposed or not."""

    batch: int
    steps: int
    length: int  # S
    size: int  # H
    value_size: int  # D
    key_size: int  # A
    product: int  # address of the product with packed weights
    panel_width: int
    query_panels: Address  # W_q
    context_panels: Address  # the part of W_ih for the context
    values: Address
    keys: Address
    energy: Address
    weights: Address
    queries: Address
    contexts: Address  # backward: their gradient, at first without the part through the GRU
    gx: Address  # backward: its gradient
    mask: Address = None  # (B, S)
    dweights: Address = None  # at first the gradient of the weights as outputs; becomes that of the scores
    dqueries: Address = None
    dh: Address = None
    dkeys: Address = None
    denergy: Address = None  # (B, A)


@called_kernel
def _operands(dtype: Any, s: Any) -> AdditiveOperands:
    query, keys = (
        row_at(dtype, s.queries, 0, s.batch * s.steps * s.key_size),
        row_at(dtype, s.keys, 0, s.batch * s.length * s.key_size),
    )
    return AdditiveOperands(query, keys, row_at(dtype, s.energy, 0, s.key_size), s.length, s.key_size)


def _make_attend(dtype: Any) -> Any:
    itemsize = np.dtype(dtype).itemsize

    @serial_kernel
    def attend(attention: int, t: int, h: int, distance: int, first: int, last: int) -> None:
        s = read_struct(_Attention, attention)
        count, start = last - first, first * s.steps + t
        query_row, context_row, gx_row = s.key_size * itemsize, s.value_size * itemsize, 3 * s.size * itemsize
        queries = Matrix(s.queries + start * query_row, s.steps * query_row, itemsize)
        contexts = Matrix(s.contexts + start * context_row, s.steps * context_row, itemsize)
        gx = Matrix(s.gx + start * gx_row, s.steps * gx_row, itemsize)
        before = Matrix(h + first * distance, distance, itemsize)
        extent = Extent(count, s.key_size, s.size)
        call(s.product, extent, before, s.query_panels, s.panel_width, 0, queries, 0, t % 2)
        operands = _operands(dtype, s)
        mask = row_at(np.bool_, s.mask, 0, s.batch * s.length if s.mask else 0)
        weights = row_at(dtype, s.weights, 0, s.batch * s.steps * s.length)
        for b in range(first, last):
            row = b * s.steps + t
            score_row(operands, mask, weights, row, b)
            of_row = row_at(dtype, s.weights, row, s.length)
            softmax_row(of_row, of_row)
            values, context = (
                row_at(dtype, s.values, b, s.length * s.value_size),
                row_at(dtype, s.contexts, row, s.value_size),
            )
            _mix(of_row, values, context)
        extent = Extent(count, 3 * s.size, s.value_size)
        call(s.product, extent, contexts, s.context_panels, s.panel_width, 0, gx, 1, t % 2)

    return attend


def _make_attend_backward(dtype: Any) -> Any:
    itemsize = np.dtype(dtype).itemsize

    @serial_kernel
    def attend_backward(attention: int, t: int, first: int, last: int) -> None:
        s = read_struct(_Attention, attention)
        count, start = last - first, first * s.steps + t
        query_row, context_row, gx_row = s.key_size * itemsize, s.value_size * itemsize, 3 * s.size * itemsize
        dqueries = Matrix(s.dqueries + start * query_row, s.steps * query_row, itemsize)
        dcontexts = Matrix(s.contexts + start * context_row, s.steps * context_row, itemsize)
        dgx = Matrix(s.gx + start * gx_row, s.steps * gx_row, itemsize)
        dh = Matrix(s.dh + first * s.size * itemsize, s.size * itemsize, itemsize)
        extent = Extent(count, s.value_size, 3 * s.size)
        call(s.product, extent, dgx, s.context_panels, s.panel_width, 0, dcontexts, 1, t % 2)
        operands, gradients = _operands(dtype, s), _gradients(dtype, s)
        dweights = row_at(dtype, s.dweights, 0, s.batch * s.steps * s.length)
        for b in range(first, last):
            row = b * s.steps + t
            weights, of_row = row_at(dtype, s.weights, row, s.length), row_at(dtype, s.dweights, row, s.length)
            values, dcontext = (
                row_at(dtype, s.values, b, s.length * s.value_size),
                row_at(dtype, s.contexts, row, s.value_size),
            )
            _mix_backward(dcontext, weights, values, of_row)
            softmax_backward_row(of_row, weights, of_row)
            score_row_backward(operands, dweights, gradients, row, b)
        extent = Extent(count, s.size, s.key_size)
        call(s.product, extent, dqueries, s.query_panels, s.panel_width, 0, dh, 1, t % 2)

    return attend_backward


@called_kernel
def _gradients(dtype: Any, s: Any) -> AdditiveGradients:
    dqueries = row_at(dtype, s.dqueries, 0, s.batch * s.steps * s.key_size)
    dkeys = row_at(dtype, s.dkeys, 0, s.batch * s.length * s.key_size)
    return AdditiveGradients(dqueries, dkeys, row_at(dtype, s.denergy, 0, s.batch * s.key_size))


@called_kernel
def _mix(weights: Any, values: Any, context: Any) -> None:
    """Write the sum of the values, flat, each times its weight."""
    step, size = simd.lanes(values), context.size
    for i in range(0, size, step):
        count = min(step, size - i)
        total = simd.splat(values, 0.0)
        for j in range(weights.size):
            if weights[j] != 0.0:
                total = simd.fma(
                    simd.splat(values, weights[j]), simd.load_part(values, j * size + i, count, 0.0), total
                )
        simd.store_part(context, i, count, total)


@called_kernel
def _mix_backward(dcontext: Any, weights: Any, values: Any, dweights: Any) -> None:
    """Add to ``dweights`` the products of ``dcontext`` with each value whose weight is not zero."""
    step, size = simd.lanes(values), dcontext.size
    for j in range(weights.size):
        if weights[j] == 0.0:
            continue
        total = simd.splat(values, 0.0)
        for i in range(0, size, step):
            count = min(step, size - i)
            value = simd.load_part(values, j * size + i, count, 0.0)
            total = simd.fma(simd.load_part(dcontext, i, count, 0.0), value, total)
        dweights[j] += simd.reduce_sum(total)


# --- Whole sequences --------------------------------------------------------------------------------------------------


def attention_gru(operands: DecoderOperands, mask: Array | None = None) -> Decoded:
    """Run the decoder over ``T`` steps of ``B`` sequences. The caller checks the shapes.

    Args:
        operands: arrays of any strides.
        mask: ``(B, S)`` booleans, False where a value may not be attended to. Weights and context are
            zeros where all are False.
    """
    x, w_ih = operands.x, operands.w_ih
    (batch, steps, width), (_, length, value_size), (key_size, size) = _shapes(operands)
    gx = gemm(x.reshape(batch * steps, width), w_ih[:, :width].T, bias=operands.b_ih)
    decoded = Decoded(*(np.empty((batch, steps, n), x.dtype) for n in (size, value_size, length, key_size, 4 * size)))
    fields = {
        "h0": operands.h0,
        "states": decoded.states,
        "gates": decoded.gates,
        "bias": operands.b_hh,
        "gx": gx,
        "gh": np.empty((batch, 3 * size), x.dtype),
        "attend": kernel_for(_make_attend, x.dtype.type),
        "attention": _attention(operands, decoded, contexts=decoded.contexts, gx=gx, mask=mask),
    }
    _launch(operands, fields, backward=False)
    return decoded


def attention_gru_backward(
    g: tuple[Array | None, Array | None, Array | None], decoded: Decoded, operands: DecoderOperands
) -> DecoderGradients:
    """The gradients of `attention_gru`'s operands from those of its states, contexts and weights, None for zeros.

    ``decoded`` is what it returned, ``operands`` what it was given; the biases are not read.
    """
    x, h0, w_ih = operands.x, operands.h0, operands.w_ih
    (batch, steps, width), (_, _, value_size), (key_size, size) = _shapes(operands)
    rows = batch * steps
    decoded = Decoded(*map(np.ascontiguousarray, decoded))
    g_states, dcontexts, dweights = (
        np.zeros_like(output) if one is None else np.array(one, order="C")
        for one, output in zip(g, decoded[:3], strict=True)
    )
    dqueries, dgx, dgh = (np.empty((rows, n), x.dtype) for n in (key_size, 3 * size, 3 * size))
    before = np.empty((rows, size), x.dtype)  # each step's first state
    dh, dkeys, denergy = (np.zeros(shape, x.dtype) for shape in (h0.shape, operands.keys.shape, (batch, key_size)))
    gradients = {"dweights": dweights, "dqueries": dqueries, "dh": dh, "dkeys": dkeys, "denergy": denergy}
    fields = {
        "h0": h0,
        "states": decoded.states,
        "gates": decoded.gates,
        "g": g_states,
        "dgx": dgx,
        "dgh": dgh,
        "dh": dh,
        "before": before,
        "attend": kernel_for(_make_attend_backward, x.dtype.type),
        "attention": _attention(operands, decoded, contexts=dcontexts, gx=dgx, **gradients),
    }
    _launch(operands, fields, backward=True)
    for_x, for_values, for_query, for_energy, for_w_ih, for_w_hh = (
        np.empty(array.shape, x.dtype)
        for array in (x, operands.values, operands.w_query, operands.energy, w_ih, operands.w_hh)
    )
    for_b_ih, for_b_hh = (np.empty(3 * size, x.dtype) for _ in range(2))
    contexts, x_rows = decoded.contexts.reshape(rows, value_size), x.reshape(rows, width)
    multiply_and_sum(
        [
            (dgx.T, x_rows, for_w_ih[:, :width]),
            (dgx.T, contexts, for_w_ih[:, width:]),
            (dgx, w_ih[:, :width], for_x.reshape(rows, width)),
            (decoded.weights.swapaxes(1, 2), dcontexts, for_values),
            (dqueries.T, before, for_query),
            (dgh.T, before, for_w_hh),
        ],
        [(denergy, for_energy), (dgx, for_b_ih), (dgh, for_b_hh)],
        in_chains=True,
    )
    return DecoderGradients(for_x, dh, for_values, dkeys, for_query, for_energy, for_w_ih, for_w_hh, for_b_ih, for_b_hh)


def _shapes(operands: DecoderOperands) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    return operands.x.shape, operands.values.shape, operands.w_query.shape


def _launch(operands: DecoderOperands, fields: dict[str, Any], backward: bool) -> None:
    layout = Layout(operands.x.shape[1], operands.x.shape[0], operands.x.dtype.type, by_sequence=True)
    launch_loop(gru.GRU, layout, operands.w_hh, fields, backward, operands.w_query.size + operands.w_ih.size)


def _attention(
    operands: DecoderOperands,
    decoded: Decoded,
    contexts: Array,
    gx: Array,
    mask: Array | None = None,
    **backward: Any,
) -> Struct:
    """What the attending kernel works on; ``backward`` are the gradients, if it is the kernel backward."""
    (batch, steps, width), (_, length, value_size), (key_size, size) = _shapes(operands)
    query, context = (pack(w if backward else w.T) for w in (operands.w_query, operands.w_ih[:, width:]))
    return Struct(
        _Attention(
            *(batch, steps, length, size, value_size, key_size),
            product=query.product,
            panel_width=query.panels.shape[-1],
            query_panels=query.panels,
            context_panels=context.panels,
            values=operands.values,
            keys=operands.keys,
            energy=operands.energy,
            weights=decoded.weights,
            queries=decoded.queries,
            contexts=contexts,
            gx=gx,
            mask=mask,
            **backward,
        )
    )
