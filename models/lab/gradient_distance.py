"""How far back the gradient reaches, with attention and without, before training and after.

The task: read a sequence of random symbols, then say the first of them. Nothing but the farthest symbol matters, so a
model learns only if the loss's gradient gets there. Without attention it passes through one state after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn
from tinygrad_attn.nn import functional as F

from ..data import START
from ..interface import Translator
from ..luong import Luong
from ..seq2seq import Seq2Seq
from ..transformer import Transformer
from .form.experiment import Curve, Expect, Experiment, Measured, Number, OfSeed, Trial, Words, at_last
from .form.training import captured, fit

__all__ = ["EXPERIMENT", "Sizes", "gradient_by_distance", "measure"]


@dataclass(frozen=True)
class Sizes:
    """Of the task, the models and the training."""

    length: int = 24
    symbols: int = 8
    hidden: int = 32
    steps: int = 500
    batch: int = 32
    tested: int = 512


MODELS: dict[str, Callable[[int, int], Translator]] = {
    "rnn": lambda symbols, hidden: Seq2Seq(symbols, symbols, hidden, hidden, cell="rnn"),
    "gru": lambda symbols, hidden: Seq2Seq(symbols, symbols, hidden, hidden, cell="gru"),
    "lstm": lambda symbols, hidden: Seq2Seq(symbols, symbols, hidden, hidden, cell="lstm"),
    "rnn_attention": lambda symbols, hidden: Luong(symbols, symbols, hidden, hidden, cell="rnn"),
    "lstm_attention": lambda symbols, hidden: Luong(symbols, symbols, hidden, hidden, cell="lstm"),
    "transformer": lambda symbols, hidden: Transformer(symbols, symbols, hidden, 4, 2, 2, 2 * hidden, dropout=0.0),
}


def measure(trial: Trial[Sizes]) -> Measured:
    """The gradient's share by distance, before training and after, and how often the first symbol is said."""
    sizes = trial.sizes
    generator = np.random.default_rng(trial.seed)
    model = MODELS[trial.case](START + 1 + sizes.symbols, sizes.hidden)
    seen = draw_sources(generator, sizes.tested, sizes)
    before = gradient_by_distance(model, seen)

    def batches() -> Iterator[tuple[Any, ...]]:
        while True:
            yield (draw_sources(generator, sizes.batch, sizes),)

    fit(model, captured(lambda source: loss_of(model, source)), batches(), sizes.steps, rate=0.003)
    with ta.no_grad():
        said = first_logits(model, Tensor(seen)).array.argmax(-1)
    right = 100.0 * float(np.mean(said == seen[:, 0]))
    return {"before": before, "after": gradient_by_distance(model, seen), "right": right}


def draw_sources(generator: np.random.Generator, count: int, sizes: Sizes) -> np.ndarray[Any, Any]:
    """(count, length) random symbols."""
    return generator.integers(START + 1, START + 1 + sizes.symbols, (count, sizes.length))


def first_logits(model: Translator, source: Tensor) -> Tensor:
    """The logits (B, V) of the decoder's first word."""
    start = Tensor(np.full((source.shape[0], 1), START))
    logits: Tensor = model(source, Tensor(np.ones(source.shape, dtype=bool)), start)
    return logits[:, 0]


def loss_of(model: Translator, source: Tensor) -> Tensor:
    """The cross entropy of the first symbol of each source (B, S)."""
    return F.cross_entropy(first_logits(model, source), source[:, 0])


class Watched(nn.Module):
    """An embedding whose vectors keep their gradients."""

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, ids: Tensor) -> Tensor:
        self.vectors = self.embedding(ids)
        self.vectors.retain_grad()
        return self.vectors


def gradient_by_distance(model: Any, source: np.ndarray[Any, Any]) -> dict[int, float]:
    """The norm of ∂L/∂x_j, averaged over the sources, as a share of all positions', by distance S - 1 - j from the
    end."""
    watched: Any = Watched(model.source_embedding)
    model.source_embedding = watched
    loss_of(model, Tensor(source)).backward()
    model.source_embedding = watched.embedding
    model.zero_grad()
    norms = np.linalg.norm(watched.vectors.grad.array, axis=-1).mean(0)
    return dict(enumerate((norms / norms.sum())[::-1].tolist()))


def reach(seed: OfSeed, case: str, when: str = "before") -> float:
    """The farthest symbol's gradient beside the nearest's."""
    curve = seed[case][when]
    # A gradient that has vanished altogether is still less than any other.
    return max(at_last(curve), np.finfo(np.float64).tiny) / curve[0] if curve[0] else np.nan


EXPERIMENT = Experiment(
    claim=Words(
        "Without attention the gradient vanishes with distance; gates (GRU, LSTM) slow that, attention ends it.",
        "어텐션이 없으면 기울기가 거리에 따라 사라집니다. 게이트(GRU, LSTM)는 이를 늦추고, 어텐션은 없앱니다.",
    ),
    method=Words(
        "Read 24 random symbols, then say the first. Shown is the share of the loss's gradient that reaches each "
        "source symbol, by its distance from the end.",
        "무작위 기호 24개를 읽고 첫 번째 기호를 말합니다. 손실의 기울기 가운데 각 입력 기호에 도달하는 몫을 "
        "끝에서부터의 거리별로 보입니다.",
    ),
    cases={
        "rnn": Words("RNN", "RNN"),
        "gru": Words("GRU", "GRU"),
        "lstm": Words("LSTM", "LSTM"),
        "rnn_attention": Words("RNN + attention", "RNN + 어텐션"),
        "lstm_attention": Words("LSTM + attention", "LSTM + 어텐션"),
        "transformer": Words("Transformer", "트랜스포머"),
    },
    quantities={
        "before": Curve(
            Words("gradient's share at the start", "학습 전 기울기의 몫"), Words("distance", "거리"), ".2g", True
        ),
        "after": Curve(Words("after training", "학습 후"), Words("distance", "거리"), ".2g", True),
        "right": Number(Words("right (%)", "정답 (%)"), ".1f", drawn=False),
    },
    expected=[
        Expect(
            Words("RNN, start: farthest / nearest", "RNN, 학습 전: 가장 먼 기호 / 가장 가까운 기호"),
            lambda seed: reach(seed, "rnn"),
            below=0.01,
        ),
        Expect(
            Words("LSTM, start: its reach / the RNN's", "LSTM, 학습 전: 도달 비율 / RNN의 비율"),
            lambda seed: reach(seed, "lstm") / reach(seed, "rnn"),
            above=1.0,
        ),
        Expect(
            Words("GRU, start: its reach / the RNN's", "GRU, 학습 전: 도달 비율 / RNN의 비율"),
            lambda seed: reach(seed, "gru") / reach(seed, "rnn"),
            above=1.0,
        ),
        Expect(
            Words("LSTM + attention, start: its reach / the LSTM's", "LSTM + 어텐션, 학습 전: 도달 비율 / LSTM의 비율"),
            lambda seed: reach(seed, "lstm_attention") / reach(seed, "lstm"),
            above=100.0,
        ),
        Expect(
            Words("Transformer, start: farthest / nearest", "트랜스포머, 학습 전: 가장 먼 기호 / 가장 가까운 기호"),
            lambda seed: reach(seed, "transformer"),
            above=0.5,
            below=2.0,
        ),
        Expect(
            Words("no attention: right, the best of three (%)", "어텐션 없음: 정답, 셋 중 최고 (%)"),
            lambda seed: max(seed[case]["right"] for case in ("rnn", "gru", "lstm")),
            below=50.0,
            format=".1f",
        ),
        Expect(
            Words("attention: right, the worst of three (%)", "어텐션 있음: 정답, 셋 중 최저 (%)"),
            lambda seed: min(seed[case]["right"] for case in ("rnn_attention", "lstm_attention", "transformer")),
            above=95.0,
            format=".1f",
        ),
    ],
    measure=measure,
    full=Sizes(),
    quick=Sizes(length=12, hidden=16, steps=60, tested=128),
    minutes=1.0,
    remark=Words(
        "How far the first gradient reaches decides how soon a model learns, not whether: with one seed of three "
        "the GRU without attention has learnt the task, and then its gradient reaches the farthest symbol. One RNN "
        "with attention was not done yet.",
        "첫 기울기가 닿는 거리는 학습 여부가 아니라 속도를 정합니다. 세 시드 중 하나에서 어텐션 없는 GRU가 과제를 "
        "배웠고, 그 뒤에는 기울기가 가장 먼 기호에 닿습니다. 어텐션 있는 RNN 하나는 아직 다 배우지 못했습니다.",
    ),
)
