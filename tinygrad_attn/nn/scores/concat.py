"""ConcatScore: v · tanh(W [q; k]), the additive score in the form of Luong et al. 2015."""

from __future__ import annotations

from tinygrad_attn.checked import FloatDtype, Size, checked
from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.nn.scores.additive import AdditiveScore
from tinygrad_attn.nn.scores.base import SCORES

__all__ = ["ConcatScore"]


@SCORES.register("concat")
class ConcatScore(AdditiveScore):
    """v · tanh(W [q; k]) (Luong et al. 2015, "concat").

    W [q; k] = W_q q + W_k k with W = [W_q W_k]: the parameters are those of `AdditiveScore`, without b, and W k is
    computed once for all queries.
    """

    formula = r"e_{tj} = \textstyle\sum_i v_i \tanh(Q_{ti} + K_{ji}), \quad Q_t = W_q q_t, \quad K_j = W_k h_j"

    @checked
    def __init__(self, query_size: Size, key_size: Size, size: Size, dtype: FloatDtype = default_dtype) -> None:
        super().__init__(query_size, key_size, size, bias=False, dtype=dtype)
