"""plan of what does not fit into memory: exact where it can be, near where it is estimated; nothing large is made."""

import json

import pytest
from small_models import CASES, TEXT
from tinygrad_attn_models import memory
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.speed import beyond, plan_text
from tinygrad_attn_models.speed.beyond import plan_beyond
from tinygrad_attn_models.speed.plan import PlanOptions, make_plan
from tinygrad_attn_models.speed.subject import ConfigSubject, new_run

SMALL = {"data.train_size": 24, "data.valid_size": 2, "data.test_size": 2, "training.batch_size": 8,
         "decoding.max_length": 6, "training.epochs": 2}  # fmt: skip
COPY = {"data.kind": "copy", "data.shortest": 2, "data.longest": 4, "data.longest_test": 4}
SETTINGS = [f"{key}={value}" for key, value in {**SMALL, **COPY}.items()]
QUICK = PlanOptions(seconds=0.0)
# Wide enough that their matrices are what takes time.
WIDE = {
    "bahdanau": {"model.embedding_size": 16, "model.hidden_size": 24},
    "transformer": {"model.d_model": 24, "model.heads": 4, "model.d_ff": 48, "model.encoder_layers": 2,
                    "model.decoder_layers": 2},
    "gpt": {"model.d_model": 24, "model.heads": 4, "model.layers": 3, "data.epoch_windows": 8},
}  # fmt: skip


@pytest.fixture(autouse=True)
def little_is_timed(monkeypatch):
    monkeypatch.setattr(beyond, "_TIMED", 5000)


def run_of(name):
    pairs = {**COPY, **{f"model.{key}": value for key, value in CASES.get(name, {}).items()}}
    settings = TEXT if name == "gpt" else pairs
    return new_run(load_config(None, {**SMALL, **settings, **WIDE[name]}))


@pytest.fixture
def little_memory(monkeypatch):
    """A machine that holds models of some thousand parameters."""
    for module in (memory, beyond):
        monkeypatch.setattr(module, "machine_memory", lambda: 100_000)
    monkeypatch.setattr(plan_text, "machine_memory", lambda: 100_000)


@pytest.mark.parametrize("name", WIDE)
def test_the_operations_are_near_those_of_the_model(name):
    run = run_of(name)
    batch = next(ConfigSubject(name, run).groups(0))[0]
    small = beyond._smaller(run)
    real = beyond._count(run, batch) / beyond._count(small, batch)
    assert real > 3.0 and beyond._operations(run, small, batch) == pytest.approx(real, rel=0.15)


@pytest.mark.slow
def test_what_can_be_exact_is():
    run = run_of("bahdanau")
    real = make_plan(ConfigSubject("bahdanau", run), QUICK)
    found = plan_beyond("bahdanau", run, PlanOptions(ranks=[2], gigabits=[1.0], seconds=0.0))
    assert (found.parameters, found.parts) == (real.parameters, real.parts)
    for part in ("weights", "gradients", "moments"):
        assert getattr(found.memory, part) == getattr(real.memory, part)
    assert found.steps == real.steps and found.typical == real.typical and found.largest == real.largest
    assert found.forward == pytest.approx(real.forward, rel=0.05)
    assert found.backward == pytest.approx(real.backward, rel=0.05)
    assert 0.3 * real.memory.activations < found.memory.activations < 3.0 * real.memory.activations
    assert found.beyond.measured_parameters <= 5000
    assert len(found.same_batch) == len(found.larger_batch) == 1


@pytest.mark.slow
def test_a_batch_that_is_too_large_is_divided(little_memory):
    run = run_of("gpt")
    found = plan_beyond("gpt", run, QUICK)
    assert "training.batch_size=" in found.beyond.measured_on
    assert found.typical.rows == 4 and found.steps == 2


@pytest.mark.slow
def test_the_command_says_that_it_does_not_fit_and_what_would(capsys):
    arguments = ["plan", "copy-transformer", "--seconds", "0", "--set", *SETTINGS, "training.warmup=0"]
    assert main([*arguments, "model.d_model=16384", "model.d_ff=65536", "model.encoder_layers=9", "model.heads=4"]) == 0
    said = capsys.readouterr().out
    for words in ("This does not fit into the", "training.recompute=true", "on 64 machines", "about activations",
                  "Estimated, if there were the memory", "None of these fits: every process holds"):  # fmt: skip
        assert words in said, said


def test_a_size_that_nothing_holds_as_json(capsys):
    arguments = ["plan", "dates", "--seconds", "0", "--json", "--ranks", "2", "--set", *SETTINGS]
    assert main([*arguments, "model.hidden_size=1000000000"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] > 1e18 and found["memory"]["weights"] == 4 * found["parameters"]
    assert [way["fits"] for way in found["beyond"]["ways"]] == [False] * 2
