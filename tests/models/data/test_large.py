"""Text that is not held: lines of files, ids on disk, and the cache that they are kept in."""

import os
import threading
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tinygrad_attn_models.data import (
    UNKNOWN,
    Batches,
    DataError,
    Parallel,
    Text,
    Windows,
    cache,
    encode,
    encode_pairs,
    encode_text,
    file_text,
    generate_dates,
    prepare,
    text,
    train_tokenizer,
    train_tokenizers,
)
from tinygrad_attn_models.data.corpus import Fingerprint
from tinygrad_attn_models.data.file_text import FileText, pieces
from tinygrad_attn_models.data.ids import Examples
from tinygrad_attn_models.data.packed_pairs import PackedPairs

SIZES = {"train": 400, "valid": 30, "test": 20}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of the test's own, which takes what is small, too."""
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_said", set())
    for module in (encode, prepare):
        monkeypatch.setattr(module, "MANY_PAIRS", 100)
    for module in (encode, prepare, text):
        monkeypatch.setattr(module, "MANY_CHARACTERS", 1000)
    return tmp_path / "cache"


@pytest.fixture
def corpus(tmp_path):
    """Six files; every tenth line has an empty side."""
    generator = np.random.default_rng(0)
    for split, size in SIZES.items():
        for language in ("a", "b"):
            lines = [" ".join(map(str, generator.integers(60, size=1 + i % 9))) * (i % 10 > 0) for i in range(size)]
            (tmp_path / f"{split}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def task_of(corpus, tokenizer="words", **options):
    size = {"vocabulary_size": 50} if tokenizer == "bpe" else {}
    return Parallel(directory=str(corpus), source="a", target="b", tokenizer=tokenizer, **size, **options)


def in_memory(task):
    """The pairs as lists, by a reader of the test's own."""
    found = {}
    for split in SIZES:
        sides = []
        for language in (task.source, task.target):
            with open(f"{task.directory}/{split}.{language}", encoding="utf-8") as file:
                sides.append([line.strip() for line in file])
        found[split] = [pair for pair in zip(*sides, strict=True) if all(pair)]
    return found


# -- pairs -------------------------------------------------------------------------------------------------------------


def test_pairs_of_files_are_those_of_lists(corpus):
    task = task_of(corpus)
    found, expected = task.load(), in_memory(task)
    for split, pairs in expected.items():
        lazy = getattr(found, split)
        assert lazy == pairs and list(lazy) == pairs and len(lazy) == len(pairs)
        assert [lazy[i] for i in range(len(pairs))] == pairs
        assert lazy[::7] == pairs[::7] and lazy[::-3] == pairs[::-3] and lazy[-1] == pairs[-1]
        assert Fingerprint.of(lazy) == Fingerprint.of(pairs) == Fingerprint.counted(lazy)
        with pytest.raises(IndexError, match="there is no item"):
            lazy[len(pairs)]
    assert found.skipped == {split: size // 10 for split, size in SIZES.items()}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(size=st.integers(1, 400), rows=st.lists(st.integers(0, 359), max_size=20))
def test_a_part_is_spread_over_the_files(corpus, size, rows):
    pairs = in_memory(task_of(corpus))["train"]
    part = task_of(corpus, train_size=size).load()
    expected = pairs if size >= len(pairs) else [pairs[i * len(pairs) // size] for i in range(size)]
    assert part.train == expected
    assert Fingerprint.of(part.train) == Fingerprint.of(expected)
    whole = task_of(corpus).load().train
    assert [whole[i] for i in rows] == [pairs[i] for i in rows]


def test_one_split_is_read_alone(corpus):
    for name in ("train.a", "train.b", "valid.a"):
        (corpus / name).unlink()
    task = task_of(corpus, test_size=5)
    with pytest.raises(DataError, match=r"train\.a does not exist"):
        task.load()
    only = task.load_only("test")
    assert len(only.test) == 5 and not only.train and only.where("test", "source", 1).endswith("test.a, line 5,")


def test_a_file_that_changes_while_it_is_in_use_is_told(corpus):
    found = task_of(corpus).load()
    (corpus / "train.b").write_text("x\n" * 400, encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.b was changed while it was in use; begin again"):
        list(found.train)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_refused(corpus):
    (corpus / "train.a").unlink()
    os.mkfifo(corpus / "train.a")
    with pytest.raises(DataError, match=r"train\.a is no file but a pipe or a device, .* copy it to a file"):
        task_of(corpus).load()


strings = st.text(st.characters(codec="utf-8"), max_size=6)


@given(st.lists(st.tuples(strings, strings), max_size=9))
def test_packed_pairs_are_the_pairs(pairs):
    packed = PackedPairs.of(pairs)
    assert packed == pairs and list(packed) == pairs and packed[::2] == pairs[::2]
    assert Fingerprint.of(packed) == Fingerprint.of(pairs)


def test_generated_pairs_are_packed():
    train = generate_dates(train=300, valid=5, test=5).train
    assert isinstance(train, PackedPairs) and isinstance(train[0], tuple)


# -- ids ---------------------------------------------------------------------------------------------------------------

ids = st.lists(st.integers(0, 300), max_size=9)


@given(st.lists(st.tuples(ids, ids), max_size=30))
def test_examples_are_the_lists_that_they_are_made_of(examples):
    packed = Examples.of(examples)
    assert packed == examples and Examples.of(packed) is packed
    assert packed.sources == [source for source, _ in examples]
    assert packed.targets == [target for _, target in examples]
    for side, sentences in enumerate((packed.sources, packed.targets)):
        for symbol in (0, UNKNOWN, 7):
            assert sentences.occurrences(symbol) == sum(pair[side].count(symbol) for pair in examples)


@pytest.mark.parametrize("tokenizer", ["words", "characters", "bpe"])
def test_ids_on_disk_are_those_in_memory(corpus, folder, monkeypatch, tokenizer):
    task = task_of(corpus, tokenizer)
    found, lists = task.load(), in_memory(task)
    tokenizers = train_tokenizers(found, task)
    examples = encode_pairs(found.train, *tokenizers)
    assert sorted(path.name.partition("-")[0] for path in folder.glob("*.safetensors")) == ["ids", "tokenizers"]
    assert examples == [tuple(map(lambda one, text: one.encode(text), tokenizers, pair)) for pair in lists["train"]]
    again = train_tokenizers(found, task)  # from the cache
    assert [one.to_dict() for one in again] == [one.to_dict() for one in tokenizers]

    def never(*_):
        raise AssertionError("cut once more")

    monkeypatch.setattr(encode, "write_ids", never)
    kept = encode_pairs(found.train, *again)
    assert kept == examples and not kept.ids.flags.writeable
    for options in ({"batch_size": 16}, {"batch_size": 200, "batch_type": "tokens", "max_length": 30}):
        one, other = (Batches(pairs, seed=3, **options) for pairs in (kept, list(examples)))
        for batch, expected in zip(one.epoch(1), other.epoch(1), strict=True):
            for name in vars(batch):
                np.testing.assert_array_equal(getattr(batch, name), getattr(expected, name))


def test_the_files_are_ordinary_safetensors(corpus, folder):
    from safetensors.numpy import load_file

    task = task_of(corpus)
    found = task.load()
    examples = encode_pairs(found.train, *train_tokenizers(found, task))
    (path,) = folder.glob("ids-*.safetensors")
    arrays = load_file(path)
    np.testing.assert_array_equal(arrays["ids"], examples.ids)
    np.testing.assert_array_equal(arrays["lengths"].reshape(-1, 2), examples.lengths)


def test_other_text_or_another_tokenizer_has_other_ids(corpus, folder):
    for tokenizer in ("words", "characters"):
        task = task_of(corpus, tokenizer)
        encode_pairs(task.load().train, *train_tokenizers(task.load(), task))
    assert len(list(folder.glob("ids-*.safetensors"))) == 2
    with (corpus / "train.a").open("a") as first, (corpus / "train.b").open("a") as second:
        first.write("new\n")
        second.write("new\n")
    found = task.load()
    assert encode_pairs(found.train, *train_tokenizers(found, task))[-1] == (
        found and tuple(one.encode("new") for one in train_tokenizers(found, task))
    )
    assert len(list(folder.glob("ids-*.safetensors"))) == 3


class Strange:
    """A tokenizer of another hand, which gives ids beyond its size."""

    name = "strange"

    def __len__(self):
        return 5

    def encode(self, text):
        return [4, 70_000]

    def to_dict(self):
        return {"name": self.name}


def test_ids_beyond_the_vocabulary_are_told():
    with pytest.raises(DataError, match="the tokenizer 'strange' gave the id 70000, and its ids are 0 to 4"):
        encode_pairs([("a", "b")], Strange(), Strange())


# -- the cache ---------------------------------------------------------------------------------------------------------


def cut(corpus):
    """The training pairs as ids, and those that they must be."""
    task = task_of(corpus)
    found = task.load()
    tokenizers = train_tokenizer("words", ["1 2 3"]), train_tokenizer("words", ["4 5 6"])
    expected = [tuple(map(lambda one, text: one.encode(text), tokenizers, pair)) for pair in found.train]
    return encode_pairs(found.train, *tokenizers), expected


def test_every_damage_is_found_and_mended(corpus, folder):
    examples, expected = cut(corpus)
    assert examples == expected
    (path,) = folder.glob("ids-*.safetensors")
    whole = path.read_bytes()
    generator = np.random.default_rng(1)
    places, bits = generator.integers(8, len(whole), 40).tolist(), generator.integers(0, 8, 40).tolist()
    spoilt = [
        whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]
        for place, bit in zip(places, bits, strict=True)
    ]
    for content in (*spoilt, b"", whole[:500], whole[:-1], whole + b"x", b"[]" * 600):
        path.write_bytes(content)
        cache._said.clear()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert cut(corpus)[0] == expected
        if path.read_bytes() != content:  # a blank in the header may be another
            assert len(told) == 1 and "is damaged" in str(told[0].message)
        assert cut(corpus)[0] == expected


def test_where_nothing_can_be_written_training_goes_on_and_it_is_told_once(corpus, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="cannot be kept, so each run makes it anew .*file") as told:
        for _ in range(2):
            examples, expected = cut(corpus)
            assert examples == expected
            task = task_of(corpus)
            train_tokenizers(task.load(), task)
    assert len(told) == 1


def test_a_full_disk_leaves_nothing_and_stops_nothing(corpus, folder, monkeypatch):
    def full(writer, sentences):
        if writer.size > 500 and not isinstance(writer.file, encode.io.BytesIO):
            raise OSError(28, "No space left on device")
        return add(writer, sentences)

    add = encode.IdWriter.add
    monkeypatch.setattr(encode, "CHUNK", 32)
    monkeypatch.setattr(encode.IdWriter, "add", full)
    with pytest.warns(UserWarning, match="cannot be kept, .* disk full"):
        examples, expected = cut(corpus)
    assert examples == expected
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_a_stop_leaves_no_part_of_a_file(corpus, folder, monkeypatch, stop):
    def stopped(writer, sentences):
        if writer.size > 500:
            raise stop
        return add(writer, sentences)

    add = encode.IdWriter.add
    with monkeypatch.context() as patch:
        patch.setattr(encode, "CHUNK", 32)
        patch.setattr(encode.IdWriter, "add", stopped)
        with pytest.raises(stop):
            cut(corpus)
    assert [path.suffix for path in folder.iterdir()] == [".lock"]
    examples, expected = cut(corpus)
    assert examples == expected


def test_what_a_killed_process_left_goes(corpus, folder):
    cut(corpus)
    (path,) = folder.glob("ids-*.safetensors")
    left = folder / f".{path.name[:50]}.0123abcd.partial"
    left.write_bytes(b"half")
    other = folder / ".ids-of-another.0123abcd.partial"
    other.write_bytes(b"half")
    path.unlink()
    cut(corpus)
    assert path.exists() and other.exists() and not left.exists()


def test_several_at_once_make_one_file(corpus, folder, monkeypatch):
    calls, write_ids = [], encode.write_ids

    def counted(*arguments):
        calls.append(1)
        write_ids(*arguments)

    monkeypatch.setattr(encode, "write_ids", counted)
    found = []
    threads = [threading.Thread(target=lambda: found.append(cut(corpus))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(examples == expected for examples, expected in found)
    assert len(calls) == 1 and len(list(folder.glob("ids-*.safetensors"))) == 1


def test_a_tokenizer_that_cuts_otherwise_than_the_file_says_is_noticed(corpus, folder, monkeypatch):
    cut(corpus)
    words = type(train_tokenizer("words", ["1"]))
    monkeypatch.setattr(words, "split", staticmethod(lambda text: list(text.replace(" ", ""))))
    with pytest.warns(UserWarning, match="a tokenizer cuts its text otherwise now"):
        examples, expected = cut(corpus)
    assert examples == expected


def test_the_folder_of_the_cache(monkeypatch):
    monkeypatch.setenv(cache.FOLDER, "~/elsewhere")
    assert cache.cache_folder() == file_text.Path("~/elsewhere").expanduser()
    monkeypatch.delenv(cache.FOLDER)
    assert cache.cache_folder().name == "tinygrad_attn" and cache.cache_folder().is_absolute()


# -- texts -------------------------------------------------------------------------------------------------------------

STORY = (
    "Once upon a time, in a land far away…\r\n\r\nthere was ΟΔΟΣ, 한국어 and \u1112\u1161\u11ab e\u0301t\u00e9.\n" * 60
)


@pytest.fixture
def story(tmp_path):
    path = tmp_path / "story.txt"
    path.write_bytes(b"\xef\xbb\xbf" + STORY.encode())
    return path


@pytest.mark.parametrize("block", [1, 2, 3, 5, 64, 1 << 20])
def test_a_text_file_read_block_by_block_is_the_text(story, monkeypatch, block):
    monkeypatch.setattr(file_text, "_BLOCK", block)
    expected = STORY.replace("\r\n", "\n")
    whole = FileText.whole(story)
    assert len(whole) == len(expected) and "".join(whole) == expected
    assert whole.fingerprint == Fingerprint.of_text(expected)
    for first, last in ((0, 10), (7, 7), (39, 43), (100, len(expected)), (len(expected), len(expected))):
        assert "".join(whole.part(first, last)) == expected[first:last]


@pytest.mark.parametrize("block", [1, 4, 64])
def test_what_is_not_utf_8_is_found_in_any_block(tmp_path, monkeypatch, block):
    monkeypatch.setattr(file_text, "_BLOCK", block)
    path = tmp_path / "text"
    for content, place in ((b"one\ntwo\n\xff\n", "line 3, is not UTF-8 .byte 9 is 0xff"),
                           ("\ufeff가\n나".encode()[:-1], "line 2, is not UTF-8 .byte 8 is 0xeb")):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(DataError, match=place):
            FileText.whole(path)


@pytest.mark.parametrize("tokenizer", ["characters", "words", "bpe"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_pieces_have_the_symbols_of_the_whole(monkeypatch, tokenizer, lowercase):
    text = STORY.replace("\r\n", "\n") + "  two  blanks \n\n\n a_b  . , end"
    size = {"vocabulary_size": 90} if tokenizer == "bpe" else {}
    options = {"lowercase": lowercase, "whole_text": True, **size}
    whole = train_tokenizer(tokenizer, [text], **options)
    expected = whole.encode(text)
    for block, piece in ((7, 10), (64, 100), (500, 1000)):
        monkeypatch.setattr(file_text, "_BLOCK", block)
        monkeypatch.setattr(file_text, "_PIECE", piece)
        cut = list(pieces(text))
        assert "".join(cut) == text and len(cut) > 3
        assert [number for one in cut for number in whole.encode(one)] == expected
        assert train_tokenizer(tokenizer, cut, **options).to_dict() == whole.to_dict()


@pytest.mark.parametrize("tokenizer", ["characters", "words", "bpe"])
def test_a_long_text_file_is_not_held_and_gives_the_same_windows(story, folder, monkeypatch, tokenizer):
    monkeypatch.setattr(file_text, "_PIECE", 300)
    monkeypatch.setattr(file_text, "_BLOCK", 100)
    task = Text(file=str(story), test_share=0.1, tokenizer=tokenizer, vocabulary_size=90)
    found = task.load()
    assert isinstance(found.train, FileText)
    monkeypatch.setattr(text, "MANY_CHARACTERS", 1 << 30)
    held = task.load()
    assert isinstance(held.train, str) and held.summary() == found.summary()
    assert held.fingerprints() == found.fingerprints()
    made, _ = train_tokenizers(found, task)
    cut = encode_text(found.train, made, "the text")
    assert len(list(folder.glob("*.safetensors"))) == 2 and cut.dtype == np.uint16
    assert made.to_dict() == train_tokenizers(held, task)[0].to_dict()
    np.testing.assert_array_equal(cut, made.encode(held.train))
    assert not encode_text(found.train, made, "the text").flags.writeable
    one, other = (Windows(numbers, length=8, batch_size=4, seed=2) for numbers in (cut, made.encode(held.train)))
    for batch, expected in zip(one.epoch(1), other.epoch(1), strict=True):
        assert batch.target_in.dtype == np.int64
        np.testing.assert_array_equal(batch.target_in, expected.target_in)
        np.testing.assert_array_equal(batch.target_out, expected.target_out)
