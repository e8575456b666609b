"""The pool of threads: each share is done once, by whoever is free, and nothing waits for who is not."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from typing import NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threads import in_threads

import tinygrad_attn as ta
from tinygrad_attn.kernels.runtime import atomics
from tinygrad_attn.kernels.runtime.calls import address_of
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, launch, read_struct, row_at

compiled_only = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="plain Python runs on one thread")


class Visits(NamedTuple):
    counts: Address  # (items,) int64
    items: int
    total: Address  # (1,) int64
    work: int


@serial_kernel
def visit(arguments: int, first: int, last: int) -> None:
    """Count each item, in a word of its own and in one for all."""
    s = read_struct(Visits, arguments)
    counts = row_at(np.int64, s.counts, 0, s.items)
    for item in range(first, last):
        for _ in range(s.work):
            counts[item] += 1
        atomics.add(s.total, s.work)


def check_visits(items, shares, work=1):
    counts, total = np.zeros(items, np.int64), np.zeros(1, np.int64)
    launch(address_of(visit), Struct(Visits(counts, items, total, work)), items, shares)
    np.testing.assert_array_equal(counts, work)
    assert total[0] == items * work


@settings(deadline=None)
@given(items=st.integers(0, 60), shares=st.integers(1, 80))
def test_every_item_is_visited_once(items, shares):
    check_visits(items, shares)


@compiled_only
def test_more_shares_than_a_ticket_counts():
    check_visits(items=5, shares=1 << 21)


@serial_kernel
def number(arguments: int, first: int, last: int) -> None:
    """Write to each item how many were done before."""
    s = read_struct(Visits, arguments)
    counts = row_at(np.int64, s.counts, 0, s.items)
    for item in range(first, last):
        counts[item] = atomics.add(s.total, 1)
        for turn in range(s.work):
            counts[item] += turn % 2
            counts[item] -= turn % 2


def test_the_launching_thread_begins_at_the_front_and_the_other_at_the_end():
    turns, total = np.zeros(200, np.int64), np.zeros(1, np.int64)
    threads = ta.get_num_threads()
    ta.set_num_threads(min(threads, 2))
    try:
        for _ in range(20):
            total[0] = 0
            launch(address_of(number), Struct(Visits(turns, turns.size, total, 100)), turns.size, turns.size)
            latest = turns.argmax()
            assert (np.diff(turns[: latest + 1]) > 0).all() and (np.diff(turns[latest:]) < 0).all()
    finally:
        ta.set_num_threads(threads)


def test_launches_from_several_python_threads_at_once():
    failures = []

    def many(seed):
        rng = np.random.default_rng(seed)
        try:
            for _ in range(20 if numba.config.DISABLE_JIT else 2000):
                check_visits(int(rng.integers(1, 40)), int(rng.integers(1, 9)), int(rng.integers(1, 50)))
        except BaseException as error:
            failures.append(error)

    in_threads(many, range(4))
    assert not failures


def test_the_number_of_threads_is_of_each_python_thread():
    before = ta.get_num_threads()
    ta.set_num_threads(1)
    found = []
    thread = threading.Thread(target=lambda: found.append(ta.get_num_threads()))
    thread.start()
    thread.join()
    assert ta.get_num_threads() == 1 and found == [numba.config.NUMBA_NUM_THREADS]
    check_visits(30, 7)
    ta.set_num_threads(before)


@pytest.mark.parametrize("count", [0, -1, numba.config.NUMBA_NUM_THREADS + 1])
def test_a_number_of_threads_that_the_pool_does_not_hold(count):
    with pytest.raises(ValueError, match=r"set_num_threads: count must be from 1 to \d+ \(NUMBA_NUM_THREADS\), got"):
        ta.set_num_threads(count)


def run(body, threads):
    start = "import numpy as np\nimport tinygrad_attn as ta\nx = np.ones((300, 300), np.float32)\n"
    code = start + textwrap.dedent(body)
    environment = {"NUMBA_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env={**os.environ, **environment}
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@compiled_only
@pytest.mark.slow
def test_launches_go_on_when_no_worker_helps():
    run(
        """
        from tinygrad_attn.kernels.runtime.pool import pool
        first = (ta.Tensor(x) @ ta.Tensor(x)).array
        pool.stop()
        assert not any(thread.is_alive() for thread in pool._threads)
        assert ((ta.Tensor(x) @ ta.Tensor(x)).array == first).all()
        """,
        threads=3,
    )


@compiled_only
@pytest.mark.parametrize(
    "ending",
    ["", *(pytest.param(e, marks=pytest.mark.slow) for e in ("import time; time.sleep(0.05)", "raise SystemExit(0)"))],
)
def test_a_process_ends_with_workers_that_look_for_work_or_sleep(ending):
    run(f"ta.Tensor(x) @ ta.Tensor(x)\n{ending}", threads=2)


@compiled_only
def test_no_thread_starts_before_it_is_needed():
    out = run(
        """
        import threading
        small = ta.ones(4, 4) @ ta.ones(4, 4)
        before = threading.active_count()
        ta.Tensor(x) @ ta.Tensor(x)
        print(before, threading.active_count())
        """,
        threads=3,
    )
    assert out.split() == ["1", "3"]
