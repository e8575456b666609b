"""Generated tasks: the answer is right, the splits are disjoint, and a seed gives the pairs."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.data import TASKS
from tinygrad_attn_models.data.corpus import SPLITS
from tinygrad_attn_models.setting import ConfigError

LENGTHS = {"shortest": 6, "longest": 15, "longest_test": 15}


def generate_task(name, seed, *, train, valid, test, **lengths):
    return TASKS[name](seed=seed, train_size=train, valid_size=valid, test_size=test, **lengths).load()


@given(st.integers(0, 99), st.integers(1, 4), st.integers(4, 9), st.integers(4, 9))
def test_the_answer_and_the_lengths(seed, shortest, longest, longest_test):
    settings = {"train": 30, "valid": 5, "test": 5, "shortest": shortest, "longest": longest}
    copy = generate_task("copy", seed, **settings, longest_test=longest_test)
    reverse = generate_task("reverse", seed, **settings, longest_test=longest_test)
    for split in SPLITS:
        most = longest_test if split == "test" else longest
        for source, target in getattr(copy, split):
            assert target == source
            assert source.isascii() and source.islower()
            assert shortest <= len(source) <= most
        for source, target in getattr(reverse, split):
            numbers = [int(number) for number in source.split(" ")]
            assert [int(number) for number in target.split(" ")] == numbers[::-1]
            assert all(0 <= number < 50 for number in numbers)
            assert shortest <= len(numbers) <= most


def test_sizes_and_splits():
    text = generate_task("reverse", 3, train=5000, valid=700, test=600, shortest=1, longest=6, longest_test=8)
    sources = {split: {source for source, _ in getattr(text, split)} for split in SPLITS}
    assert [len(getattr(text, split)) for split in SPLITS] == [5000, 700, 600]
    assert not sources["train"] & sources["valid"]
    assert not sources["train"] & sources["test"]
    assert not sources["valid"] & sources["test"]
    assert text.summary() == "reverse, sequence to reverse: train 5,000, valid 700, test 600"


def test_each_length_and_each_symbol_has_the_same_chance():
    text = generate_task("copy", 0, train=10_000, valid=1, test=1, **LENGTHS)
    lengths = Counter(len(source) for source, _ in text.train)
    assert sorted(lengths) == list(range(6, 16))
    assert max(lengths.values()) < 1.2 * min(lengths.values())
    letters = Counter("".join(source for source, _ in text.train))
    assert len(letters) == 26
    assert max(letters.values()) < 1.15 * min(letters.values())


def test_a_seed_gives_the_pairs_and_a_smaller_split_begins_a_larger_one():
    text = generate_task("copy", 1, train=50, valid=9, test=9, **LENGTHS)
    assert generate_task("copy", 1, train=50, valid=9, test=9, **LENGTHS) == text
    other = generate_task("copy", 1, train=80, valid=9, test=4, **LENGTHS)
    assert other.train[:50] == text.train
    assert other.test == text.test[:4]
    assert generate_task("copy", 2, train=50, valid=9, test=9, **LENGTHS).train != text.train


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("copy", {"test_size": 0}, "data.test_size: expected at least 1, got 0"),
        ("copy", {"shortest": 0}, "data.shortest: expected at least 1, got 0"),
        ("reverse", {"shortest": 1, "longest": 1}, "data.longest: expected at least 2, got 1"),
        ("copy", {"longest_test": 5}, "data.shortest is 6, more than data.longest 15 or data.longest_test 5"),
    ],
)
def test_what_cannot_be_drawn(name, changes, message):
    with pytest.raises(ConfigError, match=message):
        TASKS[name](**{**LENGTHS, **changes})
