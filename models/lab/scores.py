"""The attention scores side by side: what each copies, also longer than in training, and what a step costs.

Every score of `tinygrad_attn.nn.SCORES`, one of the user's own too, in the model of Luong et al.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinygrad_attn import nn

from ..data import Copy
from ..luong import Luong
from .form.experiment import Curve, Expect, Experiment, Measured, Number, OfSeed, Trial, Words, at_last
from .form.training import fit_translator, milliseconds_of, pairs_of, translated_right

__all__ = ["EXPERIMENT", "Sizes", "measure"]


@dataclass(frozen=True)
class Sizes:
    """Of the task, the model and the training."""

    shortest: int = 4
    longest: int = 8
    lengths: tuple[int, ...] = (4, 6, 8, 10, 12)
    hidden: int = 64
    steps: int = 1_000
    pairs: int = 8_000
    tested: int = 200


def measure(trial: Trial[Sizes]) -> Measured:
    """The strings copied by length, parameters, and processor time of a step."""
    sizes = trial.sizes
    pairs = pairs_of(task(sizes, trial.seed, sizes.shortest, sizes.longest))
    model = Luong(*pairs.sizes, sizes.hidden, sizes.hidden, score=trial.case)
    times: list[float] = []
    fit_translator(model, pairs, sizes.steps, trial.seed, times=times)
    copied = {}
    for length in sizes.lengths:
        test = pairs.test_of(task(sizes, trial.seed, length, length))
        copied[length] = 100.0 * translated_right(model, test)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"copied": copied, "parameters": parameters, "milliseconds": milliseconds_of(times)}


def task(sizes: Sizes, seed: int, shortest: int, longest: int) -> Copy:
    """Strings of these lengths."""
    return Copy(
        train_size=sizes.pairs, valid_size=1, test_size=sizes.tested, seed=seed, shortest=shortest, longest=longest,
        longest_test=longest,
    )  # fmt: skip


CONTENT = [name for name in ("dot", "scaled_dot", "general", "concat", "additive") if name in nn.SCORES]
"""The scores that compare what two states hold; "location" knows the decoder's state alone."""


def within_training(seed: OfSeed, case: str) -> float:
    """The least of the lengths of training."""
    return float(min(copied for length, copied in seed[case]["copied"].items() if length <= Sizes.longest))


EXPERIMENT = Experiment(
    claim=Words(
        "All scores that compare states learn to align; the score by location alone fails beyond the trained lengths; "
        "dot is the cheapest.",
        "상태를 비교하는 스코어는 모두 정렬을 배웁니다. location 스코어는 학습한 길이를 넘으면 실패하고, dot이 가장 "
        "쌉니다.",
    ),
    method=Words(
        "Luong's model learns to copy strings of 4 to 8 letters with each score, the same number of steps.",
        "루옹 모델이 스코어마다 같은 스텝 수로 4~8글자 문자열을 베끼도록 학습합니다.",
    ),
    cases={name: Words(name.replace("_", " "), name.replace("_", " ")) for name in nn.SCORES},
    quantities={
        "copied": Curve(Words("copied (%)", "베낌 (%)"), Words("letters", "글자 수"), ".1f", shown=5),
        "parameters": Number(Words("parameters", "매개변수"), ",.0f", drawn=False),
        "milliseconds": Number(Words("processor time of a step (ms)", "한 스텝의 프로세서 시간 (ms)"), ".1f"),
    },
    expected=[
        Expect(
            Words("comparing scores: the worst, up to 8 letters (%)", "비교하는 스코어: 8글자까지 최저 (%)"),
            lambda seed: min(within_training(seed, case) for case in CONTENT),
            above=90.0,
            format=".1f",
        ),
        Expect(
            Words("location: longest strings (%)", "location: 가장 긴 문자열 (%)"),
            lambda seed: at_last(seed["location"]["copied"]),
            below=5.0,
            format=".1f",
        ),
        Expect(
            Words("the best comparing score: longest strings (%)", "비교하는 스코어 중 최고: 가장 긴 문자열 (%)"),
            lambda seed: max(at_last(seed[case]["copied"]) for case in CONTENT),
            above=50.0,
            format=".1f",
        ),
        Expect(
            Words("time of a step, additive / dot", "한 스텝의 시간, additive / dot"),
            lambda seed: seed["additive"]["milliseconds"] / seed["dot"]["milliseconds"],
            above=1.0,
        ),
    ],
    measure=measure,
    full=Sizes(),
    quick=Sizes(lengths=(4, 8, 12), hidden=16, steps=40, pairs=500, tested=40),
    minutes=4.0,
    remark=Words(
        "An LSTM's states lie within -1 and 1, so that dot needs no division here: scaled dot is the slowest to learn. "
        "After at most 8 letters in training no score copies 12; of 10 letters additive and concat copy half, location "
        "none.",
        "LSTM의 상태는 -1과 1 사이여서 dot을 나눌 필요가 없습니다. scaled dot이 가장 늦게 배웁니다. 8글자까지 학습하면 "
        "12글자는 어떤 스코어도 베끼지 못하고, 10글자는 additive와 concat이 절반쯤, location은 하나도 베끼지 못합니다.",
    ),
)
