"""The verdict on a claim, computed from the numbers of all seeds."""

from __future__ import annotations

from dataclasses import dataclass

from .experiment import Expect, Words
from .results import Results, Spread

__all__ = ["VERDICTS", "Judged", "judge", "verdict"]

VERDICTS = {
    "held": Words("came out as expected", "예상대로 나왔다"),
    "failed": Words("came out otherwise", "예상과 다르게 나왔다"),
    "mixed": Words("differs from seed to seed", "시드마다 다르다"),
    "unfinished": Words("not measured to the end", "아직 다 측정하지 않았다"),
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
        values = tuple(expect.value(seed) for seed in results.complete().values())
        judged.append(Judged(expect, Spread(values), sum(map(expect.holds, values))))
    return judged


def verdict(judged: list[Judged]) -> str:
    """On the whole claim: held if every expectation is, failed if one failed with every seed."""
    found = {each.verdict for each in judged}
    return next((name for name in ("unfinished", "failed", "mixed") if name in found), "held")
