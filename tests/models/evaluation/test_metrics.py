"""The figures, on cases small enough to work out by hand."""

import math

import numpy as np
import pytest
from tinygrad_attn_models.data import UNKNOWN, collate
from tinygrad_attn_models.evaluation.metrics import exact_match, teacher_forced, token_loss
from tinygrad_attn_models.interface import Translator

from tinygrad_attn import Tensor

EXAMPLES = [([4], [4, 5, 6]), ([4], [5])]


class Prejudiced(Translator):
    """Gives symbol 5 the probability 1/2, and the other six 1/12 each."""

    def forward(self, source, source_mask, target_in, *, need_weights=False):
        logits = np.full((*target_in.shape, 7), math.log(1 / 12))
        logits[..., 5] = math.log(1 / 2)
        return Tensor(logits)


def test_every_token_weighs_the_same_and_padding_nothing():
    # Six tokens (4 5 6 </s> and 5 </s>), two of them the 5.
    loss = (2 * math.log(2) + 4 * math.log(12)) / 6
    for batches in ([collate(EXAMPLES, [0, 1])], [collate(EXAMPLES, [0]), collate(EXAMPLES, [1])]):
        measured = teacher_forced(Prejudiced(), batches)
        assert measured.loss == pytest.approx(loss)
        assert measured.accuracy == pytest.approx(2 / 6)
        assert measured.perplexity == pytest.approx(math.exp(loss))


def test_label_smoothing_spreads_probability():
    batch = collate(EXAMPLES, [1])
    logits = Prejudiced()(None, None, Tensor(batch.target_in))
    plain = (math.log(2) + math.log(12)) / 2
    uniform = (math.log(2) + 6 * math.log(12)) / 7
    assert token_loss(logits, batch, 0.1).item() == pytest.approx(0.9 * plain + 0.1 * uniform)


def test_no_batches():
    with pytest.raises(ValueError, match="no batches"):
        teacher_forced(Prejudiced(), [])


def test_exact_match_counts_whole_sentences():
    assert exact_match([[4, 5], [6], [], [7]], [[4, 5], [6, 6], [], [8]]) == 0.5


def test_an_unknown_symbol_matches_nothing():
    assert exact_match([[4, UNKNOWN], [5]], [[4, UNKNOWN], [5]]) == 0.5


def test_exact_match_needs_a_translation_for_each_reference():
    with pytest.raises(ValueError, match="1 translations for 2 references"):
        exact_match([[1]], [[1], [2]])
    with pytest.raises(ValueError, match="0 references"):
        exact_match([], [])
