"""The verdict on a claim, computed from the numbers of all seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .experiment import Expect, OfSeed, Words
from .results import Results, Spread

__all__ = ["VERDICTS", "Judged", "judge", "verdict"]

VERDICTS = {
    "held": Words("came out as expected", "예상대로 나왔습니다"),
    "failed": Words("came out otherwise", "예상과 다르게 나왔습니다"),
    "part": Words("came out in part", "일부만 예상대로 나왔습니다"),
    "mixed": Words("differs from seed to seed", "시드마다 다릅니다"),
    "unfinished": Words("not measured to the end", "아직 다 측정하지 않았습니다"),
}
"""What can come out, by its name."""


@dataclass(frozen=True)
class Judged:
    """An expectation beside the numbers."""

    expect: Expect
    found: Spread
    held: int
    """With how many seeds it came out."""

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`: held with every seed, with none, or with some."""
        seeds = len(self.found.values)
        if not seeds:
            return "unfinished"
        return {seeds: "held", 0: "failed"}.get(self.held, "mixed")


def judge(results: Results) -> list[Judged]:
    """Each expectation, over the seeds with which all cases have been measured."""
    judged = []
    for expect in results.experiment.expected:
        values = tuple(_value(expect, seed) for seed in results.complete().values())
        judged.append(Judged(expect, Spread(values), sum(map(expect.holds, values))))
    return judged


def _value(expect: Expect, seed: OfSeed) -> float:
    try:
        return expect.value(seed)
    except ZeroDivisionError:
        return math.nan  # which is within no bounds


def verdict(judged: list[Judged]) -> str:
    """On the whole claim: what all expectations have in common, or "part"."""
    found = {each.verdict for each in judged}
    if "unfinished" in found:
        return "unfinished"
    if len(found) > 1 and "held" not in found:
        return "mixed"
    return found.pop() if len(found) == 1 else "part"
