"""The sentences on the page: names of symbols, unknown ones too, and predictions that are not finite."""

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.data import END, train_tokenizer
from tinygrad_attn_models.interface import Translator
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.checks.softmax import softmax
from tinygrad_attn_models.trained import TrainedModel

import tinygrad_attn as ta
from tinygrad_attn import nn


def test_logits_are_named_by_symbols_and_the_target_is_known(trained):
    model = TrainedModel.load(trained)
    data = model.microscope("2026", "2026-11-22").data
    vocabulary = model.run.target.vocabulary.symbols
    assert data["symbols"] == list(vocabulary)
    assert [vocabulary[token["expected_id"]] for token in data["tokens"]] == [*"2026-11-22", "</s>"]
    assert all(token["expected"] == data["symbols"][token["expected_id"]] for token in data["tokens"])
    (site,) = data["sites"]
    assert site["tensors"]["logits"]["shape"][-1] == len(data["symbols"])


def test_without_a_run_symbols_are_ids():
    data = microscope(make("seq2seq"), SOURCE, TARGET).data
    assert data["symbols"] == [str(number) for number in range(8)]
    assert [token["expected_id"] for token in data["tokens"]] == [*TARGET, END]


def test_an_unknown_symbol_keeps_its_text(trained):
    data = TrainedModel.load(trained).microscope("20☃26", "20☂").data
    assert data["source"]["text"] == "20☃26" and data["source"]["tokens"] == ["2", "0", "☃ (<unk>)", "2", "6"]
    assert [token["expected"] for token in data["tokens"]] == ["2", "0", "☂ (<unk>)", "</s>"]
    assert data["tokens"][3]["read"] == "☂ (<unk>)" and "☃ (<unk>)" in data["sites"][0]["keys"]


@pytest.mark.parametrize(
    ("name", "text", "pieces"),
    [
        ("characters", "a☃b", ["a", "☃", "b"]),
        ("words", "one ☃ two", ["one", "☃", "two"]),
        ("bpe", "one ☃two", ["▁one", "▁", "☃", "t", "wo"]),
    ],
)
def test_pieces_of_a_text(name, text, pieces):
    tokenizer = train_tokenizer(name, ["one two one two ab"] * 3, vocabulary_size=18)
    found = tokenizer.pieces(text)
    assert len(found) == len(tokenizer.encode(text)) and "☃" in found
    assert found == pieces or name == "bpe"


def test_the_dtype_of_the_model_is_told():
    meta = microscope(make("bahdanau"), SOURCE, TARGET).data["meta"]
    assert (meta["trained_dtype"], meta["dtype"]) == ("float32", "float64")
    meta = microscope(make("bahdanau").to(ta.float64), SOURCE, TARGET).data["meta"]
    assert meta["trained_dtype"] == "float64"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_probability_beside_a_nan_is_no_zero(bad):
    assert np.isnan(softmax(np.array([[0.0, bad, 1.0]]))).any()
    np.testing.assert_array_equal(softmax(np.array([[1.0, 2.0]]), np.zeros((1, 2), bool)), [[0.0, 0.0]])
    model = make("bahdanau")
    model.output.bias.array[5] = bad
    tokens = microscope(model, SOURCE, TARGET).data["tokens"]
    assert all(np.isnan(token["probability"]) or np.isnan(token["loss"]) for token in tokens)


class Half(Translator):
    def forward(self, source, source_mask, target_in, *, need_weights=False):
        return None


class Whole(Half):
    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, source, source_mask, target_in, *, need_weights=False):
        return self.logits

    def encode(self, source, source_mask):
        return None

    def start(self, memory):
        return None

    def step(self, state, token, *, need_weights=False):
        return ta.ones(1, 8), None, {}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Linear(2, 3),
            "looks into a LanguageModel or a Translator .* Linear is none: derive it from Translator and define",
        ),
        (object(), "object is none"),
        (Half(), "needs Half to define encode, start, step"),
        (Whole(None), r"Whole.forward must return the logits, a tensor \(B, T, V\); it returned NoneType"),
        (Whole(ta.ones(1, 2, 8)), r"must return logits of shape \(1, 4, V\) here; theirs is \(1, 2, 8\)"),
        (Whole(ta.ones(1, 4, 8)), "returned logits without a gradient"),
    ],
)
def test_a_module_that_is_no_translator(model, message):
    with pytest.raises(UserError, match=message):
        microscope(model, SOURCE, TARGET)
