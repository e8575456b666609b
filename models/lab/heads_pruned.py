"""Heads pruned from a trained Transformer: how many of them it can do without.

A head is removed by setting its columns of W_O to zero. The heads go one after the other, first those whose removal
alone costs least (Michel, Levy and Neubig, "Are Sixteen Heads Really Better than One?", 2019).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from tinygrad_attn import nn

from ..console.working import worked_off
from ..data import Dates, PairBatch
from ..evaluation.metrics import TeacherForced, teacher_forced
from ..transformer import Transformer
from .form.experiment import Curve, Expect, Experiment, Measured, OfSeed, Trial, Words
from .form.training import fit_translator, in_order, pairs_of

__all__ = ["EXPERIMENT", "Sizes", "measure"]

HEADS, LAYERS = 4, 2


@dataclass(frozen=True)
class Sizes:
    """Of the task and the training; the model has 2 + 2 layers with 4 heads each."""

    width: int = 64
    steps: int = 1_500
    pairs: int = 8_000
    tested: int = 400


KINDS = {
    "encoder": ("encoder", "self_attn"),
    "decoder": ("decoder", "self_attn"),
    "cross": ("decoder", "multihead_attn"),
}

Head = tuple[int, int]
"""Its layer, and its number there."""


def measure(trial: Trial[Sizes]) -> Measured:
    """The tokens right by the number of heads that are removed from one kind of attention."""
    model, valid, test = trained(trial.seed, trial.sizes)
    attentions = attentions_of(model, trial.case)
    every = [(layer, head) for layer in range(len(attentions)) for head in range(HEADS)]
    order = sorted(
        worked_off(every, "removing single heads", len(every)),
        key=lambda head: without(model, attentions, [head], valid).loss,
    )
    counts = range(len(order) + 1)
    return {"right": {n: 100.0 * without(model, attentions, order[:n], test).accuracy for n in counts}}


@functools.lru_cache(maxsize=1)
def trained(seed: int, sizes: Sizes) -> tuple[Transformer, list[PairBatch], list[PairBatch]]:
    """A model of dates, batches to choose heads by, and others to test with; the same for all kinds of attention."""
    pairs = pairs_of(Dates(train_size=sizes.pairs, valid_size=sizes.tested, test_size=sizes.tested, seed=seed))
    model = Transformer(*pairs.sizes, sizes.width, HEADS, LAYERS, LAYERS, 2 * sizes.width, dropout=0.0)
    fit_translator(model, pairs, sizes.steps, seed)
    return model, list(in_order(pairs.valid)), list(in_order(pairs.test))


def attentions_of(model: Transformer, kind: str) -> list[nn.MultiheadAttention]:
    """The attentions of one kind, from the lowest layer up."""
    stack, name = KINDS[kind]
    layers = getattr(model.transformer, stack).layers
    return [getattr(layer, name) for layer in layers]


def without(
    model: Transformer, attentions: list[nn.MultiheadAttention], heads: Iterable[Head], batches: list[PairBatch]
) -> TeacherForced:
    """What the model gets right with these heads removed."""
    weights = [attention.out_proj.weight for attention in attentions]
    before = [weight.array.copy() for weight in weights]
    after = [array.copy() for array in before]
    for layer, head in heads:
        size = attentions[layer].head_dim
        after[layer][:, head * size : (head + 1) * size] = 0.0
    try:
        _set(weights, after)
        return teacher_forced(model, batches)
    finally:
        _set(weights, before)


def _set(weights: list[nn.Parameter], arrays: Iterable[object]) -> None:
    for weight, array in zip(weights, arrays, strict=True):
        weight.data = array


def lost(seed: OfSeed, kind: str, removed: int) -> float:
    """Points lost by the removal of so many heads."""
    curve = seed[kind]["right"]
    return float(curve[0] - curve[removed])


EXPERIMENT = Experiment(
    claim=Words(
        "Most heads of a trained Transformer can be removed; those that look at the source are needed most.",
        "학습한 트랜스포머의 헤드는 대부분 없애도 됩니다. 입력을 보는 헤드가 가장 필요합니다.",
    ),
    method=Words(
        "A Transformer with 2 + 2 layers and 4 heads learns dates; then heads of one kind are removed, the least "
        "needed first, without further training.",
        "2+2층, 헤드 4개인 트랜스포머가 날짜를 학습한 뒤, 한 종류의 헤드를 덜 필요한 것부터 없앱니다.",
    ),
    cases={
        "encoder": Words("encoder's self-attention", "인코더 셀프 어텐션"),
        "decoder": Words("decoder's self-attention", "디코더 셀프 어텐션"),
        "cross": Words("attention to the source", "입력을 보는 어텐션"),
    },
    quantities={
        "right": Curve(Words("tokens right (%)", "맞은 토큰 (%)"), Words("heads removed", "없앤 헤드"), ".1f", shown=9),
    },
    expected=[
        Expect(
            Words("encoder: points lost with half of the heads", "인코더: 헤드 절반을 없앨 때 잃은 %p"),
            lambda seed: lost(seed, "encoder", 4),
            below=2.0,
            format=".1f",
        ),
        Expect(
            Words("decoder: points lost with half of the heads", "디코더: 헤드 절반을 없앨 때 잃은 %p"),
            lambda seed: lost(seed, "decoder", 4),
            below=2.0,
            format=".1f",
        ),
        Expect(
            Words(
                "to the source: points lost with half, less the encoder's", "입력: 절반을 없앨 때 잃은 %p − 인코더의 %p"
            ),
            lambda seed: lost(seed, "cross", 4) - lost(seed, "encoder", 4),
            above=0.0,
            format=".1f",
        ),
        Expect(
            Words("to the source: points lost with all heads", "입력: 모든 헤드를 없앨 때 잃은 %p"),
            lambda seed: lost(seed, "cross", 8),
            above=30.0,
            format=".1f",
        ),
    ],
    measure=measure,
    full=Sizes(),
    quick=Sizes(steps=80, pairs=1_000, tested=60),
    minutes=3.0,
    remark=Words(
        "Half of the heads of any kind cost about two points or less, if they are chosen by other sentences than "
        "those that are counted. Only when nearly all are gone do those that look at the source cost more than the "
        "others.",
        "채점에 쓰지 않은 문장으로 고르면, 어느 종류든 헤드의 절반을 없애도 약 2%p 이하만 잃습니다. 거의 다 없앨 "
        "때에야 입력을 보는 헤드가 다른 헤드보다 크게 필요합니다.",
    ),
)
