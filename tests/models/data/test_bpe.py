"""Byte pair encoding: the merges of the paper's example, words kept apart, and text restored."""

import _thread
import itertools
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.data import (
    END,
    START,
    TASKS,
    UNKNOWN,
    BPETokenizer,
    DataError,
    tokenizer_from_dict,
    train_tokenizer,
    train_tokenizers,
)

# Of the paper's section 3.2.
WORDS = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3


def symbols(tokenizer, text):
    return tokenizer.symbols_of(tokenizer.encode(text))


def test_frequent_pairs_are_merged_first():
    characters = set("".join(WORDS)) | {"▁"}
    tokenizer = train_tokenizer("bpe", WORDS, vocabulary_size=4 + len(characters) + 3)
    assert len(tokenizer) == 4 + len(characters) + 3
    assert {first + second for first, second in tokenizer.merges} <= {"es", "est", "▁l", "lo", "low", "▁lo", "▁n", "st"}
    assert symbols(tokenizer, "lowest")[-1] == "est"
    assert tokenizer.decode(tokenizer.encode("lowest")) == "lowest"


def test_without_a_limit_a_frequent_word_is_one_symbol():
    tokenizer = train_tokenizer("bpe", WORDS)
    assert symbols(tokenizer, "newest low") == ["▁newest", "▁low"]


def test_merges_stay_within_words_and_off_punctuation():
    tokenizer = train_tokenizer("bpe", ["of the, of the, of the,"] * 9)
    assert symbols(tokenizer, "of the,") == ["▁of", "▁the", ","]


def test_rare_pairs_are_not_merged():
    assert symbols(train_tokenizer("bpe", ["ab ab"], min_frequency=3), "ab") == ["▁", "a", "b"]


def test_the_size_is_kept_even_below_the_number_of_characters():
    tokenizer = train_tokenizer("bpe", ["aaab"], vocabulary_size=6)
    assert len(tokenizer) == 6
    assert UNKNOWN in tokenizer.encode("a b")


@given(st.lists(st.text(max_size=20), max_size=5), st.integers(0, 40))
def test_the_training_text_is_restored(texts, size):
    tokenizer = train_tokenizer("bpe", texts, vocabulary_size=4 + len(set("".join(texts)) | {"▁", "_"}) + 20 + size)
    for text in texts:
        expected = " ".join(unicodedata.normalize("NFC", text).replace("▁", "_").split())
        ids = tokenizer.encode(text)
        if UNKNOWN not in ids:  # NFC may make characters that the set above does not count
            assert tokenizer.decode(ids) == expected


def test_unknown_characters_one_by_one():
    tokenizer = train_tokenizer("bpe", ["a b"])
    assert tokenizer.decode([START, *tokenizer.encode("a ☃☃"), END]) == "a <unk><unk>"
    assert tokenizer.encode("☃☃").count(UNKNOWN) == 2


@pytest.mark.parametrize("text", ["<unk>", "<s> </s>", " "])
def test_no_text_spells_a_control_symbol(text):
    for tokenizer in (train_tokenizer("bpe", ["x"]), train_tokenizer("bpe", ["x", text] * 9)):
        assert all(number >= UNKNOWN for number in tokenizer.encode(text))


def test_korean_and_case():
    tokenizer = train_tokenizer("bpe", ["각 A"], lowercase=True)
    assert tokenizer.decode(tokenizer.encode(unicodedata.normalize("NFD", "각") + " a")) == "각 a"


def test_training_twice_gives_the_same_and_json_keeps_it():
    texts = [" ".join(WORDS[i:]) for i in range(len(WORDS))]
    first, second = (train_tokenizer("bpe", texts, vocabulary_size=30) for _ in range(2))
    assert first.to_dict() == second.to_dict()
    restored = tokenizer_from_dict(json.loads(json.dumps(first.to_dict())))
    assert isinstance(restored, BPETokenizer)
    assert restored.encode("lower widest") == first.encode("lower widest")


# -- for language models -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bpe", "words", "characters"])
@given(st.text(max_size=60), st.text(max_size=40), st.integers(1, 60))
def test_a_language_models_text_comes_back_exactly(name, text, other, size):
    whole = text + "\n  \n\tdon't ▁ stop — 한국어.\r\n\n" + text
    tokenizer = train_tokenizer(name, [whole], vocabulary_size=4 + 3 * len(whole) + size, whole_text=True)
    stored = tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    for again in (tokenizer, stored):
        ids = again.encode(whole)
        assert again.decode(ids) == unicodedata.normalize("NFC", whole)
        assert UNKNOWN not in ids and again.unknown(whole) == []
        assert "".join(again.pieces(other)) == unicodedata.normalize("NFC", other)
        assert (UNKNOWN in again.encode(other)) == bool(again.unknown(other))


@pytest.mark.parametrize("name", ["bpe", "words"])
def test_lines_and_blanks_are_symbols_of_a_text(name):
    tokenizer = train_tokenizer(name, ["the cat, the cat\n\nthe cat, the cat\n"] * 9, whole_text=True)
    found = tokenizer.symbols_of(tokenizer.encode("the cat,\nthe  cat"))
    if name == "words":
        assert found == ["the", " ", "cat", ",", "\n", "the", " ", " ", "cat"]
    else:
        assert found == ["the", " cat", ",", "\n", "the", " ", " cat"]


def test_a_run_from_before_keeps_its_symbols():
    tokenizer = train_tokenizer("bpe", ["the cat\nsat"] * 9)
    stored = tokenizer.to_dict()
    assert "whole_text" not in stored
    assert tokenizer_from_dict(stored).encode("the cat\nsat") == tokenizer.encode("the cat sat")


def test_text_tasks_have_it_and_a_line_that_no_symbol_has_is_unknown():
    task = TASKS["stories"](tokenizer="bpe", vocabulary_size=90, train_size=50, valid_size=4, test_size=4)
    text = task.load()
    tokenizer, _ = train_tokenizers(text, task)
    assert tokenizer.decode(tokenizer.encode(text.valid)) == text.valid
    assert train_tokenizer("bpe", ["abc"], whole_text=True).unknown("a\nb") == ["\n"]


def test_ctrl_c_ends_training_at_the_next_text():
    def for_ever():
        for number in itertools.count():
            if number == 10:
                _thread.interrupt_main()
            yield "some text"

    with pytest.raises(KeyboardInterrupt):
        BPETokenizer.train(for_ever(), vocabulary_size=20)


def test_what_is_wrong_with_a_text_is_told():
    def spoilt():
        yield "some text"
        raise DataError("line 2 is spoilt")

    with pytest.raises(DataError, match="line 2 is spoilt"):
        BPETokenizer.train(spoilt(), vocabulary_size=20)
