"""Unknown symbols of a translation: replaced by the piece of the source that they attend to most."""

import numpy as np
import pytest
import translators as t
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.data import UNKNOWN, BPETokenizer, CharacterTokenizer, Vocabulary, WordTokenizer
from tinygrad_attn_models.decoding.unknown import Detokenizer
from tinygrad_attn_models.interface import Translator
from tinygrad_attn_models.runs.config import DecodingConfig
from tinygrad_attn_models.seq2seq import Seq2Seq

from tinygrad_attn import Tensor

REPLACE, KEEP = DecodingConfig(unknown="replace"), DecodingConfig()


class Attentive(Translator):
    """Attends in two layers, of two heads and one, with weights drawn by chance."""

    def forward(self, source, source_mask, target_in, *, need_weights=False):
        shape = (*target_in.shape, source.shape[1])
        generator = np.random.default_rng(shape[1:])
        weights = {
            "decoder.attention": Tensor(generator.dirichlet(np.ones(shape[2]), (1, 2, shape[1]))),
            "decoder.self_attn": Tensor(generator.dirichlet(np.ones(shape[1]), (1, 1, shape[1]))),
            "second": Tensor(generator.dirichlet(np.ones(shape[2]), (1, 1, shape[1]))),
        }
        return Tensor(np.zeros((*target_in.shape, 9))), weights


WORDS = WordTokenizer(Vocabulary(["is", "here", "￭."]))


@given(st.lists(st.sampled_from(["Kim", "Lee", "Müller", "is"]), min_size=1, max_size=6),
       st.lists(st.integers(UNKNOWN, 6), max_size=6))  # fmt: skip
def test_each_unknown_is_the_source_word_that_it_attends_to(source, translation):
    model = Attentive()
    text = Detokenizer(model, WORDS, WORDS, REPLACE).text(" ".join(source), translation)
    _, weights = model.forward(np.zeros((1, len(source))), None, np.zeros((1, len(translation) + 1)), need_weights=True)
    total = weights["decoder.attention"].array[0].sum(axis=0) + weights["second"].array[0, 0]
    expected = [
        source[total[place].argmax()] if token == UNKNOWN else WORDS.vocabulary.symbols[token]
        for place, token in enumerate(translation)
    ]
    assert text == WORDS.join(expected)
    kept = Detokenizer(model, WORDS, WORDS, KEEP)
    assert kept.text(" ".join(source), translation) == WORDS.decode(translation)
    # Attention as data names the words of both texts, as they are written there.
    shown, alignment = Detokenizer(model, WORDS, WORDS, REPLACE).aligned(" ".join(source), translation)
    assert (shown, alignment.source, alignment.target) == (text, source, [*expected, "</s>"])
    shown, alignment = kept.aligned(" ".join(source), translation)
    assert (shown, alignment.source) == (WORDS.decode(translation), source)
    assert alignment.target == [*WORDS.symbols_of(translation), "</s>"]


@pytest.mark.parametrize(
    ("tokenizer", "source", "expected"),
    [
        (CharacterTokenizer(Vocabulary("ab")), "Ω", "aΩ"),
        (WordTokenizer(Vocabulary("ab"), lowercase=True), "OMEGA", "a omega"),
        (BPETokenizer(Vocabulary(["a", "b"]), []), "Ω", "aΩ"),
    ],
)
def test_every_tokenizer_knows_what_an_unknown_symbol_was(tokenizer, source, expected):
    sentence = tokenizer.encode(source)
    assert UNKNOWN in sentence

    class OnTheLast(Translator):
        def forward(self, source, source_mask, target_in, *, need_weights=False):
            weights = np.zeros((1, 1, target_in.shape[1], source.shape[1]))
            weights[..., -1] = 1.0
            return None, {"attention": Tensor(weights)}

    assert Detokenizer(OnTheLast(), tokenizer, tokenizer, REPLACE).text(source, [4, UNKNOWN]) == expected


def test_a_model_without_attention():
    model = Seq2Seq(t.SOURCE_SIZE, t.TARGET_SIZE, 4, 5).eval()
    with pytest.raises(UserError, match=r"decoding.unknown is 'replace'.* no attention; choose keep or forbid"):
        Detokenizer(model, WORDS, WORDS, REPLACE)
    assert Detokenizer(model, WORDS, WORDS, KEEP).text("x", [UNKNOWN, 4]) == "<unk> is"
