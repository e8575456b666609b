"""The encoder-decoder without attention: what holds for every model, and that the context vector is all it has."""

import numpy as np
import pytest
import translators as t
from tinygrad_attn_models.seq2seq import Seq2Seq, Seq2SeqSettings

import tinygrad_attn as ta
from tinygrad_attn import Tensor

CELLS = ("rnn", "gru", "lstm")


def make(cell, layers, hidden_size=3, dropout=0.0, dtype=np.float64):
    return Seq2Seq(t.SOURCE_SIZE, t.TARGET_SIZE, 2, hidden_size, layers, cell, dropout, dtype)


@pytest.fixture(params=[(cell, layers) for cell in CELLS for layers in (1, 2)], ids=lambda p: f"{p[0]}-{p[1]}")
def model(request):
    ta.manual_seed(0)
    return make(*request.param).eval()


def test_gradients(model):
    t.check_gradients(model)


def test_steps_padding_and_causality(model):
    t.check_steps(model)
    t.check_padding(model)
    t.check_causality(model)


def test_nothing_attends(model):
    assert t.check_weights(model, [], heads=1) == {}


def test_the_decoder_knows_of_the_source_its_last_state_only(model):
    batch = t.whole_batch()
    context = model.encode(Tensor(batch.source), Tensor(batch.source_mask))
    layers = model.encoder.num_layers
    assert [part.shape for part in context] == [(3, layers, 3)] * (2 if "LSTM" in repr(model) else 1)
    first = model.encode(Tensor(batch.source[:1]), Tensor(batch.source_mask[:1]))
    for part, alone in zip(context, first, strict=True):
        np.testing.assert_allclose(part.array[:1], alone.array, **t.EXACT)


@pytest.mark.parametrize("cell", CELLS)
def test_files_learning_and_dropout(cell, tmp_path):
    ta.manual_seed(0)
    t.check_files(lambda: make(cell, 2), tmp_path)
    t.check_overfits(make(cell, 1, hidden_size=24, dtype=np.float32))
    t.check_dropout(make(cell, 2, dropout=0.5))


def test_an_unknown_cell():
    with pytest.raises(ValueError, match="cell must be one of rnn, gru, lstm, got 'mlp'"):
        make("mlp", 1)


def test_it_is_built_from_its_settings():
    settings = Seq2SeqSettings(embedding_size=3, hidden_size=5, cell="gru", layers=2, dropout=0.1)
    model = Seq2Seq.from_settings(settings, 8, 7, np.float64)
    assert isinstance(model, Seq2Seq)
    assert model.decoder.weight_hh_l1.shape == (15, 5)
    assert model.output.weight.shape == (7, 5)
    assert model.dropout.p == model.encoder.dropout == model.decoder.dropout == 0.1
