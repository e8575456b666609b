"""The clock continues where it was stopped, and a damaged file loses only the times."""

import json
import warnings

import pytest
from tinygrad_attn_models.runs.clock import Clock


@pytest.fixture
def path(tmp_path):
    clock = Clock()
    clock.batches = 2.0
    clock.finish_epoch(tokens=100)
    clock.batches = 0.5
    clock.finish_epoch(tokens=100)
    clock.batches = 0.25
    stored = clock.to_dict()
    (tmp_path / "clock.json").write_text(json.dumps({**stored, "total": 1000.0}), encoding="utf-8")
    return tmp_path / "clock.json"


def test_it_goes_on(path):
    clock = Clock()
    clock.resume(path, epochs=2)
    assert 1000.0 <= clock.total < 1010.0
    assert clock.batches == 0.25
    assert [times["tokens_per_second"] for times in clock.epochs] == [50, 200]


def test_an_epoch_that_the_checkpoint_does_not_know_is_forgotten(path):
    clock = Clock()
    clock.resume(path, epochs=1)
    assert [times["tokens_per_second"] for times in clock.epochs] == [50]


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"total": "x"}', '{"total": 1, "batches": 0, "epochs": 3}'])
def test_a_damaged_file_costs_the_times_only(path, content):
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    clock = Clock()
    with warnings.catch_warnings(record=True) as noted:
        clock.resume(path, epochs=2)
    assert [str(note.message).partition(" is damaged")[0] for note in noted] == [str(path)] * (content is not None)
    assert clock.epochs == [{"tokens_per_second": 0, "seconds": 0.0}] * 2
    clock.finish_epoch(tokens=10)
    assert clock.epochs[2]["tokens_per_second"] == 0
    assert clock.epochs[2]["seconds"] < 10.0
