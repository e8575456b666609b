"""Masks forgotten: a decoder that sees the token it is to say, and attention to padding.

Without the causal mask the loss falls as never before, since the answer is among what is read; the model is useless
as soon as it has to write alone. Without the padding mask a translation depends on how long its batch is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn

from ..data import PAD, Copy, pad
from ..data.batches import Example
from ..decoding.greedy import greedy
from ..evaluation.metrics import teacher_forced
from ..interface import Translator
from ..transformer import Memory, Transformer
from .form.experiment import Expect, Experiment, Measured, Number, Trial, Words
from .form.training import fit_translator, in_order, pairs_of, translated_right

__all__ = ["EXPERIMENT", "Sizes", "measure"]


@dataclass(frozen=True)
class Sizes:
    """Of the task, the model and the training."""

    longest: int = 8
    width: int = 32
    steps: int = 1_200
    pairs: int = 8_000
    tested: int = 200
    padding: int = 8


class SeesTheFuture(nn.TransformerDecoder):
    """A decoder whose causal mask was forgotten, in training."""

    def forward(self, tgt: Tensor, memory: Tensor, *masks: Any, **named: Any) -> Tensor:
        return super().forward(tgt, memory, *masks, **{**named, "tgt_is_causal": False})


class SeesPadding(Transformer):
    """A Transformer whose padding mask was forgotten."""

    def forward(self, source: Tensor, source_mask: Tensor, target_in: Tensor, **options: Any) -> Any:
        return super().forward(source, ta.ones_like(source_mask), target_in, **options)

    def encode(self, source: Tensor, source_mask: Tensor) -> Memory:
        return super().encode(source, ta.ones_like(source_mask))


def measure(trial: Trial[Sizes]) -> Measured:
    """What is right when the target is read and when the model writes alone, and what padding changes."""
    sizes = trial.sizes
    pairs = pairs_of(
        Copy(train_size=sizes.pairs, valid_size=1, test_size=sizes.tested, seed=trial.seed, shortest=2,
             longest=sizes.longest, longest_test=sizes.longest)
    )  # fmt: skip
    kind = SeesPadding if trial.case == "padding" else Transformer
    model = kind(*pairs.sizes, sizes.width, 4, 2, 2, 2 * sizes.width, dropout=0.0)
    if trial.case == "causal":
        forget_causal_mask(model)
    losses = fit_translator(model, pairs, sizes.steps, trial.seed)
    forced = teacher_forced(model, in_order(pairs.test))
    return {
        "loss": float(np.mean(losses[-20:])),
        "forced": 100.0 * forced.accuracy,
        "alone": 100.0 * translated_right(model, pairs.test),
        "same": same_when_padded(model, pairs.test, sizes.padding),
    }


def forget_causal_mask(model: Transformer) -> None:
    """Put a decoder that sees the future in the place of the model's, with the same layers."""
    decoder = model.transformer.decoder
    careless = SeesTheFuture(decoder.layers[0], decoder.num_layers, decoder.norm)
    careless.layers = decoder.layers
    model.transformer.decoder = careless


def same_when_padded(model: Translator, examples: Sequence[Example], padding: int) -> float:
    """How many per cent of the sources have the same translation with so many symbols of padding behind them."""
    source, mask = pad([source for source, _ in examples])
    longer = np.pad(source, ((0, 0), (0, padding)), constant_values=PAD)
    alone = [greedy(model, *pad([source]), 30)[0] for source, _ in examples]
    padded = greedy(model, longer, np.pad(mask, ((0, 0), (0, padding))), 30)
    return 100.0 * float(np.mean([one == other for one, other in zip(alone, padded, strict=True)]))


EXPERIMENT = Experiment(
    claim=Words(
        "Without the causal mask training looks perfect and the model is useless; without the padding mask a "
        "translation depends on its batch.",
        "인과 마스크가 없으면 학습은 완벽해 보이지만 모델은 쓸모없고, 패딩 마스크가 없으면 번역이 배치에 따라 "
        "달라집니다.",
    ),
    method=Words(
        "A small Transformer learns to copy strings of 2 to 8 letters, with both masks or without one of them.",
        "작은 트랜스포머가 2~8글자 문자열을 베끼도록 학습합니다. 두 마스크가 모두 있거나 하나가 없습니다.",
    ),
    cases={
        "both": Words("both masks", "두 마스크"),
        "causal": Words("no causal mask", "인과 마스크 없음"),
        "padding": Words("no padding mask", "패딩 마스크 없음"),
    },
    quantities={
        "loss": Number(Words("last training loss", "마지막 학습 손실"), ".2g", log=True),
        "forced": Number(Words("tokens right, target read (%)", "정답을 읽을 때 맞은 토큰 (%)"), ".1f"),
        "alone": Number(Words("copied alone (%)", "혼자 베낌 (%)"), ".1f"),
        "same": Number(Words("same translation when padded (%)", "패딩해도 같은 번역 (%)"), ".1f"),
    },
    expected=[
        Expect(
            Words("no causal mask: training loss / with both masks", "인과 마스크 없음: 학습 손실 / 두 마스크의 손실"),
            lambda seed: seed["causal"]["loss"] / seed["both"]["loss"],
            below=1.0,
        ),
        Expect(
            Words("no causal mask: copied alone (%)", "인과 마스크 없음: 혼자 베낌 (%)"),
            lambda seed: seed["causal"]["alone"],
            below=5.0,
            format=".1f",
        ),
        Expect(
            Words("both masks: copied alone (%)", "두 마스크: 혼자 베낌 (%)"),
            lambda seed: seed["both"]["alone"],
            above=90.0,
            format=".1f",
        ),
        Expect(
            Words("both masks: same translation when padded (%)", "두 마스크: 패딩해도 같은 번역 (%)"),
            lambda seed: seed["both"]["same"],
            above=99.0,
            format=".1f",
        ),
        Expect(
            Words("no padding mask: same translation when padded (%)", "패딩 마스크 없음: 패딩해도 같은 번역 (%)"),
            lambda seed: seed["padding"]["same"],
            below=90.0,
            format=".1f",
        ),
    ],
    measure=measure,
    full=Sizes(),
    quick=Sizes(steps=60, pairs=1_000, tested=40),
    minutes=3.0,
    remark=Words(
        "The loss is at its best where the model is at its worst. That a few strings are copied all the same shows "
        "that it has not given up the source altogether.",
        "손실이 가장 좋을 때 모델은 가장 나쁩니다. 그래도 몇몇 문자열을 베끼는 것은 입력을 완전히 무시하지는 않았음을 "
        "보여 줍니다.",
    ),
)
