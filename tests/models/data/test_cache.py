"""The cache of what is made from large text: what is not used goes, what is used stays."""

import os
import time

import pytest
from tinygrad_attn_models.data import cache
from tinygrad_attn_models.data.cache import kept, key_of

DAY = 86_400.0


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.FOLDER, str(tmp_path))
    return tmp_path


def make(number, content=b"x" * 100, name="ids"):
    """Ask for an entry, which is made if it is not there; its path."""
    found = f"{name}-{key_of(number)}.safetensors"
    assert kept(found, lambda path: path.write_bytes(content), lambda path: path.read_bytes()) == content
    return cache.cache_folder() / found


def age(path, days):
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def test_what_nobody_has_used_for_long_goes_when_something_is_made():
    old, used, new = make(1), make(2, name="tokenizers"), make(3)
    for path in (old, used):
        age(path, 91)
    make(2, name="tokenizers")  # it is read, so it is used
    assert old.exists() and time.time() - used.stat().st_mtime < DAY
    age(new, 89)
    made = make(4)
    assert not old.exists() and used.exists() and new.exists() and made.exists()
    assert not (old.parent / f"{old.name}.lock").exists()
    assert make(1).exists()  # anew


def test_beyond_a_size_those_go_that_were_not_used_for_longest(monkeypatch):
    monkeypatch.setattr(cache, "MOST", 250)
    paths = [make(number) for number in range(3)]
    for path, days in zip(paths, (1, 5, 3), strict=True):
        age(path, days)
    made = make(9, b"y" * 1000)  # however large it is itself
    assert [path.exists() for path in (*paths, made)] == [True, False, True, True]
    age(made, 0.1)
    newest = make(10)
    assert [path.exists() for path in (*paths, made, newest)] == [False, False, False, True, True]  # the last one used


def test_files_of_others_stay(folder):
    others = [folder / name for name in ("notes.txt", "ids-abc.safetensors", "model.safetensors")]
    for path in others:
        path.write_text("mine", encoding="utf-8")
        age(path, 400)
    make(1)
    assert all(path.exists() for path in others)


@pytest.mark.parametrize("name", ["ids", "tokenizers"])  # the second is longer than what its unfinished file tells
def test_unfinished_files_of_killed_processes_go(folder, name):
    path = make(1, name=name)
    path.unlink()
    own, fresh, stale = (folder / f".{each[:50]}.0123abcd.partial" for each in (path.name, "ids-f", "ids-s"))
    for each in (own, fresh, stale):
        each.write_bytes(b"half")
    age(stale, 2)
    make(1, name=name)
    assert [each.exists() for each in (own, fresh, stale)] == [False, True, False]


def test_a_folder_that_only_others_may_write_to_is_read(folder, monkeypatch):
    path = make(1)

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache.os, "utime", refused)
    assert make(1) == path
