"""Attention with the factor 1/√d_k and without: how sharp weights are, what passes the softmax, and what is learnt.

q · k is a sum of d_k products. If they are of order one, the sum is of order √d_k, and the softmax of such scores is
nearly one-hot: its Jacobian diag(α) - ααᵀ is nearly 0, and with it all that queries and keys get (Vaswani et al. 2017,
section 3.2.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn

from .form.experiment import Curve, Expect, Experiment, Measured, Trial, Words, at_last
from .form.reader import Reader, Sequences, fit_reader, reverse, said_right

__all__ = ["EXPERIMENT", "Sizes", "Unscaled", "measure", "passing"]


@dataclass(frozen=True)
class Sizes(Sequences):
    """One layer with one head: d_k is the width."""

    widths: tuple[int, ...] = (16, 32, 64, 128, 256)


class Unscaled(nn.MultiheadAttention):
    """softmax(Q Kᵀ) V: queries √d_k times as large undo the division."""

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor | None]:
        projected, memory = super()._project(query, key, value)
        factors = np.ones(projected.shape[-1], projected.dtype)
        factors[: self.embed_dim] = math.sqrt(self.head_dim)  # keys and values, if they stand beside, stay
        return projected * Tensor(factors), memory


def measure(trial: Trial[Sizes]) -> Measured:
    """For each width: the largest weight and what the softmax lets pass, before training, and what is learnt."""
    sizes = trial.sizes
    seen = sizes.test(trial.seed)
    largest, passed, right = {}, {}, {}
    for width in sizes.widths:
        layer = nn.TransformerEncoderLayer(width, 1, 2 * width, dropout=0.0, batch_first=True)
        if trial.case == "without":
            layer.self_attn = Unscaled(width, 1, batch_first=True)
        model = Reader(sizes.symbols, width, [layer], nn.SinusoidalPositionalEncoding(width))
        with ta.no_grad(), nn.record_attention_weights(model) as recorded:
            model(Tensor(seen))
        ((weights,),) = recorded.values()
        largest[width] = float(weights.array.max(-1).mean())
        passed[width] = passing(weights.array)
        fit_reader(model, sizes, reverse, trial.seed)
        right[width] = said_right(model, seen, reverse)
    return {"largest": largest, "passed": passed, "right": right}


def passing(weights: np.ndarray[Any, Any]) -> float:
    """‖diag(α) - ααᵀ‖ (Frobenius), averaged over all rows α: 0 of a one-hot row."""
    jacobian = weights[..., None] * (np.eye(weights.shape[-1]) - weights[..., None, :])
    return float(np.sqrt((jacobian**2).sum((-2, -1))).mean())


D_K = Words("d_k", "d_k")

EXPERIMENT = Experiment(
    claim=Words(
        "Without 1/√d_k the softmax saturates as d_k grows: no gradient passes it, and less is learnt.",
        "1/√d_k가 없으면 d_k가 커질수록 소프트맥스가 포화되어 기울기가 지나가지 못하고 학습이 나빠집니다.",
    ),
    method=Words(
        "One layer of self-attention with one head learns to say 8 symbols in reverse, with d_k from 16 to 256.",
        "헤드가 하나인 셀프 어텐션 한 층이 기호 8개를 거꾸로 말하도록 학습합니다. d_k는 16부터 256까지입니다.",
    ),
    cases={"with": Words("with 1/√d_k", "1/√d_k 있음"), "without": Words("without", "없음")},
    quantities={
        "largest": Curve(
            Words("largest weight of a row at the start", "학습 전 행의 최대 가중치"), D_K, ".2f", log_over=True
        ),
        "passed": Curve(
            Words("norm of the softmax's Jacobian", "소프트맥스 야코비안의 노름"), D_K, ".3f", log_over=True
        ),
        "right": Curve(Words("right after training (%)", "학습 후 정답 (%)"), D_K, ".1f", log_over=True),
    },
    expected=[
        Expect(
            Words("with, largest d_k: largest weight", "있음, 가장 큰 d_k: 최대 가중치"),
            lambda seed: at_last(seed["with"]["largest"]),
            below=0.5,
        ),
        Expect(
            Words("without, largest d_k: largest weight", "없음, 가장 큰 d_k: 최대 가중치"),
            lambda seed: at_last(seed["without"]["largest"]),
            above=0.8,
        ),
        Expect(
            Words("largest d_k: Jacobian without / with", "가장 큰 d_k: 야코비안 노름, 없음 / 있음"),
            lambda seed: at_last(seed["without"]["passed"]) / at_last(seed["with"]["passed"]),
            below=0.5,
        ),
        Expect(
            Words("largest d_k: right, with less without (points)", "가장 큰 d_k: 정답, 있음 − 없음 (%p)"),
            lambda seed: at_last(seed["with"]["right"]) - at_last(seed["without"]["right"]),
            above=10.0,
            format=".1f",
        ),
    ],
    measure=measure,
    full=Sizes(),
    quick=Sizes(steps=40, widths=(16, 64, 128), tested=64),
    minutes=2.0,
    remark=Words(
        "About half of the softmax's Jacobian is left at the start, more than the bound allows; what is learnt "
        "falls by much more than that.",
        "학습 전 소프트맥스 야코비안의 절반쯤은 남아 예상한 범위보다 큽니다. 학습 결과는 그보다 훨씬 크게 나빠집니다.",
    ),
)
