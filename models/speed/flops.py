"""Counts the floating-point operations of an op's matrix products: two for each multiply-add.

Other work is not counted, because the rate is compared with that of a matmul. Attention is counted in full, masked or
not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["MATMULS", "Matmuls"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Matmuls:
    """The matmuls within an op."""

    count: Callable[..., int]
    """A function of the shapes of the op's operands (None for those left out): the operations of its forward."""
    factors: tuple[int, ...]
    """The positions of the multiplied operands. Their gradients together take twice the operations of the forward."""
    options: tuple[str, ...] = ()
    """The names of the op's options that ``count`` also takes."""

    def forward(self, shapes: Sequence[Shape | None], options: Mapping[str, Any]) -> int:
        """The operations of a call with operands of these shapes."""
        return self.count(*shapes, **{name: options[name] for name in self.options if name in options})

    def backward(self, forward: int, shapes: Sequence[Shape | None], wanted: Sequence[bool]) -> int:
        """The operations of a call's backward: twice ``forward`` if all factors need a gradient, else a part of that.

        Args:
            forward: the operations of the forward.
            shapes: of the operands.
            wanted: for each operand, whether its gradient is computed.
        """
        factors = [position for position in self.factors if position < len(shapes) and shapes[position] is not None]
        return 2 * forward * sum(wanted[position] for position in factors) // len(factors)


def _matmul(x: Shape, y: Shape) -> int:
    if len(y) == 1:
        return 2 * math.prod(x)
    if len(x) == 1:
        return 2 * math.prod(y)
    batch = max(math.prod(x[:-2]), math.prod(y[:-2]))
    return 2 * batch * x[-2] * x[-1] * y[-1]


def _linear(x: Shape, weight: Shape, bias: Shape | None = None) -> int:
    return 2 * math.prod(x) * weight[0]


def _feed_forward(x: Shape, weight1: Shape, weight2: Shape, *_: object) -> int:
    return 2 * math.prod(x[:-1]) * (math.prod(weight1) + math.prod(weight2))


def _paired_linear(x: Shape, y: Shape, weight: Shape, bias: Shape | None = None, *, rows: int) -> int:
    return 2 * (math.prod(x) * rows + math.prod(y) * (weight[0] - rows))


def _attention(query: Shape, key: Shape, value: Shape, *_: object) -> int:
    return 2 * math.prod(query[:-1]) * key[-2] * (key[-1] + value[-1])


def _multihead_attention(
    projected: Shape, memory: Shape | None = None, *_: object, heads: int, groups: int = 1, batch_first: bool = True
) -> int:
    """Queries alone if there is a memory, else with the keys and values of ``heads / groups`` heads beside them."""
    keys = (projected if memory is None else memory)[1 if batch_first else 0]
    size = projected[-1] if memory is not None else heads * projected[-1] // (heads + 2 * (heads // groups))
    return 4 * projected[0] * projected[1] * keys * size


def _recurrence(gates: Shape, *operands: Shape | None) -> int:
    """One product of the state with the recurrent weights for each step: its result is as large as the gates."""
    state = operands[0]
    assert state is not None
    return 2 * math.prod(gates) * state[-1]


def _attention_gru(
    x: Shape, h0: Shape, values: Shape, keys: Shape, w_query: Shape, energy: Shape, w_ih: Shape, w_hh: Shape, *_: object
) -> int:
    """For each step: the query, the scores, the context, and the GRU's two products."""
    weights = math.prod(w_query) + math.prod(w_ih) + math.prod(w_hh)
    return 2 * x[0] * x[1] * (weights + keys[1] * (keys[2] + values[2]))


def _additive_score(query: Shape, keys: Shape, energy: Shape) -> int:
    """The product of each pair's tanh(q + k) with v."""
    return 2 * math.prod(query) * keys[1]


def _attention_gru_step(
    gx: Shape,
    h: Shape,
    values: Shape,
    keys: Shape,
    w_query: Shape,
    energy: Shape,
    w_ctx: Shape,
    w_hh: Shape,
    *_: object,
) -> int:
    weights = math.prod(w_query) + math.prod(w_ctx) + math.prod(w_hh)
    return 2 * gx[0] * (weights + keys[1] * (keys[2] + values[2]))


MATMULS = {
    "matmul": Matmuls(_matmul, (0, 1)),
    "mm": Matmuls(_matmul, (0, 1)),
    "bmm": Matmuls(_matmul, (0, 1)),
    "mv": Matmuls(_matmul, (0, 1)),
    "linear": Matmuls(_linear, (0, 1)),
    "activated_linear": Matmuls(_linear, (0, 1)),
    "feed_forward": Matmuls(_feed_forward, (0, 1, 2)),
    "paired_linear": Matmuls(_paired_linear, (0, 1, 2), ("rows",)),
    "scaled_dot_product_attention": Matmuls(_attention, (0, 1, 2)),
    "multihead_attention": Matmuls(_multihead_attention, (0, 1), ("heads", "groups", "batch_first")),
    "rnn": Matmuls(_recurrence, (0, 2)),
    "gru": Matmuls(_recurrence, (0, 2)),
    "lstm": Matmuls(_recurrence, (0, 3)),
    "rnn_step": Matmuls(_recurrence, (1, 2)),
    "gru_step": Matmuls(_recurrence, (1, 2)),
    "lstm_step": Matmuls(_recurrence, (1, 3)),
    "additive_score": Matmuls(_additive_score, (0, 2)),
    "attention_gru": Matmuls(_attention_gru, (2, 4, 6, 7)),
    "attention_gru_step": Matmuls(_attention_gru_step, (2, 4, 6, 7)),
}
"""By name of the op."""
