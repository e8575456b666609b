"""Attention scores, one a file, registered in `SCORES`; and attention with a score."""

from tinygrad_attn.nn.scores.additive import AdditiveScore
from tinygrad_attn.nn.scores.attention import attend, attention
from tinygrad_attn.nn.scores.base import SCORES, Expression, Score, Snippet
from tinygrad_attn.nn.scores.concat import ConcatScore
from tinygrad_attn.nn.scores.dot import DotScore
from tinygrad_attn.nn.scores.general import GeneralScore
from tinygrad_attn.nn.scores.location import LocationScore
from tinygrad_attn.nn.scores.scaled_dot import ScaledDotScore

__all__ = [
    "SCORES", "AdditiveScore", "ConcatScore", "DotScore", "Expression", "GeneralScore", "LocationScore",
    "ScaledDotScore", "Score", "Snippet", "attend", "attention",
]  # fmt: skip
