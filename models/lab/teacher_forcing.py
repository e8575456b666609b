"""Teacher forcing: a decoder that has only ever read the truth, and has to read its own words.

In training the decoder reads the target, in use its own last token, mistakes included (exposure bias). With scheduled
sampling it reads its own now and then (Bengio et al., "Scheduled Sampling", 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_attn as ta

from ..data import Copy
from ..seq2seq import Seq2Seq
from ..training.sampling import sampled_logits
from .form.experiment import Curve, Expect, Experiment, Measured, Number, Trial, Words
from .form.training import Pairs, fit_translator, in_order, pairs_of, translated_right

__all__ = ["EXPERIMENT", "Sizes", "measure"]


@dataclass(frozen=True)
class Sizes:
    """Of the task, the model and the training."""

    length: int = 8
    hidden: int = 64
    steps: int = 1_500
    pairs: int = 8_000
    tested: int = 400


FORCED = {"forced": 1.0, "mixed": 0.5, "own": 0.0}
"""The probability that a token of the target is read in training."""


def measure(trial: Trial[Sizes]) -> Measured:
    """The tokens right by position, reading the truth and reading the model's own words."""
    sizes = trial.sizes
    task = Copy(
        train_size=sizes.pairs, valid_size=1, test_size=sizes.tested, seed=trial.seed, shortest=sizes.length,
        longest=sizes.length, longest_test=sizes.length,
    )  # fmt: skip
    pairs = pairs_of(task)
    model = Seq2Seq(*pairs.sizes, sizes.hidden, sizes.hidden, cell="gru")
    fit_translator(model, pairs, sizes.steps, trial.seed, forced=FORCED[trial.case])
    truth, own = (right_by_position(model, pairs, ratio) for ratio in (1.0, 0.0))
    return {
        "truth": dict(enumerate(truth)),
        "own": dict(enumerate(own)),
        "gap": float(np.mean(truth) - np.mean(own)),
        "copied": 100.0 * translated_right(model, pairs.test),
    }


def right_by_position(model: Seq2Seq, pairs: Pairs, ratio: float) -> list[float]:
    """How many per cent of the targets' tokens are right at each position, reading the truth so often."""
    right: list[Any] = []
    with ta.no_grad():
        for batch in in_order(pairs.test):
            logits = sampled_logits(model, batch, ratio, np.random.default_rng(0))
            right.extend(logits.array.argmax(-1) == batch.target_out)
    found: list[float] = (100.0 * np.mean(right, 0)).tolist()
    return found


POSITION = Words("position", "위치")

EXPERIMENT = Experiment(
    claim=Words(
        "Teacher forcing hides mistakes: reading its own words a model gets worse from position to position, and "
        "training on its own words narrows that gap.",
        "교사 강요는 오류를 가립니다. 자기 출력을 읽으면 뒤로 갈수록 나빠지고, 자기 출력으로 학습하면 차이가 "
        "줄어듭니다.",
    ),
    method=Words(
        "A GRU encoder-decoder without attention learns to copy 8 letters, reading the target always, half of the "
        "time, or never.",
        "어텐션 없는 GRU 인코더-디코더가 글자 8개를 베끼도록 학습합니다. 정답을 늘, 절반만, 또는 전혀 읽지 않습니다.",
    ),
    cases={
        "forced": Words("target always", "늘 정답"),
        "mixed": Words("half of the time", "절반"),
        "own": Words("never", "자기 출력만"),
    },
    quantities={
        "truth": Curve(Words("right, reading the target (%)", "정답을 읽을 때 (%)"), POSITION, ".1f", shown=3),
        "own": Curve(Words("right, reading its own words (%)", "자기 출력을 읽을 때 (%)"), POSITION, ".1f", shown=3),
        "gap": Number(Words("gap between both (points)", "둘의 차이 (%p)"), ".1f", drawn=False),
        "copied": Number(Words("copied alone (%)", "혼자 베낌 (%)"), ".1f", drawn=False),
    },
    expected=[
        Expect(
            Words("target always: gap (points)", "늘 정답: 차이 (%p)"),
            lambda seed: seed["forced"]["gap"],
            above=2.0,
            format=".1f",
        ),
        Expect(
            Words("gap, target always less half of the time (points)", "차이, 늘 정답 − 절반 (%p)"),
            lambda seed: seed["forced"]["gap"] - seed["mixed"]["gap"],
            above=0.0,
            format=".1f",
        ),
        Expect(
            Words("copied alone, half of the time less target always (points)", "혼자 베낌, 절반 − 늘 정답 (%p)"),
            lambda seed: seed["mixed"]["copied"] - seed["forced"]["copied"],
            above=0.0,
            format=".1f",
        ),
        Expect(
            Words("copied alone, target always less never (points)", "혼자 베낌, 늘 정답 − 자기 출력만 (%p)"),
            lambda seed: seed["forced"]["copied"] - seed["own"]["copied"],
            above=0.0,
            format=".1f",
        ),
    ],
    measure=measure,
    full=Sizes(),
    quick=Sizes(length=4, hidden=16, steps=40, pairs=500, tested=60),
    minutes=4.0,
    remark=Words(
        "The gap is there, but reading its own words from the first step on, when nearly all of them are wrong, the "
        "model learns far less in the same steps. Bengio et al. begin with the target always, and lower the share "
        "slowly.",
        "차이는 있지만, 거의 다 틀린 첫 스텝부터 자기 출력을 읽으면 같은 스텝 동안 훨씬 적게 배웁니다. Bengio 등은 "
        "늘 정답을 읽는 것으로 시작해 그 비율을 천천히 낮춥니다.",
    ),
)
