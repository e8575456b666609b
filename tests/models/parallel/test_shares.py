"""Shards of batches, sums in a fixed order, and what one process knows of others, without MPI."""

import os
import sys

import numpy as np
import pytest
from commands import refused
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.data import collate
from tinygrad_attn_models.parallel.fixed_order import FixedOrderSum
from tinygrad_attn_models.parallel.launcher import launched_rank, launched_size
from tinygrad_attn_models.parallel.ranks import Ranks, join, note_of_threads
from tinygrad_attn_models.parallel.shares import owner, seed_for, shard_of
from tinygrad_attn_models.parallel.slots import Slots, grouped
from tinygrad_attn_models.runs.training import TrainingConfig
from tinygrad_attn_models.training.rescue import note_of_deaths

import tinygrad_attn as ta
from tinygrad_attn import random

EXAMPLES = [([5] * n, [6] * (n % 3 + 1)) for n in range(1, 8)]


@given(st.integers(1, 9), st.lists(st.integers(0, 6), min_size=1, max_size=9))
def test_shards_are_all_rows_of_a_batch_each_once(shards, indices):
    batch = collate(EXAMPLES, indices)
    parts = [shard_of(batch, number, shards) for number in range(shards)]
    assert sum(part.target_tokens for part in parts) == batch.target_tokens
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for number, part in enumerate(parts):
        np.testing.assert_array_equal(part.source, batch.source[number::shards])
        np.testing.assert_array_equal(part.indices, batch.indices[number::shards])
        assert part.target_tokens == part.target_mask.sum()


@given(st.integers(1, 40), st.integers(1, 40))
def test_every_shard_has_an_owner_and_neighbours_stay_together(shards, ranks):
    owners = [owner(shard, shards, ranks) for shard in range(shards)]
    assert owners == sorted(owners)
    assert set(owners) <= set(range(ranks))
    assert len(set(owners)) == min(shards, ranks)


@given(st.integers(1, 9))
def test_a_sum_in_a_fixed_order_is_a_tree(shards):
    rng = np.random.default_rng(shards)
    values = rng.standard_normal((shards, 5)).astype(np.float32)
    a, b, unused = (ta.zeros(n, requires_grad=True) for n in (3, 2, 4))

    def work(shard):
        a.grad = ta.tensor(values[shard, :3])
        b.grad = None if shard else ta.tensor(values[0, 3:])

    def tree(rows):
        if len(rows) == 1:
            return rows[0]
        half = 2 ** ((len(rows) - 1).bit_length() - 1)
        return tree(rows[:half]) + tree(rows[half:])

    total = FixedOrderSum([a, b, unused], Ranks(), shards)
    for _ in range(2):
        total(work)
        np.testing.assert_array_equal(a.grad.numpy(), tree(values[:, :3]))
        np.testing.assert_array_equal(b.grad.numpy(), values[0, 3:])
        assert unused.grad is None


def test_what_is_drawn_depends_on_seed_step_and_shard():
    def drawn(*numbers):
        seed_for(*numbers)
        return random.new_key()

    assert drawn(0, 1, 2) == drawn(0, 1, 2)
    assert len({drawn(*numbers) for numbers in ((0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3))}) == 4


def test_parameters_are_grouped_by_dtype_and_size():
    small, wide, large, double = ta.zeros(2), ta.zeros(3), ta.zeros(100), ta.zeros(1, dtype=ta.float64)
    assert [list(map(len, group)) for group in grouped([small, wide, large, double], 24)] == [[2, 3], [100], [1]]
    slots = Slots([small])
    assert slots.buffer.shape == (3,)


def test_one_process_does_everything():
    ranks = Ranks()
    assert (ranks.rank, ranks.size, ranks.first) == (0, 1, True)
    assert ranks.divided([3, 1, 2], lambda number: number**2) == [9, 1, 4]
    assert list(ranks.shared(iter("ab"))) == ["a", "b"]
    assert ranks.of_first(lambda: 5) == 5
    assert ranks.any(True) and not ranks.any(False)
    ranks.agree(1, "settings")


@pytest.mark.parametrize(
    "size, rank",
    [
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
        ("PMI_SIZE", "PMI_RANK"),
        ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    ],
)
def test_launchers_are_known_by_their_variables(monkeypatch, size, rank):
    assert (launched_size(), launched_rank()) == (1, 0)
    monkeypatch.setenv(size, "3")
    monkeypatch.setenv(rank, "2")
    assert (launched_size(), launched_rank()) == (3, 2)


def test_ranks_without_mpi4py_are_told_once_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(UserError, match="mpi4py"):
        join()
    refused(capsys, ["train"], "mpirun has started 2 processes", 'pip install "tinygrad-attn[mpi]"')


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the cores of a process are not told here")
def test_more_threads_than_cores_are_told(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(ta, "get_num_threads", lambda: 4)
    assert note_of_threads() == ""  # no launcher has bound this process
    monkeypatch.setenv("PMI_SIZE", "2")
    assert "each process 4 threads, and mpirun 1 core; with mpirun --bind-to none" in note_of_threads()
    monkeypatch.setattr(ta, "get_num_threads", lambda: 1)
    assert note_of_threads() == ""


def test_where_a_death_can_save_nothing_it_is_told_at_the_start(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    assert "ends all processes at once when one dies" in note_of_deaths(TrainingConfig())
    assert "the last checkpoint, at most 30 s old" in note_of_deaths(TrainingConfig())
    assert "that of the last epoch" in note_of_deaths(TrainingConfig(checkpoint_seconds=0.0))
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert note_of_deaths(TrainingConfig()) == ""
    assert "only all processes together can save" in note_of_deaths(TrainingConfig(divided_moments=True))
