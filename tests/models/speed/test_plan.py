"""The command plan: what it says is what the model and its steps have, and nothing is written."""

import dataclasses
import itertools
import json
import tracemalloc

import pytest
from commands import refused
from small_models import CASES, TEXT
from tiny_workloads import TINY_WORKLOADS
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import LAST
from tinygrad_attn_models.speed import calibration, plan
from tinygrad_attn_models.speed.calibration import COMPARED, EAGER, PROGRAM, TRACED, Pace, kinds_of, time_steps
from tinygrad_attn_models.speed.counts import Size, count_step
from tinygrad_attn_models.speed.plan import PlanOptions, grouped_by_part, make_plan
from tinygrad_attn_models.speed.plan_text import describe_plan
from tinygrad_attn_models.speed.subject import (
    ConfigSubject,
    WorkloadSubject,
    find_subject,
    new_run,
    size_of,
)
from tinygrad_attn_models.speed.workloads import WORKLOADS

SMALL = {"data.train_size": 40, "data.valid_size": 4, "data.test_size": 4, "training.batch_size": 8,
         "decoding.max_length": 12, "training.epochs": 3}  # fmt: skip
QUICK = PlanOptions(seconds=0.0)
ALL = {**{name: {f"model.{key}": value for key, value in case.items()} for name, case in CASES.items()}, "gpt": TEXT}


@pytest.fixture(autouse=True)
def tiny_workloads(monkeypatch):
    for name, workload in TINY_WORKLOADS.items():
        monkeypatch.setitem(WORKLOADS, name, workload)


def subject_of(settings=(), **changes):
    return ConfigSubject("small", new_run(load_config(None, {**SMALL, **dict(settings), **changes})))


AT_ONCE = ("bahdanau", "luong fed", "transformer", "gpt")


@pytest.mark.parametrize(
    "name", [each if each in AT_ONCE else pytest.param(each, marks=pytest.mark.slow) for each in ALL]
)
def test_a_plan_of_every_model(name):
    subject = subject_of(ALL[name])
    found = make_plan(subject, PlanOptions(ranks=[1, 2], gigabits=[1.0], seconds=0.0))
    assert found.parameters == sum(found.parts.values()) == sum(p.numel() for p in subject.model.parameters())
    assert found.memory.weights == found.memory.gradients == 4 * found.parameters
    assert found.memory.moments == 2 * found.memory.weights
    assert found.steps == subject.count(3) and found.epochs == subject.epochs
    batches = [batch for groups in itertools.islice(subject.groups(3), 3) for batch in groups]
    assert found.forward > 0 and abs(found.backward - 2 * found.forward) < 2 and len(batches)
    assert found.memory.step > found.memory.gradients and found.memory.activations > 0
    assert found.step_s > 0.0 and found.first_epoch_s > 0.0 and len(found.same_batch) == 2
    assert describe_plan(found).startswith(f"small: {found.parameters:,} parameters\n")


def test_the_operations_of_an_epoch_are_those_of_its_steps():
    subject = subject_of()
    found = make_plan(subject, QUICK)
    counted = [count_step(lambda group=group: subject.step(*group)) for group in subject.groups(3)]
    assert found.forward == sum(each.forward for each in counted) // len(counted)
    assert found.backward == sum(each.backward for each in counted) // len(counted)


def test_the_memory_is_that_of_a_real_epoch():
    subject, settings = subject_of(), {"model.hidden_size": 24, "model.embedding_size": 16, "data.train_size": 200}
    subject = subject_of(settings)
    memory = make_plan(subject, QUICK).memory
    training = subject_of(settings)
    training.step(*next(training.groups(0)))  # Adam's moments are there, as they are in every step but the first
    training.optimizer.zero_grad()
    tracemalloc.start()
    try:
        for group in itertools.chain(training.groups(0), training.groups(1)):
            training.step(*group)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Programs of other shapes, which the plan does not count, are the code of this small model.
    assert 0.5 * peak < memory.step < 1.15 * peak


def test_a_model_whose_operations_are_no_polynomial_is_counted_by_size(monkeypatch):
    subject = subject_of()
    expected = make_plan(subject, QUICK)
    monkeypatch.setattr(plan.Operations, "__call__", lambda self, size: (1, size.rows))
    found = make_plan(subject, QUICK)
    assert (found.forward, found.backward) == (expected.forward, expected.backward)


def test_gradient_accumulation_is_one_step_of_several_batches():
    alone, together = (make_plan(subject_of({"training.gradient_accumulation_steps": n}), QUICK) for n in (1, 2))
    assert together.batches == 2 and together.steps == -(-alone.steps // 2)
    assert together.forward * together.steps == pytest.approx(alone.forward * alone.steps, rel=0.01)


# -- time --------------------------------------------------------------------------------------------------------------


class Timed:
    """A subject whose steps take a millisecond for a million operations, and more the first two times."""

    captured = True

    def __init__(self, clock):
        self.clock, self.seen = clock, {}
        self.optimizer = self

    def step(self, *batches, clip_norm=None):
        if clip_norm is not None:
            self.clock[0] += 0.25
            return
        size = size_of(batches[0])
        self.clock[0] += (3.0, 10.0, 12.0, 1.0)[min(self.seen.get(size, 0), 3)] * size.rows * 1e-3
        self.seen[size] = self.seen.get(size, 0) + 1

    def forget(self):
        self.seen.clear()


def test_each_kind_of_step_is_timed_by_itself(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: clock[0])
    batches = [batch for group in subject_of({"data.train_size": 64}).groups(0) for batch in group]
    pace = time_steps(Timed(clock), batches, lambda size: size.rows * 1000 + size.target, 0.0)
    assert pace.update == pytest.approx(0.25)
    for kind, times in ((EAGER, 3.0), (TRACED, 10.0), (COMPARED, 12.0), (PROGRAM, 1.0)):
        assert pace(8000.0, kind) == pytest.approx(8e-3 * times, rel=0.01)


def test_a_workload_repeats_its_step_as_a_program(monkeypatch):
    monkeypatch.setattr(plan, "time_steps", lambda *_: Pace([1], [[5.0], [9.0], [7.0], [2.0]], 0.0))
    found = make_plan(WorkloadSubject("tiny-gpt"), QUICK)
    assert (found.first_epoch_s, found.epoch_s) == (5.0, 2.0)


def test_what_lies_between_is_interpolated():
    pace = Pace([10, 30], [[2.0, 4.0], [9.0, 9.0], [9.0, 9.0], [1.0, 2.0]], 0.0)
    assert pace(20, EAGER) == 3.0 and pace(20) == 1.5 and pace(5) == 1.0 and pace(99) == 2.0


def test_the_kinds_are_those_that_capture_makes():
    subject = subject_of({"training.batch_size": 4})
    program = subject._trainer.gradients.captured
    kinds = []
    for epoch in range(2):
        for group in subject.groups(epoch):
            before, runs = dict(program.programs), program.runs
            subject.step(*group)
            new = len(program.programs) > len(before)
            kinds.append(EAGER if new else COMPARED if program.runs > runs else TRACED)
    sizes = [[size_of(batch) for group in subject.groups(epoch) for batch in group] for epoch in range(2)]
    assert [min(kind, COMPARED) for epoch in kinds_of(sizes, True) for kind in epoch] == kinds
    assert {*itertools.chain.from_iterable(kinds_of(sizes, False))} == {EAGER}


def test_shapes_that_come_after_too_many_others_stay_eager(monkeypatch):
    monkeypatch.setattr(calibration, "MOST_PROGRAMS", 2)
    sizes = [[Size(1, 1, number) for number in (1, 2, 3)] * 4]
    assert list(kinds_of(sizes, True)) == [[0, 0, 0, 1, 1, 0, 2, 2, 0, 3, 3, 0]]


# -- parts and machines ------------------------------------------------------------------------------------------------


def test_a_part_with_most_parameters_is_shown_by_its_own_parts():
    sizes = {
        "small.weight": 4,
        "small.bias": 2,
        "large.first.weight": 90,
        "large.second.weight": 81,
        "large.second.b": 9,
    }
    assert grouped_by_part(sizes) == {"small": 6, "large.first": 90, "large.second": 90}


def test_several_machines():
    subject = WorkloadSubject("tiny-transformer")
    found = make_plan(subject, PlanOptions(ranks=[1, 3, 64], gigabits=[1.0, 100.0], seconds=0.0))
    assert [(row.ranks, row.gigabits, row.rows) for row in found.same_batch] == [
        (1, 1.0, 3), (1, 100.0, 3), (3, 1.0, 1), (3, 100.0, 1), (64, 1.0, 1), (64, 100.0, 1),
    ]  # fmt: skip
    alone = found.larger_batch[0]
    assert alone.speedup == pytest.approx(1.0) and alone.communication == 0.0
    for row in found.larger_batch:
        assert row.rows == 3 and row.speedup <= row.ranks * 1.0001
        assert row.step_s * (1.0 - row.communication) == pytest.approx(found.step_s)
    slow, fast = found.larger_batch[4:]
    assert slow.communication > fast.communication > 0.0
    assert found.memory.of_rank(1.0) == found.memory.peak + found.memory.gradients


# -- the command -------------------------------------------------------------------------------------------------------

TINY = ["--seconds", "0", "--set", *(f"{key}={value}" for key, value in SMALL.items()), "model.hidden_size=6",
        "model.embedding_size=4"]  # fmt: skip


def test_of_a_config_as_text(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "dates", "--ranks", "2,8", "--bandwidth", "10", *TINY]) == 0
    said = capsys.readouterr().out
    for words in ("parameters", "Adam's moments", "activations of the largest batch", "FLOP", "GFLOP/s", "all 3 epochs",
                  "measuring on the validation set", "speed-up", "Assumed: ", "a latency of 50 µs"):  # fmt: skip
        assert words in said, said
    assert max(map(len, said.splitlines()[:-1])) < 120
    assert list(tmp_path.iterdir()) == []


def test_of_a_file_a_run_and_a_workload_as_json(capsys, tmp_path, tiny_run):
    config = tmp_path / "own.toml"
    config.write_text('[model]\nname = "luong"\nhidden_size = 6\nembedding_size = 4\n', encoding="utf-8")
    before = {path.name: path.stat().st_mtime_ns for path in tiny_run.iterdir()}
    for name, more in ((config, TINY[:-2]), (tiny_run, TINY[:2]), ("tiny-gpt", TINY[:2])):
        assert main(["plan", str(name), "--json", *more]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["name"] == str(name) and found["parameters"] == sum(found["parts"].values())
        assert {field.name for field in dataclasses.fields(plan.Plan)} == found.keys()
    assert {path.name: path.stat().st_mtime_ns for path in tiny_run.iterdir()} == before
    assert (tiny_run / LAST).exists()


def test_a_demo_by_its_name(capsys):
    assert main(["plan", "demo:dates-bahdanau", "--seconds", "0", "--json", "--set", "data.train_size=128"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 130_287


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tiny-gpd"], "no workload or config 'tiny-gpd'; did you mean tiny-gpt?"),
        (["tiny-gpt", "--set", "training.epochs=2"], "is a workload on random text; leave out"),
        (["dates", "--ranks", "2,x"], "expected a whole number of at least 1"),
        (["dates", "--ranks", "0"], "expected a whole number of at least 1"),
        (["dates", "--bandwidth", "0"], "expected a number above 0, got '0'"),
        (["dates", "--latency=-1"], "expected a number of at least 0"),
        (["dates", "--set", "data.train_size=1000000000000"], "would take about"),
    ],
)
def test_mistakes(capsys, arguments, words):
    refused(capsys, ["plan", *arguments], words)


def test_names():
    assert isinstance(find_subject("tiny-gpt"), WorkloadSubject)
