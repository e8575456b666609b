"""Positions removed: what can be said of a sequence whose order is not told, and what a causal mask tells of it.

Attention is a weighted sum over a set. Without positions a permuted source gives permuted outputs, whatever the
weights are. A causal mask breaks that: the position i sees i + 1 symbols.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn

from .form.experiment import Expect, Experiment, Measured, Number, Trial, Words
from .form.reader import Answer, Reader, Sequences, fit_reader, reverse, said_right

__all__ = ["EXPERIMENT", "Sizes", "measure"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sizes(Sequences):
    """Two layers with four heads."""

    steps: int = 600
    width: int = 32


class Causal(nn.TransformerEncoderLayer):
    """A layer in which a position attends to itself and those before."""

    def forward(self, src: Tensor, *masks: Any, **options: Any) -> Tensor:
        return super().forward(src, is_causal=True)


def previous(ids: Array) -> Array:
    """At position i the symbol at i - 1; at the first its own."""
    return np.concatenate([ids[:, :1], ids[:, :-1]], 1)


def count(ids: Array) -> Array:
    """At each position how often its symbol occurs in the sequence, less one: the order does not matter."""
    return (ids[:, :, None] == ids[:, None, :]).sum(-1) - 1


TASKS: dict[str, Answer] = {"reverse": reverse, "previous": previous, "count": count}


def measure(trial: Trial[Sizes]) -> Measured:
    """What a reader gets right of each task, and how far its outputs are from being permuted with the source."""
    sizes = trial.sizes
    seen = sizes.test(trial.seed)
    found: dict[str, float] = {}
    for task, answer in TASKS.items():
        model = reader(trial.case, sizes)
        if not found:
            found["moved"] = moved_by_permutation(model, seen, trial.seed)
        fit_reader(model, sizes, answer, trial.seed)
        found[task] = said_right(model, seen, answer)
    return found


def reader(case: str, sizes: Sizes) -> Reader:
    """Two layers, with the case's positions."""
    positions = {
        "sinusoidal": lambda: nn.SinusoidalPositionalEncoding(sizes.width),
        "learned": lambda: nn.LearnedPositionalEncoding(sizes.length, sizes.width),
    }
    kind = Causal if case == "causal" else nn.TransformerEncoderLayer
    layers = [kind(sizes.width, 4, 2 * sizes.width, 0.0, batch_first=True) for _ in range(2)]
    return Reader(max(sizes.symbols, sizes.length), sizes.width, layers, positions.get(case, lambda: None)())


def moved_by_permutation(model: Reader, ids: Array, seed: int) -> float:
    """How much the logits of a permuted source differ from the permuted logits, beside their size."""
    order = np.random.default_rng(seed).permutation(ids.shape[1])
    with ta.no_grad():
        permuted, logits = model(Tensor(ids[:, order])).array, model(Tensor(ids)).array
    return float(np.linalg.norm(permuted - logits[:, order]) / np.linalg.norm(logits))


EXPERIMENT = Experiment(
    claim=Words(
        "Attention knows no order: without positions a Transformer cannot tell one from another.",
        "어텐션은 순서를 모릅니다. 위치 정보가 없으면 트랜스포머는 순서를 구별하지 못합니다.",
    ),
    method=Words(
        "Encoders of two layers learn three tasks on 8 random symbols: reverse them, name the one before, count how "
        "often each occurs.",
        "두 층 인코더가 무작위 기호 8개로 세 과제를 학습합니다. 거꾸로 말하기, 앞 기호 말하기, 횟수 세기입니다.",
    ),
    cases={
        "sinusoidal": Words("sinusoidal", "사인파"),
        "learned": Words("learned", "학습한 위치"),
        "none": Words("none", "없음"),
        "causal": Words("none, causal mask", "없음, 인과 마스크"),
    },
    quantities={
        "reverse": Number(Words("reverse: right (%)", "거꾸로: 정답 (%)"), ".1f"),
        "previous": Number(Words("the one before: right (%)", "앞 기호: 정답 (%)"), ".1f"),
        "count": Number(Words("count: right (%)", "세기: 정답 (%)"), ".1f"),
        "moved": Number(Words("change by a permutation", "순열에 의한 변화"), ".1g", log=True),
    },
    expected=[
        Expect(
            Words("none: change of the outputs by a permutation", "없음: 순열에 의한 출력의 변화"),
            lambda seed: seed["none"]["moved"],
            below=1e-5,
        ),
        Expect(
            Words("reverse: right, sinusoidal less none (points)", "거꾸로: 정답, 사인파 − 없음 (%p)"),
            lambda seed: seed["sinusoidal"]["reverse"] - seed["none"]["reverse"],
            above=50.0,
            format=".1f",
        ),
        Expect(
            Words("count, which needs no order: right, none (%)", "순서가 필요 없는 세기: 정답, 없음 (%)"),
            lambda seed: seed["none"]["count"],
            above=95.0,
            format=".1f",
        ),
        Expect(
            Words(
                "the one before, causal mask without positions: right (%)", "앞 기호, 위치 없이 인과 마스크: 정답 (%)"
            ),
            lambda seed: seed["causal"]["previous"],
            below=50.0,
            format=".1f",
        ),
    ],
    measure=measure,
    full=Sizes(),
    quick=Sizes(steps=60, tested=64),
    minutes=1.5,
    remark=Words(
        "A causal mask tells positions, since each sees one symbol more than the one before: a decoder can do without "
        "positions, an encoder cannot. Learned positions, which begin small, had not learnt to reverse in these steps.",
        "인과 마스크는 위치를 알려 줍니다. 각 위치는 앞의 위치보다 기호를 하나 더 보기 때문입니다. 디코더는 위치 정보 "
        "없이도 되지만 인코더는 그렇지 않습니다. 작은 값에서 시작하는 학습한 위치는 이 스텝 안에 거꾸로 말하기를 "
        "배우지 못했습니다.",
    ),
)
