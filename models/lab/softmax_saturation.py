"""A softmax that is sure of a wrong place: within attention it gets no gradient, in the output layer it does.

Eight scores e prefer a wrong symbol by a margin m, and gradient descent on them has to find the right one. Attention
gives a vector, c = Σ α_j v_j, and the loss ½‖c - v‖² comes back through diag(α) - ααᵀ, whose entries are of order
exp(-m). The cross entropy of an output layer cancels that: its gradient is α - 1, and does not vanish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import Tensor
from tinygrad_attn.nn import functional as F

from ..console.working import worked_off
from .form.experiment import Curve, Expect, Experiment, Measured, Trial, Words

__all__ = ["EXPERIMENT", "Sizes", "measure"]


@dataclass(frozen=True)
class Sizes:
    """Of the problem, and the most steps of gradient descent."""

    scores: int = 8
    values: int = 16
    margins: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 8)
    most_steps: int = 20_000


WRONG, RIGHT = 0, 1


def measure(trial: Trial[Sizes]) -> Measured:
    """For each margin: the norm of the first gradient, and the steps until the right symbol has half of the weight."""
    sizes = trial.sizes
    values = Tensor(np.random.default_rng(trial.seed).standard_normal((sizes.scores, sizes.values)) / 2.0)
    scores = np.zeros((len(sizes.margins), sizes.scores))
    scores[:, WRONG] = sizes.margins
    first: np.ndarray[Any, Any] | None = None
    steps = np.full(len(scores), sizes.most_steps)
    for step in worked_off(range(sizes.most_steps), "gradient descent, step", sizes.most_steps):
        e = Tensor(scores, requires_grad=True)
        (gradient,) = ta.grad(loss_of(e, values, trial.case), e)
        assert gradient is not None
        first = gradient.array if first is None else first
        scores = scores - gradient.array
        weights = np.exp(scores - scores.max(1, keepdims=True))
        steps[(weights[:, RIGHT] > 0.5 * weights.sum(1)) & (steps == sizes.most_steps)] = step + 1
        if (steps < sizes.most_steps).all():
            break
    assert first is not None
    norms = np.linalg.norm(first, axis=1)
    return {
        "gradient": dict(zip(sizes.margins, norms.tolist(), strict=True)),
        "steps": dict(zip(sizes.margins, map(float, steps), strict=True)),
    }


def loss_of(scores: Tensor, values: Tensor, case: str) -> Tensor:
    """The losses of all rows of scores, summed: a row's gradient is that of its own loss."""
    if case == "output":
        return F.cross_entropy(scores, Tensor(np.full(scores.shape[0], RIGHT)), reduction="sum")
    context = ta.softmax(scores, dim=-1) @ values
    return 0.5 * (context - values[RIGHT]).square().sum()


MARGIN = Words("margin of the wrong score", "틀린 스코어의 차이")

EXPERIMENT = Experiment(
    claim=Words(
        "A saturated softmax stops learning: the surer attention is of a wrong place, the smaller its gradient.",
        "포화된 소프트맥스는 학습이 멈춥니다. 어텐션이 틀린 곳을 확신할수록 기울기가 작아집니다.",
    ),
    method=Words(
        "Gradient descent on eight scores that prefer a wrong symbol by a margin. The same softmax under a cross "
        "entropy is the counterexample.",
        "틀린 기호를 선호하는 스코어 여덟 개를 경사 하강으로 고칩니다. 교차 엔트로피의 소프트맥스가 반례입니다.",
    ),
    cases={
        "attention": Words("attention, squared error", "어텐션, 제곱 오차"),
        "output": Words("output layer, cross entropy", "출력층, 교차 엔트로피"),
    },
    quantities={
        "gradient": Curve(Words("norm of the first gradient", "첫 기울기의 노름"), MARGIN, ".2g", log=True, shown=5),
        "steps": Curve(Words("steps to the right symbol", "옳은 기호까지의 스텝"), MARGIN, ".0f", log=True, shown=5),
    },
    expected=[
        Expect(
            Words("attention: gradient at margin 8 / at 0", "어텐션: 차이 8의 기울기 / 차이 0의 기울기"),
            lambda seed: seed["attention"]["gradient"][8] / seed["attention"]["gradient"][0],
            below=0.05,
        ),
        Expect(
            Words("attention: steps from margin 8 / from 2", "어텐션: 차이 8에서의 스텝 / 차이 2에서의 스텝"),
            lambda seed: seed["attention"]["steps"][8] / seed["attention"]["steps"][2],
            above=20.0,
        ),
        Expect(
            Words("cross entropy: gradient at margin 8 / at 0", "교차 엔트로피: 차이 8의 기울기 / 차이 0의 기울기"),
            lambda seed: seed["output"]["gradient"][8] / seed["output"]["gradient"][0],
            above=1.0,
        ),
        Expect(
            Words(
                "cross entropy: steps from margin 8 / from 2", "교차 엔트로피: 차이 8에서의 스텝 / 차이 2에서의 스텝"
            ),
            lambda seed: seed["output"]["steps"][8] / seed["output"]["steps"][2],
            below=5.0,
        ),
    ],
    measure=measure,
    full=Sizes(),
    quick=Sizes(margins=(0, 2, 4, 8), most_steps=2_000),
    minutes=0.2,
    remark=Words(
        "The same softmax under a cross entropy gets a larger gradient the surer it is of the wrong symbol: it is the "
        "product with a Jacobian near 0 that stops learning, not the softmax.",
        "교차 엔트로피 아래의 같은 소프트맥스는 틀린 것을 확신할수록 기울기가 커집니다. 학습을 멈추는 것은 "
        "소프트맥스가 아니라 0에 가까운 야코비안과의 곱입니다.",
    ),
)
