"""Parallel text from a folder, and what is wrong with it when it cannot be used."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tinygrad_attn_models.data import DataError, Parallel, ParallelText, read_parallel_text

GOOD = {
    f"{split}.{language}": f"{split} {language}\n".encode()
    for split in ("train", "valid", "test")
    for language in ("ko", "en")
}


def write(folder, **files):
    """A readable folder but for ``files``, named as in ``train_ko``; None leaves the file out."""
    for name, content in {**GOOD, **{key.replace("_", "."): value for key, value in files.items()}}.items():
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


def test_reads_all_splits(tmp_path):
    folder = write(tmp_path, train_ko="가.\n나.\n".encode(), train_en=b"a.\nb.")
    text = read_parallel_text(folder, "ko", "en")
    assert text == ParallelText(
        name=tmp_path.name,
        source_language="ko",
        target_language="en",
        train=[("가.", "a."), ("나.", "b.")],
        valid=[("valid ko", "valid en")],
        test=[("test ko", "test en")],
        skipped={"train": 0, "valid": 0, "test": 0},
        lines={"train": [1, 2], "valid": [1], "test": [1]},
        directory=str(folder),
    )
    assert text.summary() == f"{tmp_path.name}, ko to en: train 2, valid 1, test 1"


def test_the_other_direction_and_a_relative_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path))
    text = read_parallel_text(".", "en", "ko")
    assert text.valid == [("valid en", "valid ko")]
    assert text.name == tmp_path.name


def test_byte_order_mark_and_carriage_returns(tmp_path):
    folder = write(tmp_path, train_ko=b"\xef\xbb\xbfa\r\nb\r\n", train_en=b"c\nd\n")
    assert read_parallel_text(folder, "ko", "en").train == [("a", "c"), ("b", "d")]


sentences = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\n"), min_size=1).filter(
    lambda text: text.strip() == text
) | st.sampled_from(["a\u2028b", "a\x0bb", "a\x85b", "a\x1cb", "a\rb", "a\x0cb"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=6), st.booleans(), st.booleans())
def test_only_newlines_split(tmp_path, pairs, windows, last_newline):
    newline = "\r\n" if windows else "\n"
    korean, english = ((newline.join(side) + newline * last_newline).encode() for side in zip(*pairs, strict=True))
    write(tmp_path, train_ko=korean, train_en=english)
    assert read_parallel_text(tmp_path, "ko", "en").train == pairs


def test_pairs_with_an_empty_side_are_skipped_and_counted(tmp_path):
    folder = write(tmp_path, train_ko=b"a\n\n  \nd\n\n", train_en=b"1\n2\n3\n\t\n\n")
    text = read_parallel_text(folder, "ko", "en")
    assert text.train == [("a", "1")]
    assert text.skipped == {"train": 4, "valid": 0, "test": 0}
    assert "train 1 (4 skipped: a side is empty), valid 1" in text.summary()
    write(tmp_path, train_ko=b"\nb\n\nd\n", train_en=b"1\n2\n3\n4\n")
    text = read_parallel_text(folder, "ko", "en")
    assert text.where("train", "source", 1) == f"{tmp_path / 'train.ko'}, line 4,"
    assert text.where("train", "target", 0) == f"{tmp_path / 'train.en'}, line 2,"


def refused(folder, *parts, source="ko", target="en"):
    with pytest.raises(DataError) as caught:
        read_parallel_text(folder, source, target)
    for part in parts:
        assert part in str(caught.value)


def test_unequal_lengths(tmp_path):
    folder = write(tmp_path, valid_ko=b"a\nb\nc\n", valid_en=b"1\n")
    refused(folder, f"{folder / 'valid.ko'} has 3 lines and {folder / 'valid.en'} has 1 line;")


@pytest.mark.parametrize(
    ("content", "line", "byte", "value"),
    [
        (b"ok\n\xb0\xa1\n", 2, 1, "b0"),
        (b"a\xff", 1, 2, "ff"),
        (b"\xef\xbb\xbfab\xff", 1, 3, "ff"),
        ("가\n".encode() + "가나".encode()[:-1], 2, 4, "eb"),
        ("a\n".encode("utf-16"), 1, 1, "ff"),
    ],
)
def test_broken_utf8(tmp_path, content, line, byte, value):
    folder = write(tmp_path, train_ko=content)
    refused(folder, f"{folder / 'train.ko'}, line {line}, byte {byte} of the line: 0x{value} is not UTF-8", "iconv")


def test_missing_file_says_what_is_there(tmp_path):
    folder = write(tmp_path, test_en=None)
    refused(folder, f"{folder / 'test.en'} does not exist; the folder has test.ko, train.en, train.ko, valid.en")


def test_a_long_listing_is_cut(tmp_path):
    for number in range(20):
        (tmp_path / f"{number:02}.txt").touch()
    refused(tmp_path, "10.txt, 11.txt and 8 more")


def test_empty_and_missing_folders(tmp_path):
    refused(tmp_path, f"{tmp_path / 'train.ko'} does not exist; the folder is empty")
    refused(tmp_path / "nowhere", f"{tmp_path / 'nowhere'}: does not exist; name a folder that holds train.ko")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "is a file, not a folder")


def test_a_folder_in_place_of_a_file(tmp_path):
    folder = write(tmp_path, train_ko=None)
    (folder / "train.ko").mkdir()
    refused(folder, f"{folder / 'train.ko'} cannot be read")


@pytest.mark.parametrize(
    ("ko", "en", "found"),
    [
        (b"", b"", "are empty"),
        (b"\n", b"\n", "have no pair with text on both sides in 1 line;"),
        (b"a\n\n", b"\nb\n", "have no pair with text on both sides in 2 lines;"),
    ],
)
def test_a_split_without_a_pair(tmp_path, ko, en, found):
    refused(write(tmp_path, train_ko=ko, train_en=en), "train.ko", "train.en", found)


def test_one_language_is_not_two(tmp_path):
    refused(write(tmp_path), "source and target are both 'ko'", target="ko")


def test_a_part_of_the_files_is_spread_over_them_and_knows_its_lines(tmp_path):
    for split in ("train", "valid", "test"):
        for language in ("de", "en"):
            lines = ["" if i == 3 else f"{language} {i}" for i in range(100)]
            (tmp_path / f"{split}.{language}").write_text("\n".join(lines), encoding="utf-8")
    task = Parallel(directory=str(tmp_path), source="de", target="en", train_size=10, valid_size=1000)
    text = task.load()
    assert (len(text.train), len(text.valid), len(text.test)) == (10, 99, 99)
    numbers = [int(source.split()[1]) for source, _ in text.train]
    assert numbers == sorted(set(numbers)) and numbers[0] == 0 and numbers[-1] >= 89
    assert all(target == f"en {number}" for number, (_, target) in zip(numbers, text.train, strict=True))
    for i, number in enumerate(numbers):
        assert text.where("train", "source", i) == f"{tmp_path / 'train.de'}, line {number + 1},"
