"""Alignments contain the attention over the source, and no self-attention."""

import json

import numpy as np
import pytest
import translators as t
from tinygrad_attn_models.bahdanau import Bahdanau
from tinygrad_attn_models.data import START, CharacterTokenizer, Vocabulary
from tinygrad_attn_models.decoding.alignment import Alignment, align
from tinygrad_attn_models.seq2seq import Seq2Seq
from tinygrad_attn_models.transformer import Transformer

import tinygrad_attn as ta
from tinygrad_attn import Tensor

SIZES = (t.SOURCE_SIZE, t.TARGET_SIZE)
SOURCE, TARGET = CharacterTokenizer(Vocabulary("abcd")), CharacterTokenizer(Vocabulary("xyz"))


@pytest.mark.parametrize("translation", [[4], [4, 5, 6], [4, 5, 6, 4, 4]])
def test_the_transformers_attention_on_the_source_whatever_its_shape(translation):
    """With three symbols and </s> on a source of four, self-attention has the same shape."""
    ta.manual_seed(0)
    model = Transformer(*SIZES, 4, 2, 3, 2, 6, dropout=0.0).eval()
    sentence = [4, 5, 6, 7]
    found = align(model, SOURCE, TARGET, sentence, translation)
    assert list(found.weights) == ["decoder.layers.0.multihead_attn", "decoder.layers.1.multihead_attn"]
    batch = np.array([sentence]), np.ones((1, 4), dtype=bool), np.array([[START, *translation]])
    _, expected = model(*map(Tensor, batch), need_weights=True)
    for place, weights in found.weights.items():
        assert weights.shape == (2, len(translation) + 1, 4)
        np.testing.assert_array_equal(weights, expected[place].array[0])
    assert (found.source, found.target[-1]) == (list("abcd"), "</s>")


def test_a_recurrent_model_has_one_place_and_a_model_without_attention_none():
    found = align(Bahdanau(*SIZES, 4, 5).eval(), SOURCE, TARGET, [4, 7], [6])
    assert {place: weights.shape for place, weights in found.weights.items()} == {"attention": (1, 2, 2)}
    assert (found.source, found.target) == (["a", "d"], ["z", "</s>"])
    assert align(Seq2Seq(*SIZES, 4, 5).eval(), SOURCE, TARGET, [4, 7], [6]).weights == {}


def test_what_a_symbol_attends_to_is_the_largest_mean_of_all_heads():
    generator = np.random.default_rng(0)
    weights = {layer: generator.dirichlet(np.ones(5), (heads, 4)) for layer, heads in (("a", 3), ("b", 1), ("c", 2))}
    found = Alignment(weights, list("vwxyz"), ["p", "q", "r", "</s>"])
    total = np.zeros((4, 5))
    for heads in weights.values():
        for head in heads:
            total += head
    best = [max(range(5), key=lambda place, t=t: total[t, place]) for t in range(4)]
    assert found.attended() == best
    stored = json.loads(json.dumps(found.to_dict()))
    assert stored["alignment"] == [[best[t], t] for t in range(3)]
    assert (stored["source"], stored["target"]) == (list("vwxyz"), ["p", "q", "r", "</s>"])
    for layer, heads in weights.items():
        np.testing.assert_allclose(stored["attention"][layer], heads, atol=1e-6)


def test_without_attention_nothing_is_attended():
    found = Alignment({}, ["a"], ["</s>"])
    assert found.to_dict()["alignment"] == [] and found.to_dict()["attention"] == {}
    with pytest.raises(ValueError, match="no attention weights"):
        found.attended()
