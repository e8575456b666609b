"""A GRU that attends before each step, over a whole sequence as one op: the decoder of Bahdanau et al."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.kernels.recurrent import attention_gru as kernels
from tinygrad_attn.modes import at_step, mark
from tinygrad_attn.op import op
from tinygrad_attn.ops.fused.additive import additive_score
from tinygrad_attn.ops.fused.gru import gru_step
from tinygrad_attn.ops.fused.linear import linear
from tinygrad_attn.ops.fused.softmax import masked_softmax, softmax
from tinygrad_attn.ops.joining import narrow, stack, unbind
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.pointwise import add
from tinygrad_attn.ops.shape import squeeze, unsqueeze
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["attention_gru"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    batch, steps, length = draw.integer(0, 2), draw.integer(1, 2), draw.integer(1, 2)
    inputs, size, value_size, key_size = (draw.integer(1, 2) for _ in range(4))
    shapes = [(batch, steps, inputs), (batch, size), (batch, length, value_size), (batch, length, key_size)]
    shapes += [(key_size, size), (key_size,), (3 * size, inputs + value_size), (3 * size, size)]
    biases = [draw.floats((3 * size,)), draw.floats((3 * size,))] if draw.boolean() else [None, None]
    mask = draw.mask((batch, length)) if draw.boolean() else None
    return Sample((*(draw.floats(shape) for shape in shapes), *biases, mask))


_SHAPES = {
    "x": (2, 4, 5), "h0": (2, 3), "values": (2, 6, 7), "keys": (2, 6, 8), "w_query": (8, 3), "energy": (8,),
    "w_ih": (9, 12), "w_hh": (9, 3), "b_ih": (9,), "b_hh": (9,),
}  # fmt: skip


def _error(match: str, **changed: Any) -> ErrorSample:
    operands = {name: np.ones(shape) for name, shape in _SHAPES.items()} | {"mask": None} | changed
    kind = TypeError if "bool" in match else ValueError
    return ErrorSample(tuple(operands.values()), {}, kind, match)


_STEP = (
    r"e_{tj} = v \cdot \tanh(W_q z_{t-1} + k_j), \quad \alpha_t = \operatorname{softmax}(e_t), "
    r"\quad c_t = \textstyle\sum_j \alpha_{tj} u_j"
)


@public("F")
@op(
    rf"z_t = \operatorname{{GRU}}([x_t; c_t], z_{{t-1}}), \quad z_0 = h_0, \quad {_STEP}",
    samples=_samples,
    errors=[
        _error(r"x must have shape \(B, T, E\) with at least one step, it has \(2, 0, 5\)", x=np.ones((2, 0, 5))),
        _error(r"h0 must have shape \(2, 3\), it has \(4, 3\)", h0=np.ones((4, 3))),
        _error(r"keys must have shape \(2, 6, 8\), it has \(2, 5, 8\)", keys=np.ones((2, 5, 8))),
        _error(r"w_ih must have shape \(9, 12\), it has \(9, 5\)", w_ih=np.ones((9, 5))),
        _error(r"mask must have shape \(2, 6\), it has \(2, 4\)", mask=np.ones((2, 4), np.bool_)),
        _error("mask must be bool", mask=np.ones((2, 6))),
    ],
    outputs=3,
    saves=("queries", "gates"),
)
def attention_gru(
    x: Array,
    h0: Array,
    values: Array,
    keys: Array,
    w_query: Array,
    energy: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    mask: Array | None = None,
    /,
) -> tuple[Array, Array, Array, Array, Array]:
    """A GRU that reads, at each step, an input and the context that attention finds from the state before.

    Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", 2015. At step t:
    the scores e_tj = v · tanh(W_q h_{t-1} + k_j), the weights α_t = softmax(e_t), the context c_t = Σ_j α_tj u_j, and
    the state h_t = GRU([x_t; c_t], h_{t-1}) (see `tinygrad_attn.ops.fused.gru.gru_step`).

    Args:
        x: the inputs of all steps, ``(B, T, E)``.
        h0: the first state, ``(B, H)``.
        values: u, ``(B, S, D)``.
        keys: k, ``(B, S, A)``.
        w_query: W_q, ``(A, H)``.
        energy: v, ``(A,)``.
        w_ih: ``(3H, E + D)``, for [x_t; c_t].
        w_hh: ``(3H, H)``.
        b_ih, b_hh: ``(3H,)``, or None.
        mask: bool ``(B, S)``, True where a value may be attended to; None for all. Nothing left gives zeros, weights
            and context.

    Returns:
        The states ``(B, T, H)``, the contexts ``(B, T, D)`` and the weights ``(B, T, S)``.

    Raises:
        ValueError: shapes other than these, no step, or a size of zero other than B.
        TypeError: a mask that is not bool.
    """
    _check_shapes(x, h0, values, keys, w_query, energy, w_ih, w_hh, b_ih, b_hh, mask)
    operands = kernels.DecoderOperands(x, h0, values, keys, w_query, energy, w_ih, w_hh, b_ih, b_hh)
    return kernels.attention_gru(operands, mask)


_GATES = r"(\delta_t, \delta^h_t)\ \text{from}\ \bar h_t\ \text{as in gru}"
_INTO_SCORES = (
    r"\bar e_t = \alpha_t \odot (\bar \alpha_t - \alpha_t \cdot \bar \alpha_t), "
    r"\quad \bar \alpha_{tj} = \bar c_t \cdot u_j, \quad \bar c_t = W_c^\top \delta_t"
)
_UNITS = r"\epsilon_{tj} = \bar e_{tj}\, v \odot (1 - \eta_{tj}^2), \quad \eta_{tj} = \tanh(W_q z_{t-1} + k_j)"
_INTO_STATE = (
    r"\bar h_{t-1} = \bar z_{t-1} + u_t \odot \bar h_t + W_h^\top \delta^h_t + W_q^\top \textstyle\sum_j \epsilon_{tj}"
)
attention_gru.vjp("x", rf"\bar x_t = W_x^\top \delta_t, \quad {_GATES}, \quad W_{{ih}} = [W_x\ W_c]")
attention_gru.vjp("h0", rf"\bar h_0, \quad {_INTO_STATE}, \quad {_GATES}")
attention_gru.vjp("values", r"\bar u_j = \textstyle\sum_t \alpha_{tj}\, \bar c_t, \quad \bar c_t = W_c^\top \delta_t")
attention_gru.vjp("keys", rf"\bar k_j = \textstyle\sum_t \epsilon_{{tj}}, \quad {_UNITS}, \quad {_INTO_SCORES}")
attention_gru.vjp("w_query", rf"\textstyle\sum_{{tj}} \epsilon_{{tj}}\, z_{{t-1}}^\top, \quad {_UNITS}")
attention_gru.vjp("energy", rf"\textstyle\sum_{{tj}} \bar e_{{tj}}\, \eta_{{tj}}, \quad {_INTO_SCORES}")
attention_gru.vjp("w_ih", rf"\textstyle\sum_t \delta_t\, [x_t; c_t]^\top, \quad {_GATES}")
attention_gru.vjp("w_hh", rf"\textstyle\sum_t \delta^h_t\, z_{{t-1}}^\top, \quad {_GATES}")
attention_gru.vjp("b_ih", rf"\textstyle\sum_t \sum_{{\text{{batch}}}} \delta_t, \quad {_GATES}")
attention_gru.vjp("b_hh", rf"\textstyle\sum_t \sum_{{\text{{batch}}}} \delta^h_t, \quad {_GATES}")


@attention_gru.composed_of
def _attention_gru_reference(
    x: Tensor,
    h0: Tensor,
    values: Tensor,
    keys: Tensor,
    w_query: Tensor,
    energy: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    _check_shapes(x, h0, values, keys, w_query, energy, w_ih, w_hh, b_ih, b_hh, mask)
    # W_ih [x; c] = W_x x + W_c c: the first part for all steps at once.
    w_x, w_c = narrow(w_ih, 1, 0, x.shape[-1]), narrow(w_ih, 1, x.shape[-1], values.shape[-1])
    h = h0
    states, contexts, weights = [], [], []
    for t, from_input in enumerate(unbind(linear(x, w_x, b_ih), 1)):
        with at_step(t):
            query, key = mark("query", unsqueeze(linear(h, w_query), 1)), mark("key", keys)
            scores = additive_score(query, key, mark("parameter", energy, symbol="v"))  # (B, 1, S)
            scores = mark("scores", scores, score="additive")
            if mask is None:
                weight = softmax(scores, -1)
            else:
                weight = masked_softmax(scores, mark("mask", unsqueeze(mask, 1)), dim=-1)
            weight = mark("weights", weight)
            context = squeeze(mark("context", matmul(weight, mark("value", values))), 1)
            h = gru_step(add(from_input, linear(context, w_c)), h, w_hh, b_hh)
        states.append(h)
        contexts.append(context)
        weights.append(squeeze(weight, 1))
    return stack(states, 1), stack(contexts, 1), stack(weights, 1)


@attention_gru.kernel
def _attention_gru_gradients(
    g: tuple[Array | None, Array | None, Array | None],
    z: tuple[Array, Array, Array],
    x: Array,
    h0: Array,
    values: Array,
    keys: Array,
    w_query: Array,
    energy: Array,
    w_ih: Array,
    w_hh: Array,
    queries: Array,
    gates: Array,
) -> tuple[Array | None, ...]:
    decoded = kernels.Decoded(*z, queries, gates)
    operands = kernels.DecoderOperands(x, h0, values, keys, w_query, energy, w_ih, w_hh)
    gradients = kernels.attention_gru_backward(g, decoded, operands)
    return *gradients, None


def _check_shapes(
    x: Any, h0: Any, values: Any, keys: Any, w_query: Any, energy: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any,
    mask: Any,
) -> None:  # fmt: skip
    """Make sure that all shapes follow from those of x, values and w_query."""
    name = "attention_gru"
    if x.ndim != 3 or not x.shape[1]:
        raise ValueError(f"{name}: x must have shape (B, T, E) with at least one step, it has {x.shape}")
    if values.ndim != 3 or not all(values.shape[1:]):
        raise ValueError(f"{name}: values must have shape (B, S, D), neither S nor D zero, they have {values.shape}")
    if w_query.ndim != 2 or not all(w_query.shape):
        raise ValueError(f"{name}: w_query must have shape (A, H), neither of them zero, it has {w_query.shape}")
    (batch, _, inputs), (_, length, value_size), (key_size, size) = x.shape, values.shape, w_query.shape
    expected = {
        "h0": (h0, (batch, size)),
        "values": (values, (batch, length, value_size)),
        "keys": (keys, (batch, length, key_size)),
        "energy": (energy, (key_size,)),
        "w_ih": (w_ih, (3 * size, inputs + value_size)),
        "w_hh": (w_hh, (3 * size, size)),
        "b_ih": (b_ih, (3 * size,)),
        "b_hh": (b_hh, (3 * size,)),
        "mask": (mask, (batch, length)),
    }
    for which, (array, shape) in expected.items():
        if array is not None and array.shape != shape:
            raise ValueError(
                f"{name}: for x {x.shape}, values {values.shape} and w_query {w_query.shape}, {which} must have shape "
                f"{shape}, it has {array.shape}"
            )
    if mask is not None and mask.dtype != np.bool_:
        raise TypeError(f"{name}: mask must be bool (True = may be attended to), it is {mask.dtype}")
