"""attention_gru: a GRU with additive attention before each step, as in Bahdanau et al. 2015."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.recurrent import attention_gru as kernels
from tinygrad_attn.modes import at_step, mark
from tinygrad_attn.op import op
from tinygrad_attn.ops.fused.additive import additive_score, units, units_gradient
from tinygrad_attn.ops.fused.attention import LEFT_BY_MASK
from tinygrad_attn.ops.fused.gru import DELTAS, GateGradients, gate_gradients, gru_step
from tinygrad_attn.ops.fused.linear import linear
from tinygrad_attn.ops.fused.recurrence import sum_over_batch, weight_gradient
from tinygrad_attn.ops.fused.softmax import masked_softmax, softmax
from tinygrad_attn.ops.joining import narrow, stack, unbind
from tinygrad_attn.ops.matmul import matmul
from tinygrad_attn.ops.pointwise import add
from tinygrad_attn.ops.reduction import sum
from tinygrad_attn.ops.shape import squeeze, unsqueeze
from tinygrad_attn.public import public
from tinygrad_attn.rule import once_per_node
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["attention_gru", "attention_gru_step"]

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


# -- one step ----------------------------------------------------------------------------------------------------------


def _step_samples(draw: Draw) -> Sample:
    x, h, values, keys, w_query, energy, w_ih, w_hh, _, b_hh, mask = _samples(draw).operands
    gx = draw.floats((len(h), w_hh.shape[0]))
    w_context = w_ih[:, x.shape[-1] :]
    return Sample((gx, h, values, keys, w_query, energy, w_context, w_hh, b_hh, mask))


_ATTENTION = (
    rf"\quad c = \textstyle\sum_j \alpha_j V_j, \quad \alpha = \operatorname{{softmax}}(e) {LEFT_BY_MASK}, "
    r"\quad e_j = v \cdot \tanh(W_q h + k_j)"
)


@op(
    rf"h' = (1 - u) \odot n + u \odot h, {_ATTENTION}, \quad r = \sigma(p_r + a_r), \quad u = \sigma(p_u + a_u), "
    r"\quad n = \tanh(p_n + r \odot a_n), \quad p = x + W_c c, \quad a = W h + b",
    samples=_step_samples,
    errors=[
        ErrorSample(
            (np.ones((2, 8)), *(np.ones(_SHAPES[name]) for name in ("h0", "values", "keys", "w_query", "energy")),
             np.ones((9, 7)), np.ones((9, 3)), None, None),
            {}, ValueError, r"gx must have shape \(2, 9\), it has \(2, 8\)",
        ),
    ],
    outputs=3,
    symbols={
        "V": "values", "k": "keys", "W_q": "w_query", "v": "energy", "W_c": "w_context", "W": "w_hh", "b": "b_hh",
        LEFT_BY_MASK: "mask",
    },
)  # fmt: skip
def attention_gru_step(
    gx: Array,
    h: Array,
    values: Array,
    keys: Array,
    w_query: Array,
    energy: Array,
    w_context: Array,
    w_hh: Array,
    b_hh: Array | None = None,
    mask: Array | None = None,
    /,
) -> tuple[Array, Array, Array]:
    """One step of `attention_gru`, from the contribution of the input to the gates.

    Args:
        gx: ``(B, 3H)``, ``linear(x, w_x, b_ih)``, where ``w_ih`` = [w_x w_context].
        h: the state, ``(B, H)``.
        values: V, ``(B, S, D)``.
        keys: k, ``(B, S, A)``.
        w_query: W_q, ``(A, H)``.
        energy: v, ``(A,)``.
        w_context: W_c, ``(3H, D)``.
        w_hh: ``(3H, H)``.
        b_hh: ``(3H,)``, or None.
        mask: bool ``(B, S)``, or None.

    Returns:
        The next state ``(B, H)``, the context ``(B, D)`` and the weights ``(B, S)``.

    Raises:
        ValueError: shapes other than these.
        TypeError: a mask that is not bool.
    """
    _check_step(gx, h, values, keys, w_query, energy, w_context, w_hh, b_hh, mask)
    query = linear.forward(h, w_query)[:, None]
    scores = additive_score.forward(query, keys, energy)
    weights = softmax.forward(scores, dim=-1) if mask is None else masked_softmax.forward(scores, mask[:, None])
    context = matmul.forward(weights, values)[:, 0]
    state, _ = gru_step.forward(gx + linear.forward(context, w_context), h, w_hh, b_hh)
    return state, context, weights[:, 0]


@once_per_node
def _attend(
    h: Tensor, values: Tensor, keys: Tensor, w_query: Tensor, energy: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The query ``(B, 1, A)``, the weights α ``(B, S)`` and the context c ``(B, D)``."""
    query = unsqueeze(linear(h, w_query), 1)
    scores = additive_score(query, keys, energy)
    weights = softmax(scores, -1) if mask is None else masked_softmax(scores, unsqueeze(mask, 1), dim=-1)
    return query, squeeze(weights, 1), squeeze(matmul(weights, values), 1)


class _Gradients(NamedTuple):
    """The gradients of the gates, of the context (γ), of the scores, and of the additive score's units (ε)."""

    gates: GateGradients
    context: Tensor
    scores: Tensor
    units: Tensor


@once_per_node
def _gradients_of_parts(
    g: tuple[Tensor | None, Tensor | None, Tensor | None],
    gx: Tensor,
    h: Tensor,
    values: Tensor,
    keys: Tensor,
    w_query: Tensor,
    energy: Tensor,
    w_context: Tensor,
    w_hh: Tensor,
    b_hh: Tensor | None,
    mask: Tensor | None,
) -> _Gradients:
    """The gradients of the parts. Context and weights are outputs too: their own gradients are added."""
    query, weights, context = _attend(h, values, keys, w_query, energy, mask)
    for_state, for_context, for_weights = g
    for_state = h * 0.0 if for_state is None else for_state
    gates = gate_gradients(for_state, add(gx, linear(context, w_context)), h, w_hh, b_hh)
    gamma = matmul(gates.input, w_context)
    gamma = gamma if for_context is None else for_context + gamma
    beta = squeeze(matmul(values, unsqueeze(gamma, 2)), 2)
    beta = beta if for_weights is None else for_weights + beta
    scores = unsqueeze(weights * (beta - sum(weights * beta, -1, keepdim=True)), 1)
    return _Gradients(gates, gamma, scores, squeeze(units_gradient(scores, query, keys, energy), 1))


def _gradient(
    operand: str,
    g: tuple[Tensor | None, Tensor | None, Tensor | None],
    gx: Tensor,
    h: Tensor,
    values: Tensor,
    keys: Tensor,
    w_query: Tensor,
    energy: Tensor,
    w_context: Tensor,
    w_hh: Tensor,
    b_hh: Tensor | None,
    mask: Tensor | None,
) -> Tensor:
    """The rule of every operand."""
    found = _gradients_of_parts(g, gx, h, values, keys, w_query, energy, w_context, w_hh, b_hh, mask)
    query, weights, context = _attend(h, values, keys, w_query, energy, mask)
    rules: dict[str, Callable[[], Tensor]] = {
        "gx": lambda: found.gates.input,
        "h": lambda: found.gates.past + matmul(found.gates.state, w_hh) + matmul(sum(found.units, 1), w_query),
        "values": lambda: unsqueeze(weights, 2) * unsqueeze(found.context, 1),
        "keys": lambda: found.units,
        "w_query": lambda: weight_gradient(sum(found.units, 1), h),
        "energy": lambda: sum(unsqueeze(found.scores, -1) * units(query, keys), (0, 1, 2)),
        "w_context": lambda: weight_gradient(found.gates.input, context),
        "w_hh": lambda: weight_gradient(found.gates.state, h),
        "b_hh": lambda: sum_over_batch(found.gates.state),
    }
    return rules[operand]()


_GATES = DELTAS.replace("{g}", r"\bar h'")
_DELTA = rf"\quad \delta = (\delta_r, \delta_u, \delta_n), \quad {_GATES}"
_HIDDEN = r"\quad \eta = (\delta_r, \delta_u, r \odot \delta_n)"
_ETA = rf"{_HIDDEN}, \quad {_GATES}"
_GAMMA = rf"\quad \gamma = \bar c + \delta\,W_c, {_DELTA}"
_SCORES = (
    r"\quad \bar e_j = \alpha_j (\beta_j - \textstyle\sum_l \alpha_l \beta_l), "
    rf"\quad \beta_j = \bar \alpha_j + \gamma \cdot V_j, {_GAMMA}"
)
_UNITS = rf"\quad \epsilon_j = \bar e_j\, v \odot (1 - t_j^2), \quad t_j = \tanh(W_q h + k_j), {_SCORES}"
for _operand, _formula in {
    "gx": rf"\delta, {_DELTA}",
    "h": rf"u \odot \bar h' + \eta\,W + \textstyle\sum_j \epsilon_j W_q, {_HIDDEN}, {_UNITS}",
    "values": rf"\alpha_j\, \gamma, {_GAMMA}",
    "keys": rf"\epsilon_j, {_UNITS}",
    "w_query": rf"\textstyle\sum_j \epsilon_j^\top h, {_UNITS}",
    "energy": rf"\textstyle\sum_{{\text{{batch}}}} \sum_j \bar e_j t_j, \quad t_j = \tanh(W_q h + k_j), {_SCORES}",
    "w_context": rf"\delta^\top c, {_DELTA}",
    "w_hh": rf"\eta^\top h, {_ETA}",
    "b_hh": rf"\textstyle\sum_{{\text{{batch}}}} \eta, {_ETA}",
}.items():
    attention_gru_step.vjp(_operand, _formula, partial(_gradient, _operand))


@attention_gru_step.composed_of
def _step_reference(
    gx: Tensor,
    h: Tensor,
    values: Tensor,
    keys: Tensor,
    w_query: Tensor,
    energy: Tensor,
    w_context: Tensor,
    w_hh: Tensor,
    b_hh: Tensor | None,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    _check_step(gx, h, values, keys, w_query, energy, w_context, w_hh, b_hh, mask)
    query, key = mark("query", unsqueeze(linear(h, w_query), 1)), mark("key", keys)
    scores = additive_score(query, key, mark("parameter", energy, symbol="v"))  # (B, 1, S)
    scores = mark("scores", scores, score="additive")
    allowed = None if mask is None else mark("mask", unsqueeze(mask, 1))
    weight = softmax(scores, -1) if allowed is None else masked_softmax(scores, allowed, dim=-1)
    weight = mark("weights", weight)
    context = squeeze(mark("context", matmul(weight, mark("value", values))), 1)
    state = gru_step(add(gx, linear(context, w_context)), h, w_hh, b_hh)
    return state, context, squeeze(weight, 1)


def _check_step(
    gx: Any, h: Any, values: Any, keys: Any, w_query: Any, energy: Any, w_context: Any, w_hh: Any, b_hh: Any, mask: Any
) -> None:
    if values.ndim != 3 or w_query.ndim != 2:
        raise ValueError(
            f"attention_gru_step: values must have shape (B, S, D) and w_query (A, H), they have {values.shape} and "
            f"{w_query.shape}"
        )
    (batch, length, value_size), (key_size, size) = values.shape, w_query.shape
    expected = {
        "gx": (gx, (batch, 3 * size)),
        "h": (h, (batch, size)),
        "keys": (keys, (batch, length, key_size)),
        "energy": (energy, (key_size,)),
        "w_context": (w_context, (3 * size, value_size)),
        "w_hh": (w_hh, (3 * size, size)),
        "b_hh": (b_hh, (3 * size,)),
        "mask": (mask, (batch, length)),
    }
    _check_expected("attention_gru_step", f"values {values.shape} and w_query {w_query.shape}", expected)


# -- a sequence --------------------------------------------------------------------------------------------------------


_STEP = (
    r"e_{tj} = v \cdot \tanh(W_q z_{t-1} + k_j), \quad \alpha_t = \operatorname{softmax}(e_t), "
    r"\quad c_t = \textstyle\sum_j \alpha_{tj} V_j"
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
    """A GRU that reads, at each step, an input and the context of additive attention from the previous state.

    Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", 2015. At step t:
    the scores e_tj = v · tanh(W_q h_{t-1} + k_j), the weights α_t = softmax(e_t), the context c_t = Σ_j α_tj V_j, and
    the state h_t = GRU([x_t; c_t], h_{t-1}) (see `tinygrad_attn.ops.fused.gru.gru_step`).

    Args:
        x: the inputs of all steps, ``(B, T, E)``.
        h0: the first state, ``(B, H)``.
        values: V, ``(B, S, D)``.
        keys: k, ``(B, S, A)``.
        w_query: W_q, ``(A, H)``.
        energy: v, ``(A,)``.
        w_ih: ``(3H, E + D)``, for [x_t; c_t].
        w_hh: ``(3H, H)``.
        b_ih, b_hh: ``(3H,)``, or None.
        mask: bool ``(B, S)``, True where a value may be attended to; None for all. If all values are masked, weights
            and context are 0.

    Returns:
        The states ``(B, T, H)``, the contexts ``(B, T, D)`` and the weights ``(B, T, S)``.

    Raises:
        ValueError: shapes other than these, no step, or a size of zero other than B.
        TypeError: a mask that is not bool.
    """
    _check_shapes(x, h0, values, keys, w_query, energy, w_ih, w_hh, b_ih, b_hh, mask)
    operands = kernels.DecoderOperands(x, h0, values, keys, w_query, energy, w_ih, w_hh, b_ih, b_hh)
    return kernels.attention_gru(operands, mask)


@attention_gru.loop_of(
    attention_gru_step, "x", "h0", "values", "keys", "w_query", "energy", "w_ih", "w_hh", "b_ih", "b_hh"
)
def _attention_gru_loop(
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
    # W_ih [x; c] = W_x x + W_c c; W_x x is computed for all steps at once.
    w_x, w_context = narrow(w_ih, 1, 0, x.shape[-1]), narrow(w_ih, 1, x.shape[-1], values.shape[-1])
    h = h0
    states, contexts, weights = [], [], []
    for t, from_input in enumerate(unbind(linear(x, w_x, b_ih), 1)):
        with at_step(t):
            h, context, weight = attention_gru_step(
                from_input, h, values, keys, w_query, energy, w_context, w_hh, b_hh, mask
            )
        states.append(h)
        contexts.append(context)
        weights.append(weight)
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
    """Raise a ValueError unless all shapes agree with those of x, values and w_query."""
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
    _check_expected(name, f"x {x.shape}, values {values.shape} and w_query {w_query.shape}", expected)


def _check_expected(name: str, given: str, expected: dict[str, tuple[Any, tuple[int, ...]]]) -> None:
    """Raise unless every operand has its expected shape and the mask is bool."""
    for which, (array, shape) in expected.items():
        if array is not None and array.shape != shape:
            raise ValueError(f"{name}: for {given}, {which} must have shape {shape}, it has {array.shape}")
    mask = expected["mask"][0]
    if mask is not None and mask.dtype != np.bool_:
        raise TypeError(f"{name}: mask must be bool (True = may be attended to), it is {mask.dtype}")
