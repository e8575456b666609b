"""Lines from a pipe: answered when whoever writes them waits, and in batches when many come at once."""

import queue
import threading

import pytest
from tinygrad_attn_models.data import DataError
from tinygrad_attn_models.data.lines import batched_as_they_come


def lines_from(source):
    """The lines that a test puts into a queue, until None."""
    while (line := source.get(timeout=60)) is not None:
        yield line


def test_a_line_is_given_while_the_next_is_awaited():
    source = queue.Queue()
    batches = batched_as_they_come(lines_from(source), size=4)
    for line in ("first", "second"):
        source.put(line)
        assert next(batches) == [line]
    for line in "abcdef":
        source.put(line)
    source.put(None)
    rest = list(batches)
    assert [line for batch in rest for line in batch] == list("abcdef")
    assert max(map(len, rest)) <= 4


def test_many_lines_come_in_whole_batches():
    batches = list(batched_as_they_come(iter(map(str, range(10))), size=4, pause=60.0))
    assert batches == [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8", "9"]]
    assert list(batched_as_they_come(iter(()), size=4)) == []


def test_an_error_comes_after_the_lines_before_it():
    def broken():
        yield "fine"
        raise DataError("line 2 is not UTF-8")

    batches = batched_as_they_come(broken(), size=4)
    assert next(batches) == ["fine"]
    with pytest.raises(DataError, match="line 2"):
        next(batches)


def test_no_more_is_read_than_is_needed_soon():
    read = threading.Semaphore(0)

    def endless():
        while True:
            read.release()
            yield "x"

    batches = batched_as_they_come(endless(), size=2, pause=60.0)
    assert next(batches) == ["x", "x"]
    assert sum(1 for _ in iter(lambda: read.acquire(timeout=0.2), False)) <= 8
