"""Greedy decoding: which sentences of a batch are continued."""

import numpy as np
from scripted import Scripted, sentences
from tinygrad_attn_models.data import END
from tinygrad_attn_models.decoding.greedy import greedy


def test_greedy_decoding_goes_on_with_unfinished_sentences_only():
    table = np.zeros((3, 4, 6, 6))
    for sentence, length in enumerate((2, 0, 3)):
        table[sentence, :, :, 4] = 1.0
        table[sentence, length, :, END] = 2.0
    model = Scripted(table)
    assert greedy(model, *sentences(3), max_length=9) == [[4, 4], [], [4, 4, 4]]
    assert model.steps == [3, 2, 2, 1]


def test_few_that_have_ended_stay_until_a_quarter_has():
    table = np.zeros((8, 8, 6, 6))
    for sentence in range(8):
        table[sentence, :, :, 4] = 1.0
        table[sentence, sentence, :, END] = 2.0
    model = Scripted(table)
    assert greedy(model, *sentences(8), max_length=9) == [[4] * length for length in range(8)]
    assert model.steps == [8, 8, 6, 6, 4, 3, 2, 1]
