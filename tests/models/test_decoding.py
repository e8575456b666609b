"""Greedy decoding, on a model whose every word is known beforehand."""

import numpy as np
import pytest

from models.config import DecodingConfig
from models.data import END, PAD, START
from models.decoding import translate
from models.interface import Translator
from tinygrad_attn import Tensor


class Copier(Translator):
    """Writes the source again. Its state is the source, followed by ``</s>``, and the position."""

    def encode(self, source, source_mask):
        return np.pad(np.where(source_mask.array, source.array, END), ((0, 0), (0, 1)), constant_values=END)

    def start(self, memory):
        return memory, 0

    def step(self, state, token):
        symbols, position = state
        if position == 0:
            assert (token.array == START).all()
        logits = np.zeros((len(symbols), 10))
        logits[:, [PAD, START]] = 5.0  # must never be chosen
        logits[np.arange(len(symbols)), symbols[:, min(position, symbols.shape[1] - 1)]] = 1.0
        return Tensor(logits), (symbols, position + 1), {}


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_translations_come_in_the_order_of_the_sentences(batch_size):
    sentences = [[4, 5, 6, 7], [8], [], [9, 9], [5, 4, 5]]
    assert translate(Copier(), sentences, DecodingConfig(batch_size=batch_size, max_length=10)) == sentences


def test_a_translation_that_does_not_end_is_cut_off():
    assert translate(Copier(), [[4, 5, 6, 7], [8]], DecodingConfig(batch_size=2, max_length=2)) == [[4, 5], [8]]


def test_no_sentences():
    assert translate(Copier(), [], DecodingConfig(batch_size=2, max_length=2)) == []


def test_the_mode_of_the_model_is_restored():
    model = Copier()
    translate(model, [[4]], DecodingConfig(batch_size=1, max_length=2))
    assert model.training
    translate(model.eval(), [[4]], DecodingConfig(batch_size=1, max_length=2))
    assert not model.training
