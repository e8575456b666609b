"""The Transformer against recurrent models at translating: dates, with the same number of steps and like sizes.

``--data DIR --source L --target L`` names parallel text, such as Multi30k, in place of the dates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..bahdanau import Bahdanau
from ..data import Dates, Parallel, Task
from ..evaluation.metrics import exact_match
from ..interface import Translator
from ..luong import Luong
from ..seq2seq import Seq2Seq
from ..transformer import Transformer
from .form.experiment import Curve, Expect, Experiment, Measured, Number, Trial, Words, at_last
from .form.training import bleu_of, fit_translator, milliseconds_of, pairs_of, translated

__all__ = ["EXPERIMENT", "Sizes", "measure"]


@dataclass(frozen=True)
class Sizes:
    """Of the task and the training; a model is trained anew for each number of steps."""

    steps: tuple[int, ...] = (250, 500, 1_000)
    pairs: int = 8_000
    tested: int = 400
    data: str = ""
    """A folder of parallel text, in place of generated dates."""
    source: str = ""
    target: str = ""


MODELS: dict[str, Callable[[int, int], Translator]] = {
    "seq2seq": lambda source, target: Seq2Seq(source, target, 32, 96),
    "luong": lambda source, target: Luong(source, target, 32, 88),
    "bahdanau": lambda source, target: Bahdanau(source, target, 32, 64),
    "transformer": lambda source, target: Transformer(source, target, 56, 4, 2, 2, 112, dropout=0.0),
}


def measure(trial: Trial[Sizes]) -> Measured:
    """BLEU and whole translations right, parameters, and processor time of a step."""
    sizes = trial.sizes
    task = task_of(sizes, trial.seed)
    pairs = pairs_of(task)
    scores = {}
    for steps in sizes.steps:
        model = MODELS[trial.case](*pairs.sizes)
        times: list[float] = []
        fit_translator(model, pairs, steps, trial.seed, times=times)
        translations = translated(model, pairs.test)
        scores[steps] = bleu_of(translations, pairs, task)
    return {
        "bleu": scores,
        "right": 100.0 * exact_match(translations, [target for _, target in pairs.test]),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "milliseconds": milliseconds_of(times),
    }


def task_of(sizes: Sizes, seed: int) -> Task:
    """Dates, or the words of parallel text."""
    if not sizes.data:
        return Dates(train_size=sizes.pairs, valid_size=1, test_size=sizes.tested, seed=seed)
    return Parallel(
        directory=sizes.data, source=sizes.source, target=sizes.target, train_size=sizes.pairs, test_size=sizes.tested,
        tokenizer="words", lowercase=True, min_frequency=2,
    )  # fmt: skip


EXPERIMENT = Experiment(
    claim=Words(
        "The Transformer translates better than recurrent models and trains faster; attention helps recurrent models.",
        "트랜스포머는 순환 모델보다 번역을 잘하고 빨리 학습합니다. 어텐션은 순환 모델에 도움이 됩니다.",
    ),
    method=Words(
        "Four models of like sizes learn dates in English and Korean forms to ISO form, with the same pairs, batches "
        "and steps; unseen dates are translated greedily, and BLEU is of characters.",
        "크기가 비슷한 네 모델이 같은 문장 쌍, 배치, 스텝 수로 영어와 한국어 날짜를 ISO 형식으로 옮기도록 학습합니다.",
    ),
    cases={
        "seq2seq": Words("LSTM without attention", "LSTM, 어텐션 없음"),
        "luong": Words("LSTM, Luong", "LSTM, 루옹"),
        "bahdanau": Words("GRU, Bahdanau", "GRU, 바흐다나우"),
        "transformer": Words("Transformer", "트랜스포머"),
    },
    quantities={
        "bleu": Curve(Words("BLEU", "BLEU"), Words("steps", "스텝"), ".1f", log_over=True, shown=3),
        "right": Number(Words("wholly right (%)", "완전히 맞음 (%)"), ".1f", drawn=False),
        "parameters": Number(Words("parameters", "매개변수"), ",.0f", drawn=False),
        "milliseconds": Number(Words("processor time of a step (ms)", "한 스텝의 프로세서 시간 (ms)"), ".1f"),
    },
    expected=[
        Expect(
            Words("BLEU, Luong less without attention", "BLEU, 루옹 − 어텐션 없음"),
            lambda seed: at_last(seed["luong"]["bleu"]) - at_last(seed["seq2seq"]["bleu"]),
            above=10.0,
            format=".1f",
        ),
        Expect(
            Words("BLEU, Transformer less the best recurrent model", "BLEU, 트랜스포머 − 순환 모델 중 최고"),
            lambda seed: (
                at_last(seed["transformer"]["bleu"])
                - max(at_last(seed[case]["bleu"]) for case in ("luong", "bahdanau"))
            ),
            above=0.0,
            format=".1f",
        ),
        Expect(
            Words("time of a step, Transformer / Bahdanau", "한 스텝의 시간, 트랜스포머 / 바흐다나우"),
            lambda seed: seed["transformer"]["milliseconds"] / seed["bahdanau"]["milliseconds"],
            below=1.0,
        ),
    ],
    measure=measure,
    full=Sizes(),
    quick=Sizes(steps=(20, 60), pairs=1_000, tested=60),
    minutes=4.0,
    remark=Words(
        "With 8,000 short dates and 1,000 steps the recurrent models with attention are ahead, and a step of theirs "
        "takes less time. What a Transformer gains with long sentences, much text and many cores is not measured here.",
        "짧은 날짜 8,000쌍과 1,000스텝에서는 어텐션 있는 순환 모델이 앞서고 한 스텝도 더 빠릅니다. 긴 문장, 많은 "
        "텍스트, 많은 코어에서 트랜스포머가 얻는 것은 여기서 재지 않았습니다.",
    ),
)
