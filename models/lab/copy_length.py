"""Copying with one context vector or with attention: accuracy by the length of the string.

Trains the systems of ``models/configs/copy-*.toml``, all with the same strings of 6 to 15 letters, and measures the
share of strings of each length that are copied without a mistake. The encoder-decoder has to store all letters in one
vector of fixed size; attention can look up each of them. Strings of more than 15 letters show whether a system has
learnt to move from one letter to the next, or has learnt absolute positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..console.progress import make_progress
from ..console.working import worked_off
from ..data import Copy
from ..decoding.translate import translate
from ..interface import Translator
from ..runs.config import find_config, load_config
from ..runs.folder import Run
from .form.experiment import Curve, Expect, Experiment, Measured, Number, OfSeed, Trial, Words
from .form.runs import trained

__all__ = ["EXPERIMENT", "Sizes", "accuracy", "measure"]


@dataclass(frozen=True)
class Sizes:
    """How much is trained on, and how it is measured; all else is in the configs."""

    train_size: int = 120_000
    epochs: int = 4
    lengths: Sequence[int] = tuple(range(6, 21))
    per_length: int = 1_000


CONFIGS = {
    "none": "copy-seq2seq",
    "dot": "copy-luong-dot",
    "scaled_dot": "copy-luong-scaled_dot",
    "general": "copy-luong-general",
    "concat": "copy-luong-concat",
    "additive": "copy-bahdanau",
    "transformer": "copy-transformer",
}
ATTENTION = [case for case in CONFIGS if case != "none"]
LONGEST = 15  # in training


def measure(trial: Trial[Sizes]) -> Measured:
    """Train, in a run folder where training goes on after Ctrl-C, and copy unseen strings of each length."""
    name, sizes = CONFIGS[trial.case], trial.sizes
    seeds = {"data.seed": trial.seed, "training.seed": trial.seed}
    settings = {"data.train_size": sizes.train_size, "training.epochs": sizes.epochs}
    config = load_config(find_config(name), seeds | settings)
    steps = sizes.epochs * sizes.train_size // config.training.batch_size
    if config.training.warmup > steps // 4:  # of the quick sizes
        config = load_config(find_config(name), seeds | settings | {"training.warmup": steps // 4})
    progress = make_progress()
    try:
        run, model, seconds = trained(config, trial.folder / f"{name}-seed{trial.seed}", progress)
        copied = accuracy(run, model, sizes.lengths, sizes.per_length)
    finally:
        progress.stop()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "seconds": seconds, "copied": {n: 100.0 * share for n, share in copied.items()}}


def accuracy(run: Run, model: Translator, lengths: Sequence[int], count: int) -> dict[int, float]:
    """The share of ``count`` unseen strings of each length that the model copies without a mistake."""
    shares = {}
    assert isinstance(run.config.data, Copy)
    seed = run.config.data.seed
    for length in worked_off(lengths, "copying strings, by length", len(lengths)):
        strings = Copy(
            train_size=1,
            valid_size=1,
            test_size=count,
            seed=seed,
            shortest=length,
            longest=length,
            longest_test=length,
        )
        pairs = strings.load().test
        copies = translate(model, [run.source.encode(source) for source, _ in pairs], run.config.decoding)
        right = sum(run.target.decode(copy) == target for copy, (_, target) in zip(copies, pairs, strict=True))
        shares[length] = right / count
    return shares


def worst_within_training(seed: OfSeed) -> float:
    """Of all systems with attention and all lengths of training."""
    return min(copied for case in ATTENTION for n, copied in seed[case]["copied"].items() if n <= LONGEST)


EXPERIMENT = Experiment(
    claim=Words(
        "One vector of fixed size loses what a long sentence says; attention does not.",
        "고정 크기 벡터 하나는 긴 문장의 정보를 잃지만, 어텐션은 잃지 않습니다.",
    ),
    method=Words(
        "Seven systems learn to copy strings of 6 to 15 letters. Shown is how many unseen strings of each length are "
        "copied without a mistake.",
        "일곱 모델이 6~15글자 문자열을 베끼도록 학습합니다. 처음 보는 문자열을 길이별로 얼마나 틀림없이 베끼는지 "
        "보입니다.",
    ),
    cases={
        "none": Words("no attention", "어텐션 없음"),
        "dot": Words("dot", "dot"),
        "scaled_dot": Words("scaled dot", "scaled dot"),
        "general": Words("general", "general"),
        "concat": Words("concat", "concat"),
        "additive": Words("additive", "additive"),
        "transformer": Words("Transformer", "트랜스포머"),
    },
    quantities={
        "parameters": Number(Words("parameters", "매개변수"), ",.0f", drawn=False),
        "seconds": Number(Words("seconds of training", "학습 시간(초)"), ".0f", drawn=False),
        "copied": Curve(Words("copied (%)", "베낌 (%)"), Words("letters", "글자 수"), ".1f", shown=15),
    },
    expected=[
        Expect(
            Words("no attention: 6 letters less 15 letters (points)", "어텐션 없음: 6글자 − 15글자 (%p)"),
            lambda seed: seed["none"]["copied"][6] - seed["none"]["copied"][LONGEST],
            above=5.0,
            format=".1f",
        ),
        Expect(
            Words("attention: the worst system and length up to 15 (%)", "어텐션 있음: 15글자까지 가장 낮은 값 (%)"),
            worst_within_training,
            above=98.0,
            format=".1f",
        ),
        Expect(
            Words(
                "Transformer: 17 letters (%), as sinusoids may carry over to longer sequences (Vaswani et al.)",
                "트랜스포머: 17글자 (%), 사인파 위치는 더 긴 문장에도 통할 수 있다 (Vaswani 등)",
            ),
            lambda seed: seed["transformer"]["copied"][17],
            above=50.0,
            format=".1f",
        ),
    ],
    measure=measure,
    full=Sizes(),
    quick=Sizes(train_size=6_400, epochs=1, lengths=(6, 9, 12, 15, 17), per_length=30),
    minutes=100.0,
)
