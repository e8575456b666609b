"""What follows from the expression of a score: which identities any right derivative of it keeps."""

import pytest
from tinygrad_attn_models.microscope.checks.expressions import depends_on_sums, is_bilinear

from tinygrad_attn.nn import SCORES

BILINEAR, OF_SUMS = {"dot", "scaled_dot", "general"}, {"additive", "concat"}
Q, K, V = ("Q", "t", "c"), ("K", "j", "c"), ("v", "c")


def test_the_scores():
    expressions = {name: score.recipes["scores"] for name, score in SCORES.items()}
    assert {name for name, score in expressions.items() if is_bilinear(score)} == BILINEAR
    assert {name for name, score in expressions.items() if depends_on_sums(score)} == OF_SUMS


@pytest.mark.parametrize(
    ("score", "bilinear", "of_sums"),
    [
        (None, False, False),
        (1.0, False, False),
        (("sum", "c", ("*", Q, K, V)), True, False),
        (("*", 2.0, ("+", ("*", Q, K), ("*", K, Q))), True, False),
        (("*", Q, Q, K), False, False),
        (("+", Q, K), False, True),
        (("square", ("+", Q, K)), False, True),
        (("*", Q, ("tanh", ("+", Q, K))), False, False),
        (("+", Q, ("K", "j", "a")), False, False),
        (("+", ("*", Q, K), 1.0), False, False),
    ],
)
def test_others(score, bilinear, of_sums):
    assert (is_bilinear(score), depends_on_sums(score)) == (bilinear, of_sums)
