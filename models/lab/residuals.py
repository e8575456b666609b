"""Residual connections removed, by depth: the gradient through the layers, how alike positions become, what is learnt.

Without x + f(x) each layer replaces what it reads. Attention averages, so that the positions grow alike from layer to
layer (Dong et al., "Attention is not all you need: pure attention loses rank doubly exponentially with depth", 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn
from tinygrad_attn.nn import functional as F

from .form.experiment import Curve, Expect, Experiment, Measured, Trial, Words, at_last
from .form.reader import Reader, Sequences, fit_reader, gradients_by_layer, reverse, said_right

__all__ = ["EXPERIMENT", "Bare", "Sizes", "alikeness", "measure"]


@dataclass(frozen=True)
class Sizes(Sequences):
    """How wide and how deep the readers are."""

    width: int = 32
    depths: tuple[int, ...] = (1, 2, 4, 8)


class Bare(nn.TransformerEncoderLayer):
    """A post-norm layer without residuals: norm(attention(x)), then norm(feed_forward(x))."""

    def forward(self, src: Tensor, *masks: Any, **options: Any) -> Tensor:
        attended = self.norm1(self.self_attn(src, src, src, need_weights=False)[0])
        normed: Tensor = self.norm2(self.linear2(F.relu(self.linear1(attended))))
        return normed


LAYERS_OF = {"with": nn.TransformerEncoderLayer, "without": Bare}


def measure(trial: Trial[Sizes]) -> Measured:
    """For each depth: gradient and likeness of positions before training, and what is learnt."""
    sizes = trial.sizes
    seen = sizes.test(trial.seed)
    reach, alike, right = {}, {}, {}
    for depth in sizes.depths:
        layers = [LAYERS_OF[trial.case](sizes.width, 4, 2 * sizes.width, 0.0, batch_first=True) for _ in range(depth)]
        model = Reader(sizes.symbols, sizes.width, layers, nn.SinusoidalPositionalEncoding(sizes.width))
        gradients = gradients_by_layer(model, seen, reverse)
        reach[depth] = gradients[0] / gradients[-1]
        with ta.no_grad():
            alike[depth] = alikeness(model.states(Tensor(seen))[-1].array)
        fit_reader(model, sizes, reverse, trial.seed)
        right[depth] = said_right(model, seen, reverse)
    return {"reach": reach, "alike": alike, "right": right}


def alikeness(states: np.ndarray[Any, Any]) -> float:
    """The mean cosine between the vectors of two positions of a sequence, (B, S, d)."""
    units = states / np.linalg.norm(states, axis=-1, keepdims=True)
    count = states.shape[1]
    cosines = units @ units.swapaxes(1, 2)
    return float((cosines.sum((1, 2)) - count).mean() / (count * (count - 1)))


LAYERS = Words("layers", "층 수")

EXPERIMENT = Experiment(
    claim=Words(
        "Residual connections let the gradient pass; without them deep stacks do not learn.",
        "잔차 연결이 기울기를 통과시킵니다. 잔차 연결이 없으면 깊은 층은 학습하지 못합니다.",
    ),
    method=Words(
        "Encoders of 1 to 8 layers with and without x + f(x), both with layer norm, learn to say 8 symbols in reverse.",
        "x + f(x)가 있는 1~8층 인코더와 없는 인코더가(둘 다 층 정규화 있음) 기호 8개를 거꾸로 말하도록 학습합니다.",
    ),
    cases={"with": Words("with residuals", "잔차 연결 있음"), "without": Words("without", "없음")},
    quantities={
        "reach": Curve(
            Words("gradient, first / last layer", "기울기, 첫 층 / 마지막 층"),
            LAYERS, ".2g", log=True, log_over=True,
        ),
        "alike": Curve(Words("cosine between positions", "위치 사이의 코사인"), LAYERS, ".2f", log_over=True),
        "right": Curve(Words("right after training (%)", "학습 후 정답 (%)"), LAYERS, ".1f", log_over=True),
    },
    expected=[
        Expect(
            Words("most layers: gradient's ratio, without / with", "가장 깊을 때: 기울기 비율, 없음 / 있음"),
            lambda seed: at_last(seed["without"]["reach"]) / at_last(seed["with"]["reach"]),
            below=0.5,
        ),
        Expect(
            Words("most layers, without: cosine between positions", "가장 깊을 때, 없음: 위치 사이의 코사인"),
            lambda seed: at_last(seed["without"]["alike"]),
            above=0.9,
        ),
        Expect(
            Words("most layers: right, with less without (points)", "가장 깊을 때: 정답, 있음 − 없음 (%p)"),
            lambda seed: at_last(seed["with"]["right"]) - at_last(seed["without"]["right"]),
            above=30.0,
            format=".1f",
        ),
    ],
    measure=measure,
    full=Sizes(),
    quick=Sizes(steps=30, depths=(1, 4), tested=64),
    minutes=1.5,
)  # fmt: skip
