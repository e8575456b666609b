"""BLEU and chrF: sacrebleu's figures with their signatures."""

import pytest
from tinygrad_attn_models.data import Copy, Parallel, Reverse
from tinygrad_attn_models.evaluation.bleu import BLEU_TOKENIZERS, BleuSettings, bleu, chrf

TEXTS = ["the cat sat on the mat .", "a dog , and a cat"]


def test_the_same_text_has_all_points():
    for tokenizer in BLEU_TOKENIZERS:
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
    assert BleuSettings.fitting(Copy()).tokenizer == "char"
    assert BleuSettings.fitting(Reverse()).tokenizer == "none"
    text = Parallel(directory="x", source="ko", target="en", lowercase=True)
    assert BleuSettings.fitting(text) == BleuSettings("13a", lowercase=True)
