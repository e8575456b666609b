"""The command profile: that the time of a step is found where it was spent, and the matmuls' operations counted."""

import json

import numpy as np
import pytest
import tinygrad_attn_models.speed.profile
import tinygrad_attn_models.speed.stopwatch
from commands import refused
from tiny_workloads import BATCH_SIZE, D_FF, D_MODEL, EMBEDDING, HIDDEN, LAYERS, LENGTH, TINY_WORKLOADS, VOCABULARY
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.speed.bench import TrainingStep
from tinygrad_attn_models.speed.profile import ELSE, describe_profile, find_step, matmul_peak, profile
from tinygrad_attn_models.speed.stopwatch import BACKWARD, FORWARD, SUMS, UPDATE, Key, Stopwatch, watched
from tinygrad_attn_models.speed.workloads import WORKLOADS

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn
from tinygrad_attn.op import Op
from tinygrad_attn.optim import SGD


@pytest.fixture(autouse=True)
def tiny_workloads(monkeypatch):
    for name, workload in TINY_WORKLOADS.items():
        monkeypatch.setitem(WORKLOADS, name, workload)


class Clock:
    """Stands still but for what is told to take time."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def pass_time(self, seconds, result):
        self.now += seconds
        return result


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(tinygrad_attn_models.speed.stopwatch, "time", clock)
    monkeypatch.setattr(tinygrad_attn_models.speed.profile, "time", clock)
    return clock


def slow_op(clock, forward, backward):
    """The op 3x, which takes these seconds."""

    def slow(x):
        return clock.pass_time(forward, x * 3.0)

    op = Op(slow, "z = 3x", None, (), 1, (), False)
    op.vjp("x", r"\bar x = 3\bar z", lambda g: g * 3.0, kernel=lambda g: clock.pass_time(backward, g * 3.0))
    return op


@pytest.fixture
def slow_step(clock):
    """A step in which four slow ops, a hook, the optimiser and what is between them take known times."""
    op = slow_op(clock, forward=2.0, backward=5.0)
    weight = nn.Parameter(np.ones(3, np.float32))

    class SlowSGD(SGD):
        def _update(self, *arguments):
            clock.pass_time(7.0, super()._update(*arguments))

    optimizer = SlowSGD([weight], lr=0.0)

    def step():
        optimizer.zero_grad()
        clock.pass_time(11.0, None)
        x = op(op(weight))
        x.register_hook(lambda g: clock.pass_time(0.5, g))
        (op(x) + op(x)).sum().backward()
        optimizer.step(clip_norm=1.0)

    return step


def test_time_is_charged_to_what_takes_it(slow_step):
    watch = Stopwatch()
    with watched(watch):
        slow_step()
    seconds = {key: entry.seconds for key, entry in watch.entries.items() if entry.seconds}
    assert seconds == {
        Key("slow", FORWARD): 8.0,
        Key("slow", BACKWARD): 20.0,
        Key(SUMS, BACKWARD): 0.5,
        Key(UPDATE): 7.0,
    }
    calls = {key: entry.calls for key, entry in watch.entries.items()}
    assert calls[Key("slow", FORWARD)] == calls[Key("slow", BACKWARD)] == 4
    assert calls[Key("add", FORWARD)] == calls[Key("add", BACKWARD)] == calls[Key(SUMS, BACKWARD)] == 1


def test_profile_in_the_mean_and_by_share(slow_step, monkeypatch):
    monkeypatch.setattr(tinygrad_attn_models.speed.profile, "matmul_peak", lambda: 1e9)
    found = profile("slow ops", slow_step, steps=4)
    rows = {(row.name, row.phase): row for row in found.rows}
    assert rows["slow", FORWARD].ms == pytest.approx(8000.0)
    assert rows["slow", FORWARD].calls == 4
    assert rows["slow", FORWARD].share == pytest.approx(8.0 / 46.5)
    assert rows[ELSE, ""].ms == pytest.approx(11_000.0)
    assert found.step_ms == found.plain_step_ms == pytest.approx(46_500.0)
    assert [row.name for row in found.rows[:3]] == ["slow", ELSE, "slow"]
    lines = describe_profile(found).splitlines()
    assert lines[0] == "slow ops: a training step, the mean of 4"
    assert lines[3].split() == ["slow", "backward", "4", "20000.00", "43.0", "%"]
    assert "Forward 17.2% of the step, backward 44.1%." in describe_profile(found)


def test_an_op_is_charged_with_what_it_calls(clock):
    inner = slow_op(clock, forward=2.0, backward=5.0)

    def outer(x):
        return inner(Tensor(x)).array

    op = Op(outer, "z = 3x", None, (), 1, (), False)
    op.vjp("x", r"\bar x = 3\bar z")
    op.composed_of(lambda x: inner(x))
    x = ta.ones(3, requires_grad=True)
    watch = Stopwatch()
    with watched(watch):
        op(x).sum().backward()
    seconds = {key: entry.seconds for key, entry in watch.entries.items() if entry.seconds}
    assert seconds == {Key("outer", FORWARD): 2.0, Key("outer", BACKWARD): 7.0}  # its reference runs, and its backward
    np.testing.assert_array_equal(x.grad.array, np.full(3, 3.0))


def test_nothing_is_charged_after_an_error():
    watch = Stopwatch()
    with pytest.raises(ValueError, match="matmul"), watched(watch):
        ta.ones(2, 3) @ ta.ones(4, 5)
    assert not watch.running and not watch.within
    assert ta.ones(2, 3) @ ta.ones(3, 5) is not None
    assert watch.entries[Key("matmul", FORWARD)].calls == 1  # that within, and not the one after


def test_an_op_without_outputs():
    watch = Stopwatch()
    with watched(watch):
        assert ta.unbind(ta.zeros(2, 0, requires_grad=True), dim=1) == ()
    assert any(key.name == "unbind" for key in watch.entries)


def test_the_same_bits_as_without():
    plain, observed = TrainingStep("tiny-luong"), TrainingStep("tiny-luong")
    losses = [plain() for _ in range(2)]
    with watched(Stopwatch()):
        assert [observed() for _ in range(2)] == losses


def flops_of_step(kind):
    """Of the matmuls in a step, from the sizes: two for a multiply-add, forward once and backward twice."""
    v, e, h, d, t = VOCABULARY, EMBEDDING, HIDDEN, D_MODEL, LENGTH
    encoder = 4 * d * d + 2 * d * D_FF + 2 * t * d
    decoder = 8 * d * d + 2 * d * D_FF + 4 * t * d
    of_a_token = {
        "bahdanau": (e + h) * 3 * h + (e + 2 * h) * 3 * h + 2 * h * h + 2 * t * h + h * v,
        "luong": 2 * (e + h) * 4 * h + h * h + 2 * t * h + 2 * h * h + h * v,
        "transformer": LAYERS * (encoder + decoder) + d * v,
        "gpt": LAYERS * (12 * d * d + 2 * t * d) + d * v,
    }
    return 6 * BATCH_SIZE * t * of_a_token[kind]


@pytest.mark.parametrize("kind", ["bahdanau", "luong", "transformer", "gpt"])
def test_operations_of_a_step(kind):
    step, watch = TrainingStep(f"tiny-{kind}"), Stopwatch()
    with watched(watch):
        step()
    assert sum(entry.flops for entry in watch.entries.values()) == flops_of_step(kind)


def test_operations_of_gpt_char():
    """nanoGPT's count (`estimate_mfu`): 6 for each weight but the positions', 12 for each layer, position and width."""
    step, watch = TrainingStep("tiny-gpt"), Stopwatch()
    with watched(watch):
        step()
    model = step.model
    weights = sum(p.array.size for p in model.parameters() if p.ndim > 1) - model.positions.weight.array.size
    of_a_token = 6 * weights + 12 * LAYERS * D_MODEL * LENGTH
    assert sum(entry.flops for entry in watch.entries.values()) == BATCH_SIZE * LENGTH * of_a_token


@pytest.mark.parametrize(
    ("call", "forward", "backward"),
    [
        (lambda x, y: ta.matmul(x(2, 3), y(3, 5)), 60, 120),
        (lambda x, y: ta.matmul(x(2, 3), y(3, 5).detach()), 60, 60),
        (lambda x, y: ta.matmul(x(7, 2, 3), y(3, 5)), 420, 840),
        (lambda x, y: ta.matmul(x(3), y(3, 5)), 30, 60),
        (lambda x, y: ta.matmul(x(7, 2, 3), y(3)), 84, 168),
        (lambda x, y: nn.functional.linear(x(4, 2, 3), y(5, 3)), 240, 480),
        (lambda x, y: nn.functional.linear(x(4, 2, 3).detach(), y(5, 3)), 240, 240),
    ],
)
def test_operations_of_a_call(call, forward, backward):
    watch = Stopwatch()

    def leaf(*shape):
        return ta.ones(*shape, requires_grad=True)

    with watched(watch):
        call(leaf, leaf).sum().backward()
    flops = {key.phase: entry.flops for key, entry in watch.entries.items() if entry.flops}
    assert flops == {FORWARD: forward, BACKWARD: backward}


def test_rows_by_shape():
    watch = Stopwatch(by_shape=True)
    x, y, z = ta.ones(2, 3, requires_grad=True), ta.ones(3, 5), ta.ones(3, 7)
    with watched(watch):
        ((x @ y).sum() + (x @ z).sum() + (x @ y).sum()).backward()
    calls = {key: entry.calls for key, entry in watch.entries.items() if key.name == "matmul"}
    assert calls == {
        Key("matmul", FORWARD, "2×3 · 3×5"): 2,
        Key("matmul", FORWARD, "2×3 · 3×7"): 1,
        Key("matmul", BACKWARD, "2×3 · 3×5"): 2,
        Key("matmul", BACKWARD, "2×3 · 3×7"): 1,
    }


@pytest.mark.slow
def test_peak():
    assert 1e8 < matmul_peak() < 1e14


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def quick_peak(monkeypatch):
    """The machine's peak, without the second that it takes to measure."""
    monkeypatch.setattr(tinygrad_attn_models.speed.profile, "matmul_peak", lambda: 1e11)


TINY = ["data.train_size=65", "data.valid_size=8", "data.test_size=8", "model.hidden_size=8", "model.embedding_size=4"]


def test_json_of_a_workload(quick_peak, capsys):
    assert main(["profile", "tiny-bahdanau", "--steps", "2", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["name"] == "tiny-bahdanau" and found["steps"] == 2
    assert sum(row["ms"] for row in found["rows"]) == pytest.approx(found["step_ms"])
    assert sum(row["share"] for row in found["rows"]) == pytest.approx(1.0)
    assert all(row["ms"] >= 0 for row in found["rows"])
    rows = {(row["name"], row["phase"]): row for row in found["rows"]}
    for key in (("attention_gru", FORWARD), ("attention_gru", BACKWARD), (UPDATE, ""), (ELSE, ""), (SUMS, BACKWARD)):
        assert key in rows
    linear = rows["linear", FORWARD]
    assert linear["gflops"] / found["peak_gflops"] == pytest.approx(linear["peak_share"])
    assert rows[UPDATE, ""]["gflops"] is None
    assert captured.err.startswith("tiny-bahdanau: 2 steps to warm up")


def test_table_of_a_config_and_nothing_written(quick_peak, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["profile", "dates", "--steps", "1", "--shapes", "--set", *TINY]) == 0
    output = capsys.readouterr().out
    assert output.startswith("dates: a training step, the mean of 1\n")
    header = next(line for line in output.splitlines() if line.startswith("op "))
    assert header.split() == ["op", "phase", "operands", "calls", "ms", "share", "GFLOP/s", "of", "peak"]
    for word in (UPDATE, ELSE, SUMS, "total", "100.0 %", "×8", "Peak memory"):
        assert word in output
    assert list(tmp_path.iterdir()) == []


def test_each_step_of_a_config_takes_the_next_batch(monkeypatch):
    step = find_step("dates", [*TINY, "training.batch_size=64"])
    seen = []
    monkeypatch.setattr(
        "tinygrad_attn_models.training.trainer.Trainer.step", lambda self, batch: (seen.append(len(batch)), 0, 0)
    )
    for _ in range(5):
        step()
    assert sorted(seen[:2]) == sorted(seen[2:4]) == [1, 64]  # it goes on into the next epoch


def test_a_users_own_text_and_file(quick_peak, capsys, tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        (folder / f"{split}.a").write_text("x y\nz\n", encoding="utf-8")
        (folder / f"{split}.b").write_text("u\nv w\n", encoding="utf-8")
    config = tmp_path / "own.toml"
    config.write_text('[model]\nname = "luong"\nhidden_size = 6\nembedding_size = 4\n', encoding="utf-8")
    data = ["--data", str(folder), "--source", "a", "--target", "b"]
    assert main(["profile", str(config), *data, "--steps", "1", "--json"]) == 0
    assert "lstm" in {row["name"] for row in json.loads(capsys.readouterr().out)["rows"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["luong-smal"], "there is no workload or config 'luong-smal'; did you mean luong-small?"),
        (["copy-luong-dott"], "there is no workload or config 'copy-luong-dott'; did you mean copy-luong-dot?"),
        (["zzz"], "there is no workload or config 'zzz'; there are bahdanau-small, "),
        (["missing.toml"], "missing.toml cannot be read"),
        (["luong-small", "--set", "model.hidden_size=3"], "luong-small is a workload on random text; leave out"),
        (["dates", "--source", "ko"], "give --data too"),
        (["dates", "--set", "model.hiden_size=3"], "did you mean model.hidden_size?"),
        (["dates", "--steps", "0"], "a whole number of at least 1, got '0'"),
        (["dates", "--set", *TINY, "training.warmup=100000"], "lower it, or raise training.epochs"),
    ],
)
def test_mistakes(capsys, arguments, words):
    refused(capsys, ["profile", *arguments], words)
