"""Numbers with the right form of their noun, and of its verb."""

import pytest
from tinygrad_attn_models.console.counts import counted
from tinygrad_attn_models.microscope.checks.verdict import verdict_of


def test_nouns():
    assert [counted(n, "epoch") for n in (0, 1, 2, 1_000)] == ["0 epochs", "1 epoch", "2 epochs", "1,000 epochs"]
    assert [counted(n, "check fails", "checks fail") for n in (1, 2)] == ["1 check fails", "2 checks fail"]


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({"state": "bad", "failing": 1}, "1 check fails"),
        ({"state": "bad", "failing": 1_200}, "1,200 checks fail"),
        ({"state": "good", "compared": 1, "recomputed": 0}, "1 number checked out"),
        ({"state": "good", "compared": 8, "recomputed": 2_000}, "2,008 numbers checked out"),
        ({"state": "not_finite"}, "not finite"),
    ],
)
def test_the_verdict(check, words):
    assert verdict_of(check) == words
