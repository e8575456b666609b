"""Batches: each example once, the same order from the same seed, and within the stated size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.data import (
    END,
    PAD,
    START,
    Batches,
    DataError,
    batches,
    collate,
    encode_pairs,
    train_tokenizer,
)

ids = st.lists(st.integers(4, 9), max_size=12)
examples_strategy = st.lists(st.tuples(ids, ids), min_size=1, max_size=40)
options = st.fixed_dictionaries(
    {
        "batch_type": st.sampled_from(["sentences", "tokens"]),
        "batch_size": st.integers(13, 60),
        "seed": st.integers(0, 100),
    }
)


def same(first, second):
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in vars(first))


@given(examples_strategy, options, st.integers(0, 5), st.sampled_from([3, 8192]))
def test_an_epoch_has_every_example_once_and_batches_within_size(examples, options, epoch, pool):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "_POOL", pool)
        batched = Batches(examples, **options)
        for one_pass in (list(batched.epoch(epoch)), list(batched.in_order())):
            assert sorted(i for batch in one_pass for i in batch.indices) == list(range(len(examples)))
            for batch in one_pass:
                if options["batch_type"] == "sentences":
                    assert 1 <= len(batch) <= options["batch_size"]
                else:
                    assert max(batch.source.size, batch.target_in.size) <= options["batch_size"]
                assert same(batch, collate(examples, batch.indices))


@given(examples_strategy, options, st.integers(0, 5), st.integers(0, 50))
def test_a_resumed_epoch_continues_where_it_stopped(examples, options, epoch, start):
    whole = list(Batches(examples, **options).epoch(epoch))
    resumed = Batches(examples, **options)
    assert resumed.count(epoch) == len(whole)
    rest = list(resumed.epoch(epoch, start=start))
    assert len(rest) == len(whole[start:])
    assert all(map(same, rest, whole[start:]))


@given(examples_strategy)
def test_a_batch_is_padded_and_shifted(examples):
    batch = collate(examples, range(len(examples)))
    assert batch.source.dtype == batch.target_in.dtype == batch.target_out.dtype == batch.indices.dtype == np.int64
    assert batch.source_mask.dtype == batch.target_mask.dtype == np.bool_
    assert batch.source.shape == batch.source_mask.shape == (len(examples), max(len(s) for s, _ in examples))
    widest = max(len(t) for _, t in examples) + 1
    assert batch.target_in.shape == batch.target_out.shape == batch.target_mask.shape == (len(examples), widest)
    for row, (source, target) in enumerate(examples):
        assert batch.source[row, batch.source_mask[row]].tolist() == source
        assert batch.target_in[row, batch.target_mask[row]].tolist() == [START, *target]
        assert batch.target_out[row, batch.target_mask[row]].tolist() == [*target, END]
        # Tokens first, padding after: the mask is a run of True.
        assert batch.source_mask[row].tolist() == sorted(batch.source_mask[row], reverse=True)
        assert batch.target_mask[row].tolist() == sorted(batch.target_mask[row], reverse=True)
    for name in ("source", "target_in", "target_out"):
        mask = batch.source_mask if name == "source" else batch.target_mask
        assert (getattr(batch, name)[~mask] == PAD).all()
    assert batch.target_tokens == sum(len(t) + 1 for _, t in examples)


def many():
    """Examples whose target is up to three ids longer or shorter than the source."""
    generator = np.random.default_rng(0)
    lengths = zip(generator.integers(4, 40, 2048), generator.integers(-3, 4, 2048), strict=True)
    return [([4] * int(length), [5] * int(length + more)) for length, more in lengths]


def test_seed_and_epoch_change_the_order_and_nothing_else_does():
    def order(seed, epoch):
        return [tuple(batch.indices) for batch in Batches(many(), batch_size=32, seed=seed).epoch(epoch)]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_epochs_do_not_depend_on_those_before():
    batched = Batches(many(), batch_size=32)
    first = [batch.indices.tolist() for batch in batched.epoch(3)]
    list(batched.epoch(0))
    assert [batch.indices.tolist() for batch in batched.epoch(3)] == first


@pytest.mark.parametrize(("batch_type", "batch_size"), [("sentences", 32), ("tokens", 1280)])
def test_examples_of_a_batch_have_similar_lengths(batch_type, batch_size):
    def padding(groups):
        size = sum(batch.source.size + batch.target_in.size for batch in groups)
        return 1 - sum(int(batch.source_mask.sum()) + batch.target_tokens for batch in groups) / size

    examples = many()
    grouped = padding(list(Batches(examples, batch_size=batch_size, batch_type=batch_type).epoch(0)))
    ungrouped = padding([collate(examples, range(first, first + 32)) for first in range(0, len(examples), 32)])
    assert grouped < 0.2 * ungrouped


def test_the_batches_of_an_epoch_are_not_sorted_but_those_in_order_are():
    batched = Batches(many(), batch_size=32)

    def widths(groups):
        return [max(batch.source.shape[1] + 1, batch.target_in.shape[1]) for batch in groups]

    assert widths(batched.in_order()) == sorted(widths(batched.in_order()))
    assert widths(batched.epoch(0)) != sorted(widths(batched.epoch(0)))


def test_long_examples_are_dropped_and_counted():
    examples = [([4] * 3, [4]), ([4], [4] * 4), ([4] * 3, [4] * 3), ([4] * 9, [4])]
    batched = Batches(examples, batch_size=10, max_length=3)
    assert batched.dropped == 2
    assert sorted(next(batched.epoch(0)).indices) == [0, 2]
    assert Batches(examples, batch_size=10).dropped == 0


def test_what_cannot_be_batched():
    with pytest.raises(DataError, match=r"all 1 are longer than max_length=2"):
        Batches([([4] * 3, [4])], batch_size=4, max_length=2)
    with pytest.raises(DataError, match=r"no examples: none was given"):
        Batches([], batch_size=4, max_length=2)
    with pytest.raises(
        DataError,
        match=r"6 tokens does not fit into batch_size=5 tokens; .* to at least 6, or set max_length to at most 4",
    ):
        Batches([([4], [4] * 5)], batch_size=5, batch_type="tokens")
    with pytest.raises(ValueError, match=r"batch_type must be 'sentences' or 'tokens', got 'words'"):
        Batches([([4], [4])], batch_size=5, batch_type="words")
    with pytest.raises(ValueError, match=r"batch_size must be at least 1, got 0"):
        Batches([([4], [4])], batch_size=0)


def test_encode_pairs():
    source, target = train_tokenizer("characters", ["aab"]), train_tokenizer("words", ["x x y"])
    assert encode_pairs([("ab", "y x"), ("b", "")], source, target) == [([4, 5], [5, 4]), ([5], [])]
