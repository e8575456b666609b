"""Vocabulary and tokenizers: round trips, control symbols, registration."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.data import (
    CONTROL_SYMBOLS,
    END,
    PAD,
    START,
    TOKENIZERS,
    UNKNOWN,
    CharacterTokenizer,
    Vocabulary,
    register_tokenizer,
    split_words,
    tokenizer_from_dict,
    train_tokenizer,
)

TEXTS = st.text(max_size=30) | st.text("ab<s>/. '\t￭가각e\u0301\u1100\u1161\u11a8", max_size=30)


def test_control_symbols_have_the_first_ids():
    assert (PAD, START, END, UNKNOWN) == (0, 1, 2, 3)
    assert Vocabulary("a").symbols == ("<pad>", "<s>", "</s>", "<unk>", "a")


def test_symbols_are_ordered_by_frequency_then_code_point_and_rare_ones_left_out():
    vocabulary = Vocabulary.count(["nabana", "cab", "d"], min_frequency=2)
    assert vocabulary.symbols[4:] == ("a", "b", "n")
    assert vocabulary.ids("bad") == [5, 4, UNKNOWN]
    assert repr(vocabulary) == "Vocabulary(7 symbols)"
    assert "b" in vocabulary and "d" not in vocabulary and "<s>" not in vocabulary


def test_a_symbol_twice_is_an_error():
    with pytest.raises(ValueError, match=r"come more than once: \['b'\]"):
        Vocabulary("abb")


@pytest.mark.parametrize("symbol", CONTROL_SYMBOLS)
def test_a_typed_control_symbol_is_ordinary_text(symbol):
    assert Vocabulary([]).ids([symbol]) == [UNKNOWN]
    assert Vocabulary(["x", symbol]).ids([symbol]) == [5]
    for name in TOKENIZERS:
        tokenizer = train_tokenizer(name, [f"a {symbol} b"])
        ids = tokenizer.encode(f"a {symbol} b")
        assert min(ids) > UNKNOWN
        assert tokenizer.decode(ids) == f"a {symbol} b"


@given(TEXTS)
def test_characters_round_trip(text):
    tokenizer = train_tokenizer("characters", [text])
    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


@given(TEXTS)
def test_words_round_trip_but_for_the_amount_of_white_space(text):
    tokenizer = train_tokenizer("words", [text])
    expected = " ".join(unicodedata.normalize("NFC", text).replace("￭", "■").split())
    assert tokenizer.decode(tokenizer.encode(text)) == expected


@given(st.lists(TEXTS, max_size=5), TEXTS, st.sampled_from(sorted(TOKENIZERS)), st.booleans(), st.integers(1, 3))
def test_ids_are_in_range_and_survive_json(texts, text, name, lowercase, min_frequency):
    tokenizer = train_tokenizer(name, texts, lowercase=lowercase, min_frequency=min_frequency)
    ids = tokenizer.encode(text)
    assert all(UNKNOWN <= number < len(tokenizer) for number in ids)
    assert len(tokenizer.symbols_of(ids)) == len(ids)
    restored = tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert type(restored) is type(tokenizer)
    assert restored.encode(text) == ids and restored.decode(ids) == tokenizer.decode(ids)
    assert restored.to_dict() == tokenizer.to_dict()


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("don't go.", ["don", "￭'￭", "t", "go", "￭."]),
        ("Wait... (so)  3.5", ["Wait", "￭.", "￭.", "￭.", "(￭", "so", "￭)", "3", "￭.￭", "5"]),
        ("가격은 $5입니다!", ["가격은", "$￭", "5입니다", "￭!"]),
        ("नमस्ते", ["नमस्ते"]),
        ("a\u2028b\x0bc", ["a", "b", "c"]),
        ("", []),
    ],
)
def test_words_and_marks(text, symbols):
    assert split_words(text) == symbols


def test_korean_typed_as_jamo_is_the_composed_syllable():
    tokenizer = train_tokenizer("characters", ["각"])
    assert tokenizer.encode(unicodedata.normalize("NFD", "각")) == tokenizer.encode("각") == [4]


def test_lowercase():
    assert repr(train_tokenizer("words", ["a b"])) == "WordTokenizer(Vocabulary(6 symbols), lowercase=False)"
    assert train_tokenizer("words", ["a b"], lowercase=True).decode([4, 5]) == "a b"
    assert train_tokenizer("words", ["a b"], lowercase=True).encode("A B c") == [4, 5, UNKNOWN]
    assert train_tokenizer("words", ["a b"]).encode("A b") == [UNKNOWN, 5]


def test_decode_stops_at_the_end_and_shows_the_unknown():
    tokenizer = train_tokenizer("words", ["a b"])
    assert tokenizer.decode([START, 4, PAD, UNKNOWN, END, 5]) == "a <unk>"
    assert tokenizer.symbols_of([START, 4, END]) == ["<s>", "a", "</s>"]


@pytest.mark.parametrize(
    ("name", "unknown"), [("characters", ["d", "c"]), ("words", ["dc", "cab"]), ("bpe", ["dc", "cab"])]
)
def test_what_of_a_text_is_unknown(name, unknown):
    assert train_tokenizer(name, ["a b", "ab b"]).unknown("dc a cab dc") == unknown


def test_words_decode_any_order_of_symbols():
    tokenizer = train_tokenizer("words", ["a-b c."])
    ids = {symbol: number for number, symbol in enumerate(tokenizer.symbols_of(range(len(tokenizer))))}
    assert tokenizer.decode([ids["￭."], ids["￭-￭"], ids["￭-￭"]]) == ".--"


def test_names():
    with pytest.raises(ValueError, match=r"no tokenizer 'letters'; there are bpe, characters, words"):
        train_tokenizer("letters", [])
    with pytest.raises(ValueError, match=r"'characters' is already defined in .*characters; choose another name"):
        register_tokenizer("characters")(type("Other", (CharacterTokenizer,), {"__module__": "mine"}))


def test_another_tokenizer_is_found_by_its_name(own_registries):
    @register_tokenizer("reversed")
    class Reversed(CharacterTokenizer):
        @staticmethod
        def split(text):
            return list(text[::-1])

    tokenizer = tokenizer_from_dict(train_tokenizer("reversed", ["aab"]).to_dict())
    assert isinstance(tokenizer, Reversed)
    assert tokenizer.encode("ab") == [5, 4]
    assert CharacterTokenizer.name == "characters"
