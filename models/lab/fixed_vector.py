"""How much fits into a vector of fixed size: copying by length, with vectors of several sizes, and with attention.

The encoder-decoder of Sutskever et al. has the whole source in its encoder's last state. What does not fit is lost, and
the more of it the longer the source; attention reads the source itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..data import Copy
from ..interface import Translator
from ..luong import Luong
from ..seq2seq import Seq2Seq
from .form.experiment import Curve, Expect, Experiment, Measured, OfSeed, Trial, Words, at_last
from .form.training import fit_translator, pairs_of, translated_right

__all__ = ["EXPERIMENT", "Sizes", "measure"]


@dataclass(frozen=True)
class Sizes:
    """Of the task and the training."""

    shortest: int = 1
    longest: int = 8
    steps: int = 1_500
    pairs: int = 12_000
    tested: int = 200


HIDDEN = {"16": 16, "32": 32, "64": 64, "128": 128, "attention": 32}
"""The size of the state, by case."""


def measure(trial: Trial[Sizes]) -> Measured:
    """The strings of each length that are copied without a mistake."""
    sizes, hidden = trial.sizes, HIDDEN[trial.case]
    pairs = pairs_of(task(sizes, trial.seed, sizes.shortest, sizes.longest))
    model: Translator
    if trial.case == "attention":
        model = Luong(*pairs.sizes, 32, hidden, cell="gru")
    else:
        model = Seq2Seq(*pairs.sizes, 32, hidden, cell="gru")
    fit_translator(model, pairs, sizes.steps, trial.seed)
    tests = {n: pairs.test_of(task(sizes, trial.seed, n, n)) for n in range(2, sizes.longest + 1)}
    return {"copied": {n: 100.0 * translated_right(model, test) for n, test in tests.items()}}


def task(sizes: Sizes, seed: int, shortest: int, longest: int) -> Copy:
    """Strings of these lengths."""
    return Copy(
        train_size=sizes.pairs, valid_size=1, test_size=sizes.tested, seed=seed, shortest=shortest, longest=longest,
        longest_test=longest,
    )  # fmt: skip


def shortest(seed: OfSeed, case: str) -> float:
    """Copied of the shortest strings."""
    curve = seed[case]["copied"]
    return float(curve[min(curve)])


EXPERIMENT = Experiment(
    claim=Words(
        "A vector of fixed size loses information as sentences grow, the smaller it is the sooner; attention does not.",
        "고정 크기 벡터는 문장이 길어질수록 정보를 잃고, 작을수록 빨리 잃습니다. 어텐션은 그렇지 않습니다.",
    ),
    method=Words(
        "GRU encoder-decoders with states of 16 to 128 numbers, and one of 32 with Luong's attention, learn to copy "
        "strings of up to 8 letters.",
        "상태가 16~128개 수인 GRU 인코더-디코더와, 루옹 어텐션이 있는 32짜리가 8글자까지의 문자열을 베끼도록 "
        "학습합니다.",
    ),
    cases={
        "16": Words("vector of 16", "벡터 16"),
        "32": Words("vector of 32", "벡터 32"),
        "64": Words("vector of 64", "벡터 64"),
        "128": Words("vector of 128", "벡터 128"),
        "attention": Words("32 with attention", "32, 어텐션"),
    },
    quantities={"copied": Curve(Words("copied (%)", "베낌 (%)"), Words("letters", "글자 수"), ".1f", shown=7)},
    expected=[
        Expect(
            Words("vector of 32: shortest less longest (points)", "벡터 32: 가장 짧은 것 − 가장 긴 것 (%p)"),
            lambda seed: shortest(seed, "32") - at_last(seed["32"]["copied"]),
            above=50.0,
            format=".1f",
        ),
        Expect(
            Words("longest: vector of 128 less vector of 32 (points)", "가장 긴 것: 벡터 128 − 벡터 32 (%p)"),
            lambda seed: at_last(seed["128"]["copied"]) - at_last(seed["32"]["copied"]),
            above=20.0,
            format=".1f",
        ),
        Expect(
            Words("longest: 32 with attention (%)", "가장 긴 것: 32, 어텐션 (%)"),
            lambda seed: at_last(seed["attention"]["copied"]),
            above=90.0,
            format=".1f",
        ),
    ],
    measure=measure,
    full=Sizes(),
    quick=Sizes(longest=4, steps=60, pairs=1_000, tested=40),
    minutes=1.5,
)
