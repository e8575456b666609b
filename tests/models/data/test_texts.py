"""Texts for language models: stories, files, windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.data import DataError, Stories, Text, Windows, generate_stories, train_tokenizers
from tinygrad_attn_models.data.stories import FORMS
from tinygrad_attn_models.setting import ConfigError

# -- stories -----------------------------------------------------------------------------------------------------------


def test_every_story_is_right_and_no_other():
    task = Stories()
    lines = generate_stories(valid=500).valid.splitlines()
    assert len(lines) == 500 and all(map(task.is_right, lines))
    for line in lines[:100]:
        words = line.rstrip(".").split()
        assert not task.is_right(" ".join([*words[:-1], "purple."]))
        assert not task.is_right(line[:-1]) and not task.is_right(f"{line} ")


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("Mina has nine red apples. She gives four to Tom. Now she has five.", True),
        ("Mina has nine red apples. He gives four to Tom. Now he has five.", False),
        ("Mina has nine red apples. She gives four to Tom. Now she has six.", False),
        ("Mina has nine red apples. She gives four to Mina. Now she has five.", False),
        ("Tom finds one coin, and then one more. He has two coins.", True),
        ("Tom finds one coins, and then one more. He has two coins.", False),
        ("Tom finds zero coins, and then one more. He has one coin.", False),
        ("Yesterday was Sunday, so today is Monday and tomorrow is Tuesday.", True),
        ("Yesterday was Someday, so today is Monday and tomorrow is Tuesday.", False),
        ("Tom is older than Ben, and Ben is older than Tom. So Tom is older than Tom.", False),
        ("", False),
    ],
)
def test_a_story_is_judged(line, right):
    assert Stories().is_right(line) is right


def test_all_forms_are_drawn_and_seeds_differ():
    text = generate_stories(3, train=300)
    found = [next(i for i, form in enumerate(FORMS) if form.begins.match(line)) for line in text.train.splitlines()]
    assert set(found) == set(range(len(FORMS)))
    assert text.train != generate_stories(4, train=300).train
    assert generate_stories(3, train=300, valid=9).train == text.train


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_is_cut_in_time(tmp_path):
    path = tmp_path / "poem.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"0123456789\r\n" * 10)
    text = Text(file=str(path)).load()
    assert (text.name, text.test) == ("poem", "")
    assert text.train + text.valid == "0123456789\n" * 10 and len(text.train) == 99
    text = Text(file=str(path), test_share=0.2).load()
    assert (len(text.train), len(text.valid), len(text.test)) == (77, 11, 22)
    assert text.train + text.valid + text.test == "0123456789\n" * 10
    assert text.summary() == "poem: train 77, valid 11, test 22 characters"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "has 0 characters, too few"),
        (b"a", "has 1 characters, too few"),
        (b"one\n\xff\n", "line 2, is not UTF-8 .byte 5 is 0xff."),
    ],
)
def test_a_file_that_cannot_be(tmp_path, content, message):
    path = tmp_path / "poem.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        Text(file=str(path)).load()


def test_settings_that_cannot_be(tmp_path):
    with pytest.raises(DataError, match="is a folder, not a text file"):
        Text(file=str(tmp_path)).load()
    with pytest.raises(ConfigError, match=r"needs data\.file too; give the file with --data"):
        Text()
    with pytest.raises(ConfigError, match="leave nothing to train on"):
        Text(file="x", valid_share=0.5, test_share=0.5)


def test_the_tokenizer_is_of_the_training_text_alone(tmp_path):
    path = tmp_path / "poem.txt"
    path.write_text("ab\n" * 30 + "cd\n" * 3, encoding="utf-8")
    task = Text(file=str(path))
    source, target = train_tokenizers(task.load(), task)
    assert source is target and sorted(target.vocabulary.symbols[4:]) == ["\n", "a", "b"]


# -- windows -----------------------------------------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(1, 8), st.integers(1, 5))
def test_each_symbol_but_the_first_is_measured_once(size, length, batch_size):
    if size <= length:
        return
    windows = Windows(np.arange(size), length=length, batch_size=batch_size)
    batches = list(windows.in_order())
    said = np.concatenate([batch.target_out.ravel() for batch in batches])
    np.testing.assert_array_equal(said, np.arange(1, size))
    for batch in batches:
        np.testing.assert_array_equal(batch.target_in + 1, batch.target_out)
        assert batch.target_tokens == batch.target_in.size and batch.given == ()


def test_an_epoch_is_drawn_by_seed_and_number():
    windows = Windows(np.arange(100), length=7, batch_size=4, count=10, seed=3)
    assert (windows.count(0), windows.count_all(5), windows.largest()) == (3, 15, (0, 28))
    first = [batch.target_in for batch in windows.epoch(0)]
    assert [batch.shape for batch in first] == [(4, 7)] * 3
    np.testing.assert_array_equal(first[1:], [batch.target_in for batch in windows.epoch(0, start=1)])
    assert not np.array_equal(first, [batch.target_in for batch in windows.epoch(1)])
    other = Windows(np.arange(100), length=7, batch_size=4, count=10, seed=4)
    assert not np.array_equal(first, [batch.target_in for batch in other.epoch(0)])
    assert Windows(np.arange(100), length=7, batch_size=4).count(0) == 4


def test_the_last_window_can_be_drawn():
    windows = Windows(np.arange(9), length=7, batch_size=64, count=64)
    (batch,) = windows.epoch(0)
    assert set(batch.target_in[:, 0].tolist()) == {0, 1}


def test_too_little_text():
    with pytest.raises(DataError, match=r"the poem has 7 symbols, .* set model\.context to at most 6"):
        Windows(np.arange(7), length=7, batch_size=1, name="the poem")
    with pytest.raises(DataError, match=r"the poem has 1 symbol, .* give more text$"):  # of which no window can be
        Windows(np.arange(1), length=7, batch_size=1, name="the poem")
