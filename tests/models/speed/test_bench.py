"""The command bench: the measurements and their output."""

import itertools
import json
import subprocess
import sys

import pytest
import tinygrad_attn_models.speed.bench
from commands import TINY, refused
from tiny_workloads import TINY_WORKLOADS
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.speed.bench import TrainingStep, measure, measure_steps
from tinygrad_attn_models.speed.workloads import WORKLOADS

from tinygrad_attn import get_num_threads, set_num_threads

NAMES = [
    "who", "workload", "params", "first_step_s", "step_ms", "step_ms_min", "tokens_per_s", "peak_rss_mb", "loss_first",
    "loss_last",
]  # fmt: skip


@pytest.fixture(autouse=True)
def tiny_workloads(monkeypatch):
    for name, workload in TINY_WORKLOADS.items():
        monkeypatch.setitem(WORKLOADS, name, workload)


@pytest.fixture
def clock(monkeypatch):
    """A function: from here on, what the code under test does takes the seconds that it is told."""
    now = [0.0]
    monkeypatch.setattr(tinygrad_attn_models.speed.bench.time, "perf_counter", lambda: now[0])

    def pass_time(seconds):
        now[0] += seconds

    return pass_time


def test_times_and_losses(clock):
    durations = iter([9.0, 8.0, 0.5, 0.25, 1.0, 0.25, 0.75])
    losses = itertools.count(10.0, -1.0)

    def step():
        clock(next(durations))
        return next(losses)

    first, times, seen = measure_steps(step, seconds=2.5)
    assert first == 9.0
    assert times == [0.5, 0.25, 1.0, 0.25, 0.75]  # neither the first call nor the second
    assert seen == [10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0]


@pytest.mark.parametrize(
    ("duration", "seconds", "expected"),
    [(3.0, 0.0, 5), (3.0, 4.0, 5), (0.5, 4.0, 8), (0.5, 3.9, 8), (0.001, 4.0, 200)],
)
def test_how_many_steps(clock, duration, seconds, expected):
    _, times, losses = measure_steps(lambda: clock(duration) or 1.0, seconds)
    assert len(times) == expected
    assert len(losses) == expected + 2


@pytest.mark.parametrize("name", ["tiny-luong", "tiny-gpt"])
def test_a_step_learns(name):
    step = TrainingStep(name)
    before = {name: parameter.array.copy() for name, parameter in step.model.named_parameters()}
    losses = [step() for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]
    for name, parameter in step.model.named_parameters():
        assert (before[name] != parameter.array).any(), name
        assert abs(before[name] - parameter.array).max() < 4e-4, name  # three steps of Adam with 1e-4


def test_steps_repeat():
    assert [TrainingStep("tiny-bahdanau")() for _ in range(2)] == [TrainingStep("tiny-bahdanau")()] * 2


def test_measurement():
    found = measure("tiny-luong", TrainingStep("tiny-luong"), seconds=0.0)
    assert found.params == 925
    assert 0 < found.step_ms_min <= found.step_ms
    assert found.tokens_per_s == pytest.approx(3 * 4 / found.step_ms * 1e3)
    assert found.loss_last < found.loss_first
    assert 10 < found.peak_rss_mb < 10_000


@pytest.mark.slow
def test_peak_memory_sees_an_array():
    code = """
from tinygrad_attn_models.speed.memory import peak_memory
before = peak_memory()
block = b"x" * ((int(before) + 100) << 20)
within = peak_memory()
del block
print(before, within, peak_memory())
"""
    # In a process of its own. Linux has it start from the peak of the one that started it, so the array is larger.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, within, after = map(float, done.stdout.split())
    assert before + 50 < within < before + 250
    assert after >= within


@pytest.mark.parametrize("name", ["tiny-luong", "tiny-gpt"])
def test_one_line_of_json(name, capsys):
    assert main(["bench", name, "--json", "--seconds", "0"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out.splitlines()[-1])
    assert list(found) == NAMES
    assert found["who"] == "tinygrad_attn"
    assert found["workload"] == name


def test_a_config(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "dates", "--json", "--seconds", "0", "--set", *TINY, "training.batch_size=16"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(found) == NAMES
    assert found["workload"] == "dates"
    tokens = found["tokens_per_s"] * found["step_ms"] / 1e3
    assert tokens == pytest.approx(16 * 11, rel=0.4)  # a date as YYYY-MM-DD and the end, but one batch of five is short
    assert list(tmp_path.iterdir()) == []


def test_lines_for_people_and_threads(capsys):
    before = get_num_threads()
    try:
        assert main(["bench", "tiny-luong", "--seconds", "0", "--threads", "1"]) == 0
        assert get_num_threads() == 1
    finally:
        set_num_threads(before)
    output = capsys.readouterr().out
    assert output.startswith("tiny-luong: 925 parameters, 1 thread\n")
    for word in ("step ", "(median)", "tokens", "first step", "peak memory", "loss"):
        assert word in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["luong-smal"], "error: there is no workload or config 'luong-smal'; did you mean luong-small?"),
        (["luong-small", "--threads", "100000"], "--threads 100000: set_num_threads: count must be from 1 to"),
        (["luong-small", "--threads", "0"], "a whole number of at least 1, got '0'"),
        (["luong-small", "--seconds", "-1"], "a number of seconds of at least 0, got '-1'"),
        (["luong-small", "--seconds", "inf"], "a number of seconds of at least 0, got 'inf'"),
    ],
)
def test_mistakes(capsys, arguments, words):
    refused(capsys, ["bench", *arguments], words)
