"""Translating sentences of any lengths: their order, their batches, and the n-best."""

import dataclasses

import numpy as np
import pytest
import translators as t
from tinygrad_attn_models.bahdanau import Bahdanau
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.data import END, PAD, START
from tinygrad_attn_models.decoding.translate import search, translate
from tinygrad_attn_models.interface import Translator
from tinygrad_attn_models.runs.config import DecodingConfig
from tinygrad_attn_models.transformer import Transformer

import tinygrad_attn as ta
from tinygrad_attn import Tensor


class Copier(Translator):
    """Writes the source again. Its state is the source, followed by ``</s>``, and the position."""

    def encode(self, source, source_mask):
        symbols = np.where(source_mask.array, source.array, END)
        return Tensor(np.pad(symbols, ((0, 0), (0, 1)), constant_values=END))

    def start(self, memory):
        return memory, 0

    def step(self, state, token):
        symbols, position = state[0].array, state[1]
        if position == 0:
            assert (token.array == START).all()
        logits = np.full((len(symbols), 10), -60.0)
        logits[:, [PAD, START]] = 5.0  # must never be chosen
        logits[np.arange(len(symbols)), symbols[:, min(position, symbols.shape[1] - 1)]] = 1.0
        return Tensor(logits), (state[0], position + 1), {}


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_translations_come_in_the_order_of_the_sentences(batch_size, beam):
    texts = [[4, 5, 6, 7], [8], [], [9, 9], [5, 4, 5]]
    told = []
    settings = DecodingConfig(batch_size=batch_size, max_length=10, beam=beam)
    assert translate(Copier(), texts, settings, told.append) == texts
    assert sum(told) == 4
    assert max(told) <= batch_size


def test_a_translation_that_does_not_end_is_cut_off():
    assert translate(Copier(), [[4, 5, 6, 7], [8]], DecodingConfig(batch_size=2, max_length=2)) == [[4, 5], [8]]


def test_long_sentences_come_first():
    """So the time left is not told too short."""
    widths = []

    class Noting(Copier):
        def encode(self, source, source_mask):
            widths.append(source.shape[1])
            return super().encode(source, source_mask)

    translate(Noting(), [[4], [4] * 5, [4] * 3], DecodingConfig(batch_size=1, max_length=9))
    assert widths == [5, 3, 1]


def test_no_sentences():
    assert translate(Copier(), [], DecodingConfig(batch_size=2, max_length=2)) == []


def test_the_mode_of_the_model_is_restored():
    model = Copier()
    translate(model, [[4]], DecodingConfig(batch_size=1, max_length=2))
    assert model.training
    translate(model.eval(), [[4]], DecodingConfig(batch_size=1, max_length=2))
    assert not model.training


def test_the_n_best_of_each_sentence():
    settings = DecodingConfig(batch_size=2, max_length=6, beam=4, length_penalty=0.0)
    found = search(Copier(), [[4, 5], [], [6]], settings, n_best=3)
    assert [len(hypotheses) for hypotheses in found] == [3, 0, 3]
    assert (found[0][0].tokens, found[2][0].tokens) == ((4, 5), (6,))
    for n_best in (0, 5):
        with pytest.raises(ValueError, match=f"from 1 to the width of the beam, 4; got {n_best}"):
            search(Copier(), [[4]], settings, n_best)


class Forgetful(Translator):
    """A model that reads source and target anew at each step; its state is all that was read."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def encode(self, source, source_mask):
        return source, source_mask

    def start(self, memory):
        return *memory, Tensor(np.empty((memory[0].shape[0], 0), dtype=np.int64))

    def step(self, state, token):
        source, mask, before = state
        read = ta.cat([before, token.unsqueeze(1)], 1)
        return self.model(source, mask, read)[:, -1], (source, mask, read), {}


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda: Transformer(t.SOURCE_SIZE, t.TARGET_SIZE, 16, 2, 2, 2, 32, dropout=0.0, dtype=np.float64),
        lambda: Bahdanau(t.SOURCE_SIZE, t.TARGET_SIZE, 8, 8, dtype=np.float64),
    ],
    ids=["transformer", "bahdanau"],
)
def test_what_a_state_keeps_changes_no_translation(make, beam):
    """Not when sentences end, one sooner than the other, nor when hypotheses change places."""
    ta.manual_seed(1)
    model = make()
    t.train(model, steps=30, learning_rate=0.02)  # so that lengths differ
    draw = np.random.default_rng(0)
    texts = [draw.integers(4, t.SOURCE_SIZE, length).tolist() for length in (1, 2, 2, 3, 4, 5, 9)]
    texts += [source for source, _ in t.EXAMPLES]
    settings = DecodingConfig(batch_size=5, max_length=20, beam=beam)
    found = translate(model, texts, settings)
    assert found == translate(Forgetful(model), texts, settings)
    assert len({len(translation) for translation in found}) > 2


def test_8_bit_weights_translate_almost_as_well():
    ta.manual_seed(0)
    model = Transformer(9, 30, 32, 4, 1, 2, 40, dropout=0.0).eval()
    texts = np.random.default_rng(0).integers(4, 9, (40, 6)).tolist()
    for beam in (1, 3):
        settings = DecodingConfig(max_length=8, beam=beam, length_penalty=0.0)
        rounded = dataclasses.replace(settings, int8=True)
        pairs = zip(translate(model, texts, settings), translate(model, texts, rounded), strict=True)
        assert sum(a == b for a, b in pairs) >= 30
        scores = [[row[0].score for row in search(model, texts, each)] for each in (settings, rounded)]
        assert 0.0 < np.median(np.abs(np.subtract(*scores))) < 0.1


def test_8_bit_weights_need_a_decoder_that_packs_them():
    model = Bahdanau(8, 7, 4, 5)
    with pytest.raises(UserError, match=r"decoding\.int8 is for models .* this Bahdanau has none"):
        translate(model, [[4, 5]], DecodingConfig(int8=True))
