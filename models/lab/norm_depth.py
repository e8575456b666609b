"""Post-norm and pre-norm by depth: the gradient through the layers at the start, and what is learnt without a warmup.

Post-norm, the paper's norm(x + f(x)), normalises the residual path itself; pre-norm, x + f(norm(x)), leaves it as it
is (Xiong et al., "On Layer Normalization in the Transformer Architecture", 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

from tinygrad_attn import nn

from .form.experiment import Curve, Expect, Experiment, Measured, Trial, Words, at_last
from .form.reader import Reader, Sequences, fit_reader, gradients_by_layer, reverse, said_right

__all__ = ["EXPERIMENT", "Sizes", "measure"]


@dataclass(frozen=True)
class Sizes(Sequences):
    """How wide and how deep the readers are."""

    width: int = 32
    depths: tuple[int, ...] = (1, 2, 4, 8, 16)


def measure(trial: Trial[Sizes]) -> Measured:
    """For each depth: the gradient below the first layer beside that above the last, and what is learnt."""
    sizes = trial.sizes
    seen = sizes.test(trial.seed)
    pre = trial.case == "pre"
    reach, right = {}, {}
    for depth in sizes.depths:
        layers = [
            nn.TransformerEncoderLayer(sizes.width, 4, 2 * sizes.width, 0.0, batch_first=True, norm_first=pre)
            for _ in range(depth)
        ]
        norm = nn.LayerNorm(sizes.width) if pre else None
        model = Reader(sizes.symbols, sizes.width, layers, nn.SinusoidalPositionalEncoding(sizes.width), norm)
        gradients = gradients_by_layer(model, seen, reverse)
        reach[depth] = gradients[0] / gradients[-1]
        fit_reader(model, sizes, reverse, trial.seed, warmup=0.25 if trial.case == "post_warmup" else 0.0)
        right[depth] = said_right(model, seen, reverse)
    return {"reach": reach, "right": right}


LAYERS = Words("layers", "층 수")

EXPERIMENT = Experiment(
    claim=Words(
        "Deep post-norm Transformers lose the gradient on its way down and need a warmup; pre-norm ones do not.",
        "깊은 post-norm 트랜스포머는 기울기가 내려가며 줄고 워밍업이 필요하지만, pre-norm은 그렇지 않습니다.",
    ),
    method=Words(
        "Encoders of 1 to 16 layers learn to say 8 symbols in reverse, with the same learning rate from the first "
        "step, or rising to it.",
        "1~16층 인코더가 기호 8개를 거꾸로 말하도록 학습합니다. 학습률은 처음부터 같거나, 서서히 올립니다.",
    ),
    cases={
        "post": Words("post-norm", "post-norm"),
        "post_warmup": Words("post-norm, warmup", "post-norm, 워밍업"),
        "pre": Words("pre-norm", "pre-norm"),
    },
    quantities={
        "reach": Curve(
            Words("gradient, first / last layer", "기울기, 첫 층 / 마지막 층"),
            LAYERS, ".2g", log=True, log_over=True, shown=5,
        ),
        "right": Curve(Words("right after training (%)", "학습 후 정답 (%)"), LAYERS, ".1f", log_over=True, shown=5),
    },
    expected=[
        Expect(
            Words("post-norm, most layers: first / last gradient", "post-norm, 가장 깊을 때: 첫 / 마지막 기울기"),
            lambda seed: at_last(seed["post"]["reach"]),
            below=0.5,
        ),
        Expect(
            Words("pre-norm, most layers: first / last gradient", "pre-norm, 가장 깊을 때: 첫 / 마지막 기울기"),
            lambda seed: at_last(seed["pre"]["reach"]),
            above=1.0,
        ),
        Expect(
            Words("most layers: right, pre less post (points)", "가장 깊을 때: 정답, pre − post (%p)"),
            lambda seed: at_last(seed["pre"]["right"]) - at_last(seed["post"]["right"]),
            above=20.0,
            format=".1f",
        ),
        Expect(
            Words("post-norm, most layers: right, with warmup less without (points)",
                  "post-norm, 가장 깊을 때: 정답, 워밍업 있음 − 없음 (%p)"),
            lambda seed: at_last(seed["post_warmup"]["right"]) - at_last(seed["post"]["right"]),
            above=10.0,
            format=".1f",
        ),
    ],
    measure=measure,
    full=Sizes(),
    quick=Sizes(steps=30, depths=(1, 4), tested=64),
    minutes=3.0,
    remark=Words(
        "Up to 8 layers all learn alike. At 16 post-norm fails, though half of its gradient still arrives; a warmup "
        "helped with one seed of three.",
        "8층까지는 모두 비슷하게 배웁니다. 16층에서 post-norm은 기울기의 절반이 도달하는데도 실패하고, 워밍업은 세 "
        "시드 중 하나에서 도움이 되었습니다.",
    ),
)  # fmt: skip
