"""A made-up experiment that needs no training, for tests of what experiments have in common."""

from __future__ import annotations

from dataclasses import dataclass

from tinygrad_attn_models.lab.form.experiment import Curve, Expect, Experiment, Measured, Number, Trial, Words

__all__ = ["LOUD", "Sizes", "made_up"]

LOUD = '<script>alert("x")</script> & "quotes"'
"""A text that must be escaped."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of three kinds, as JSON gives them back."""

    steps: int = 3
    lengths: tuple[int, ...] = (1, 2, 4)


def made_up(**changes) -> Experiment[Sizes]:
    """Two cases: "right" measures 1 plus a tenth of the seed, "wrong" its half; changed as told."""

    def measure(trial: Trial[Sizes]) -> Measured:
        value = (1.0 if trial.case == "right" else 0.5) * (1.0 + 0.1 * trial.seed)
        return {"value": value, "decay": {n: value * 2.0**-n for n in trial.sizes.lengths}}

    parts = {
        "claim": Words(f"Right beats wrong. {LOUD}", f"옳은 것이 이긴다. {LOUD}"),
        "method": Words("Numbers are made up.", "지어낸 수입니다."),
        "cases": {"right": Words(f"the right one {LOUD}", f"옳은 것 {LOUD}"), "wrong": Words("wrong", "틀린 것")},
        "quantities": {
            "value": Number(Words(f"value {LOUD}", f"값 {LOUD}"), ".2f"),
            "decay": Curve(Words("decay", "감소"), Words("length", "길이"), ".3f", log=True, shown=2),
        },
        "expected": [
            Expect(
                Words(f"right less wrong {LOUD}", f"차이 {LOUD}"),
                lambda of: of["right"]["value"] - of["wrong"]["value"],
                above=0.0,
            )
        ],
        "measure": measure,
        "full": Sizes(),
        "quick": Sizes(steps=1),
        "minutes": 0.0,
    }  # fmt: skip
    return Experiment(**{**parts, **changes})
