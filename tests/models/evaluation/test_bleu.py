"""BLEU and chrF: sacrebleu's figures with their signatures."""

from urllib.error import URLError

import pytest
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.evaluation.bleu import BleuSettings, bleu, chrf
from tinygrad_attn_models.runs.bleu_tokenizers import BLEU_TOKENIZERS
from tinygrad_attn_models.runs.config import load_config

TEXTS = ["the cat sat on the mat .", "a dog , and a cat"]


def test_the_same_text_has_all_points():
    for tokenizer in BLEU_TOKENIZERS[:5]:
        assert bleu(TEXTS, TEXTS, BleuSettings(tokenizer)).score == pytest.approx(100.0)
    assert chrf(TEXTS, TEXTS, BleuSettings()).score == pytest.approx(100.0)


def test_bleu_by_hand():
    # Precisions 4/5, 3/4, 2/3 and 1/2, as long as the reference.
    score = bleu(["a b c d x"], ["a b c d e"], BleuSettings("none")).score
    assert score == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_signatures_say_how_it_was_done():
    found = bleu(TEXTS, TEXTS, BleuSettings("char", lowercase=True))
    assert "case:lc" in found.signature
    assert "tok:char" in found.signature
    assert "version:" in found.signature
    assert "case:lc" in chrf(TEXTS, TEXTS, BleuSettings(lowercase=True)).signature


def test_case_counts_unless_told_otherwise():
    shouted = [text.upper() for text in TEXTS]
    assert bleu(shouted, TEXTS, BleuSettings()).score < 10.0
    assert bleu(shouted, TEXTS, BleuSettings(lowercase=True)).score == pytest.approx(100.0)
    assert chrf(shouted, TEXTS, BleuSettings(lowercase=True)).score == pytest.approx(100.0)


def test_short_sentences():
    assert bleu(["a b"], ["a b"], BleuSettings("none")).score == 0.0
    found = bleu(["a b"], ["a b"], BleuSettings("none"), short=True)
    assert found.score == pytest.approx(100.0)
    assert "eff:yes" in found.signature


def test_what_fits_the_data():
    text = {"data.kind": "parallel", "data.directory": "x", "data.source": "ko", "data.target": "en"}
    for settings, expected in (
        ({"data.kind": "copy"}, BleuSettings("char")),
        ({"data.kind": "reverse"}, BleuSettings("none")),
        ({**text, "data.lowercase": True}, BleuSettings("13a", lowercase=True)),
        ({**text, "training.bleu_tokenizer": "ko-mecab"}, BleuSettings("ko-mecab")),
    ):
        assert BleuSettings.fitting(load_config(None, settings)) == expected


@pytest.mark.parametrize(("tokenizer", "package"), [("ko-mecab", "mecab_ko"), ("ja-mecab", "MeCab")])
def test_words_of_korean_and_japanese(tokenizer, package):
    """Particles and endings are words of their own: the same stem with another ending has points."""
    pytest.importorskip(package)
    korean, japanese = (
        ("나는 학교에 갑니다.", "나는 학교에 갔습니다."),
        ("私は学校へ行きます。", "私は学校へ行きました。"),
    )
    (translation, reference) = korean if tokenizer == "ko-mecab" else japanese
    found = bleu([translation], [reference], BleuSettings(tokenizer))
    plain = bleu([translation], [reference], BleuSettings("13a"))
    assert f"tok:{tokenizer}" in found.signature
    assert found.score > plain.score + 10.0


@pytest.mark.parametrize(
    ("tokenizer", "raised", "words"),
    [
        ("ko-mecab", RuntimeError("Korean"), "'ko-mecab' needs packages .* pip install 'sacrebleu\\[ko\\]'"),
        ("ja-mecab", RuntimeError("Japanese"), "pip install 'sacrebleu\\[ja\\]'"),
        ("spm", ImportError("sentencepiece"), "'spm' needs packages .* pip install sentencepiece"),
        ("spm", URLError("no network"), "'spm' needs a model that sacrebleu downloads at the first use.* no network"),
    ],
)
def test_what_a_tokenizer_lacks_is_said_before_training(monkeypatch, make_trainer, tokenizer, raised, words):
    def fail(*_, **__):
        raise raised

    monkeypatch.setattr("sacrebleu.metrics.BLEU", fail)
    with pytest.raises(UserError, match=words) as caught:
        make_trainer(training__bleu_tokenizer=tokenizer)
    assert "\n" not in str(caught.value)
