"""Broken derivatives: does a model with a wrong one still learn, and what gives it away.

The mistakes are those of the microscope's gallery, `models.microscope.checks.gallery`; the forward pass stays right.
The check is one line: along the unit vector of a parameter's gradient g the loss rises by ‖g‖ per step, if g is right.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn

from ..microscope.checks.gallery import broken_derivative
from .form.experiment import Expect, Experiment, Measured, Number, OfSeed, Trial, Words
from .form.reader import Reader, Sequences, fit_reader, loss_of, reverse, said_right

__all__ = ["EXPERIMENT", "Additive", "Sizes", "measure"]


@dataclass(frozen=True)
class Sizes(Sequences):
    """One layer; everything runs as its reference, in primitives."""

    width: int = 32
    steps: int = 400


class Additive(nn.Module):
    """Self-attention with Bahdanau's score in place of heads: x + Σ α h, for a `Reader`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.SCORES["additive"].make(width, width, width, 0)
        self.value = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        weights = ta.softmax(self.score.compare(x, self.score.project(x)), dim=-1)
        return x + weights @ self.value(x)


SMALL = 1e-3  # a gradient so much smaller than the largest is all rounding, as that of the keys' bias

MISTAKES = {
    "right": None,
    "softmax": "softmax-without-second-term",
    "gamma": "layernorm-gamma-outside",
    "additive": None,
    "tanh": "additive-without-tanh",
}
"""What is wrong, by case; the last two are models with Bahdanau's score."""


def measure(trial: Trial[Sizes]) -> Measured:
    """What is learnt with the mistake, and the error of the gradient before and after."""
    sizes, mistake = trial.sizes, MISTAKES[trial.case]
    seen = sizes.test(trial.seed)
    layer: nn.Module = Additive(sizes.width)
    if trial.case not in ("additive", "tanh"):
        layer = nn.TransformerEncoderLayer(sizes.width, 4, 2 * sizes.width, 0.0, batch_first=True)
    model = Reader(sizes.symbols, sizes.width, [layer], nn.SinusoidalPositionalEncoding(sizes.width))
    broken: AbstractContextManager[Any] = nullcontext() if mistake is None else broken_derivative(mistake)
    with ta.unfused(), broken:
        before = error_of_the_gradient(model, seen)
        fit_reader(model, sizes, reverse, trial.seed)
        return {
            "before": before,
            "after": error_of_the_gradient(model, seen),
            "right": said_right(model, seen, reverse),
        }


def error_of_the_gradient(model: Reader, ids: np.ndarray[Any, Any], step: float = 1e-6) -> float:
    """The largest |(L(θ + εg/‖g‖) - L(θ - εg/‖g‖)) / 2ε - ‖g‖| / ‖g‖ of all parameters θ, in float64."""
    exact = copy.deepcopy(model).double()
    parameters = list(exact.parameters())
    source, answers = Tensor(ids), Tensor(reverse(ids))
    gradients = ta.grad(loss_of(exact(source), answers), parameters, allow_unused=True)
    arrays = [np.zeros(1) if gradient is None else gradient.array for gradient in gradients]
    norms = [float(np.linalg.norm(array)) for array in arrays]
    errors = []
    for parameter, gradient, norm in zip(parameters, arrays, norms, strict=True):
        if norm > SMALL * max(norms):
            before = parameter.array.copy()
            losses = []
            for distance in (step, -step):
                parameter.data = before + distance / norm * gradient
                with ta.no_grad():
                    losses.append(float(loss_of(exact(source), answers).item()))
            parameter.data = before
            errors.append(abs((losses[0] - losses[1]) / (2.0 * step) - norm) / norm)
    return max(errors)


def behind(seed: OfSeed, case: str, right: str) -> float:
    """Points that a mistake costs."""
    return float(seed[right]["right"] - seed[case]["right"])


EXPERIMENT = Experiment(
    claim=Words(
        "A wrong derivative shows: the model does not learn.",
        "미분이 틀리면 드러납니다. 모델이 학습하지 못합니다.",
    ),
    method=Words(
        "Readers of one layer learn to say 8 symbols in reverse, with right derivatives and with common mistakes. "
        "Beside what they learn stands the largest error of a finite difference along a parameter's gradient.",
        "한 층 모델이 기호 8개를 거꾸로 말하도록 학습합니다. 미분이 옳은 것과 흔한 실수가 있는 것을 비교하고, "
        "매개변수마다 기울기 방향으로 잰 유한 차분의 최대 오차를 곁에 둡니다.",
    ),
    cases={
        "right": Words("all right, heads", "모두 옳음, 헤드"),
        "softmax": Words("softmax without its second term", "소프트맥스의 둘째 항 없음"),
        "gamma": Words("layer norm, γ outside", "층 정규화의 γ가 밖에"),
        "additive": Words("all right, additive", "모두 옳음, additive"),
        "tanh": Words("additive without tanh's derivative", "additive에서 tanh의 미분 없음"),
    },
    quantities={
        "right": Number(Words("right after training (%)", "학습 후 정답 (%)"), ".1f"),
        "before": Number(Words("error of the gradient at the start", "학습 전 기울기 오차"), ".1g", log=True),
        "after": Number(Words("error after training", "학습 후 기울기 오차"), ".1g", log=True),
    },
    expected=[
        Expect(
            Words("softmax: points behind the right one", "소프트맥스: 옳은 것보다 낮은 %p"),
            lambda seed: behind(seed, "softmax", "right"),
            above=20.0,
            format=".1f",
        ),
        Expect(
            Words("layer norm: points behind the right one", "층 정규화: 옳은 것보다 낮은 %p"),
            lambda seed: behind(seed, "gamma", "right"),
            above=20.0,
            format=".1f",
        ),
        Expect(
            Words("tanh: points behind the right one", "tanh: 옳은 것보다 낮은 %p"),
            lambda seed: behind(seed, "tanh", "additive"),
            above=20.0,
            format=".1f",
        ),
        Expect(
            Words("right ones: the largest error of the gradient", "옳은 것: 기울기 오차의 최대"),
            lambda seed: max(seed[case][when] for case in ("right", "additive") for when in ("before", "after")),
            below=1e-4,
        ),
        Expect(
            Words("wrong ones: the least error after training", "틀린 것: 학습 후 오차의 최소"),
            lambda seed: min(seed[case]["after"] for case in ("softmax", "gamma", "tanh")),
            above=1e-4,
        ),
    ],
    measure=measure,
    full=Sizes(),
    quick=Sizes(steps=30, tested=64),
    minutes=2.0,
    remark=Words(
        "The model with γ outside learns as well as the right one, so that no curve of losses shows the mistake; nor "
        "does a check at the start, where γ is 1 throughout. The finite difference after training does.",
        "γ가 밖에 있는 모델은 옳은 모델만큼 잘 배우므로 손실 곡선으로는 실수를 알 수 없습니다. γ가 모두 1인 학습 전의 "
        "검사로도 알 수 없고, 학습 후의 유한 차분으로 드러납니다.",
    ),
)
